//! What differs between any two server processes, levelled.
//!
//! Invariant: only INFO is touched, and of it only the fields listed here; the tables are all there
//! is to say about which fields a comparison does not look at.

use serde_json::{Map, Value};

/// Fields whose presence is compared and whose value is a process's own.
const OWN: &[&str] = &[
    "client_id",
    "client_ip",
    "host",
    "nonce",
    "port",
    "server_id",
    "server_name",
    "version",
];

/// Fields nobody needs to have: what built the server, its key for encryption between servers, the level of
/// an interface that is not there, the account (there is one), and our own version.
const IGNORED: &[&str] = &[
    "api_lvl",
    "git_commit",
    "go",
    "pinnace",
    "remote_account",
    "xkey",
];

/// A line of a transcript, levelled.
pub(crate) fn normal(line: &str) -> String {
    let Some(json) = line.strip_prefix("INFO ") else {
        return line.to_owned();
    };
    let Ok(Value::Object(info)) = serde_json::from_str(json) else {
        return line.to_owned();
    };
    let end = if json.ends_with("} ") { " " } else { "" };
    let kept: Map<String, Value> = info
        .into_iter()
        .filter(|(key, _)| !IGNORED.contains(&key.as_str()))
        .map(|(key, value)| match OWN.contains(&key.as_str()) {
            true => (key, Value::from("*")),
            false => (key, value),
        })
        .collect();
    format!("INFO {}{end}", Value::Object(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_keeps_what_clients_act_on() {
        for (line, expected) in [
            (
                r#"INFO {"version":"2.15.1","go":"x","proto":1,"a":[2]} "#,
                r#"INFO {"a":[2],"proto":1,"version":"*"} "#,
            ),
            (r#"INFO {"proto":1}"#, r#"INFO {"proto":1}"#),
            ("PONG", "PONG"),
        ] {
            assert_eq!(normal(line), expected);
        }
    }
}
