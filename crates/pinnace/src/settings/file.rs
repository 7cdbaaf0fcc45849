//! The configuration file: YAML with known keys only.
//!
//! An unknown key is refused with its line and the nearest known key, because a misspelt setting
//! that is ignored is worse than none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, Result, nearest};

/// A value as a person wrote it: `no`, `5` and `10M` are all texts here, and what they mean is for
/// the setting to say.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Scalar(String);

impl Scalar {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    server: Server,
    client: Client,
    job: Job,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    data: Option<Scalar>,
    http: Option<Scalar>,
    nats: Option<Scalar>,
    exit_when_idle: Option<Scalar>,
    report: Option<Scalar>,
    log_file: Option<Scalar>,
    log_format: Option<Scalar>,
    message_log: MessageLog,
    ready_file: Option<Scalar>,
    expose_without_authentication: Option<Scalar>,
    nats_advertise: Option<Scalar>,
    nats_limits: NatsLimits,
    slow_consumer: SlowConsumer,
    #[serde(skip_serializing)]
    auth: AuthEntry,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct NatsLimits {
    max_payload: Option<Scalar>,
    max_control_line: Option<Scalar>,
    max_connections: Option<Scalar>,
    max_subscriptions: Option<Scalar>,
    ping_interval: Option<Scalar>,
    pings_unanswered_max: Option<Scalar>,
    auth_timeout: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct SlowConsumer {
    policy: Option<Scalar>,
    pending: Option<Scalar>,
}

/// Who may come in, as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthEntry {
    pub(crate) token: Option<Scalar>,
    pub(crate) users: Vec<UserEntry>,
    pub(crate) default_permissions: Option<PermissionsEntry>,
    pub(crate) no_auth_user: Option<Scalar>,
}

/// One user in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UserEntry {
    pub(crate) user: Option<Scalar>,
    pub(crate) password: Option<Scalar>,
    pub(crate) nkey: Option<Scalar>,
    pub(crate) permissions: Option<PermissionsEntry>,
}

/// Rules in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PermissionsEntry {
    pub(crate) publish: RulesEntry,
    pub(crate) subscribe: RulesEntry,
}

/// Patterns that are allowed and denied.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RulesEntry {
    pub(crate) allow: Option<Vec<Scalar>>,
    pub(crate) deny: Vec<Scalar>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct MessageLog {
    file: Option<Scalar>,
    patterns: Vec<Scalar>,
    payload: Option<Scalar>,
    size: Option<Scalar>,
    keep: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Client {
    server: Option<Scalar>,
    id: Option<Scalar>,
    user: Option<Scalar>,
    password: Option<Scalar>,
    token: Option<Scalar>,
    heartbeat: Option<Scalar>,
    monitor: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Job {
    name: Option<Scalar>,
    solution: Option<Scalar>,
    run_time: Option<Scalar>,
    chunk_size: Option<Scalar>,
    file_size: Option<Scalar>,
    engine: Option<Scalar>,
    direct: Option<Scalar>,
    min_free: Option<Scalar>,
    rate: Option<Scalar>,
    keep_files: Option<Scalar>,
    force: Option<Scalar>,
    #[serde(skip_serializing)]
    workers: Vec<WorkerEntry>,
}

/// One worker of a job in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WorkerEntry {
    pub(crate) path: Option<Scalar>,
    pub(crate) chunk_size: Option<Scalar>,
    pub(crate) file_size: Option<Scalar>,
}

/// A file that was read: texts by dotted key, and the workers of its job.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) workers: Vec<WorkerEntry>,
    pub(crate) auth: AuthEntry,
}

/// Reads a configuration file.
pub(crate) fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "the configuration file {} cannot be read: {error}",
            path.display()
        ))
    })?;
    parse(path, &text)
}

/// Reads the text of a configuration file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<File> {
    let document: Document = if text.trim().is_empty() {
        Document::default()
    } else {
        serde_saphyr::from_str(text).map_err(|error| explain(path, &error))?
    };
    let mut values = BTreeMap::new();
    flatten("server", &document.server, &mut values)?;
    let limits = &document.server.nats_limits;
    flatten("server.nats_limits", limits, &mut values)?;
    flatten("client", &document.client, &mut values)?;
    flatten("job", &document.job, &mut values)?;
    Ok(File {
        path: path.to_owned(),
        values,
        workers: document.job.workers,
        auth: document.server.auth,
    })
}

fn flatten<T: Serialize>(
    section: &str,
    part: &T,
    values: &mut BTreeMap<String, String>,
) -> Result<()> {
    let json = serde_json::to_value(part).map_err(Failure::failed)?;
    flatten_value(section, &json, values);
    Ok(())
}

/// Sections within a section have keys with more dots; lists are texts with commas.
fn flatten_value(key: &str, value: &Value, values: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(parts) => {
            for (name, part) in parts {
                flatten_value(&format!("{key}.{name}"), part, values);
            }
        }
        Value::String(text) => {
            values.insert(key.to_owned(), text.clone());
        }
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            values.insert(key.to_owned(), items.join(","));
        }
        _ => {}
    }
}

fn explain(path: &Path, error: &serde_saphyr::Error) -> Failure {
    let place = match error.location() {
        Some(location) => format!("{} line {}", path.display(), location.line()),
        None => path.display().to_string(),
    };
    if let serde_saphyr::Error::SerdeUnknownField {
        field, expected, ..
    } = error.without_snippet()
    {
        let failure = Failure::usage(format!("{place}: unknown key `{field}`"));
        return failure.hint(match nearest(field, expected.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known here: {}", expected.join(", ")),
        });
    }
    let message = error.without_snippet().to_string();
    Failure::usage(format!(
        "{place}: {}",
        message.lines().next().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<File> {
        parse(Path::new("pinnace.yaml"), text)
    }

    #[test]
    fn values_keep_the_text_a_person_wrote() {
        let file = check(
            "server:\n  http: 0.0.0.0:7420\n  message_log: {file: m.log, patterns: [a.*, 7]}\nclient:\n  heartbeat: 5\njob:\n  min_free: 5%\n  \
             direct: true\n  name: no\n  workers:\n    - {path: /mnt/a, chunk_size: 10M}\n",
        )
        .unwrap();
        for (key, text) in [
            ("server.http", "0.0.0.0:7420"),
            ("server.message_log.file", "m.log"),
            ("server.message_log.patterns", "a.*,7"),
            ("client.heartbeat", "5"),
            ("job.min_free", "5%"),
            ("job.direct", "true"),
            ("job.name", "no"),
        ] {
            assert_eq!(
                file.values.get(key).map(String::as_str),
                Some(text),
                "{key}"
            );
        }
        assert_eq!(file.workers.len(), 1);
        assert!(check("").unwrap().values.is_empty());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        for (text, line, key, hint) in [
            ("server:\n  htpp: x\n", "line 2", "`htpp`", "`http`"),
            (
                "job:\n  workers:\n    - path: /a\n      chunksize: 1M\n",
                "line 4",
                "`chunksize`",
                "`chunk_size`",
            ),
            ("sever: {}\n", "line 1", "`sever`", "`server`"),
            ("job:\n  zzz: 1\n", "line 2", "`zzz`", "run_time"),
        ] {
            let failure = check(text).unwrap_err();
            let whole = format!("{} {}", failure.message(), failure.advice().unwrap_or(""));
            for part in [line, key, hint] {
                assert!(whole.contains(part), "{whole}");
            }
        }
    }

    #[test]
    fn what_is_no_yaml_names_the_place() {
        for text in [
            "server: [\n",
            "server: {http: [1]}\n",
            "job:\n  name: a\n  name: b\n",
        ] {
            let failure = check(text).unwrap_err();
            assert!(
                failure.message().starts_with("pinnace.yaml line "),
                "{failure:?}"
            );
        }
    }
}
