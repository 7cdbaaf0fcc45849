//! The reference server's configuration files, as far as scripts and suites use them, and what they mean
//! in Pinnace's words.
//!
//! Invariant: a key that has no meaning here is refused by name, so no test runs against a server
//! that was not configured as it asked. The grammar: `key: value`, `key = value`, `key value`, blocks in
//! braces, lists in brackets, comments from `#` or `//`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// A configuration file that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conf(Map<String, Value>);

impl Conf {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut words = words(text)?.into_iter().peekable();
        let block = block(&mut words, true)?;
        Ok(Self(block))
    }

    /// The port it asks for, if any; -1 is any free one.
    pub(crate) fn port(&self) -> Option<i64> {
        let listen = self.0.get("listen").map(text);
        let listen = listen.and_then(|at| at.rsplit_once(':').and_then(|(_, p)| p.parse().ok()));
        listen.or_else(|| self.0.get("port").and_then(|port| text(port).parse().ok()))
    }

    /// The same settings as Pinnace's configuration file; JSON is YAML.
    pub(crate) fn pinnace(&self) -> Result<String> {
        let mut limits = Map::new();
        let mut auth = Map::new();
        for (key, value) in &self.0 {
            match key.as_str() {
                // Where to listen and where to log is said by flags.
                "port" | "host" | "net" | "listen" | "debug" | "trace" => {}
                "max_payload" | "max_control_line" => {
                    limits.insert(key.clone(), Value::from(size(&text(value))?));
                }
                "max_connections" | "ping_interval" => {
                    limits.insert(key.clone(), Value::from(text(value)));
                }
                "max_subscriptions" | "max_subs" => {
                    limits.insert("max_subscriptions".to_owned(), Value::from(text(value)));
                }
                "ping_max" => {
                    limits.insert("pings_unanswered_max".to_owned(), Value::from(text(value)));
                }
                "lame_duck_duration" | "lame_duck_grace_period" => {}
                "no_auth_user" => {
                    auth.insert("no_auth_user".to_owned(), value.clone());
                }
                "authorization" => authorization(value, &mut auth, &mut limits)?,
                other => bail!("`{other}` has no meaning in Pinnace"),
            }
        }
        let mut server = Map::new();
        if !limits.is_empty() {
            server.insert("nats_limits".to_owned(), Value::Object(limits));
        }
        if !auth.is_empty() {
            server.insert("auth".to_owned(), Value::Object(auth));
        }
        Ok(json!({ "server": server }).to_string())
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A number with one of the reference's endings, in bytes: `K` is 1000 there, `KB` and `KiB` are 1024.
fn size(text: &str) -> Result<String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .trim()
        .parse()
        .with_context(|| format!("the size {text}"))?;
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "kb" | "ki" | "kib" => 1 << 10,
        "m" => 1_000_000,
        "mb" | "mi" | "mib" => 1 << 20,
        other => bail!("a size in `{other}` has no meaning in Pinnace"),
    };
    Ok((number * factor).to_string())
}

fn authorization(
    value: &Value,
    auth: &mut Map<String, Value>,
    limits: &mut Map<String, Value>,
) -> Result<()> {
    let block = value.as_object().context("authorization is a block")?;
    let mut single = Map::new();
    for (key, value) in block {
        match key.as_str() {
            "token" => {
                auth.insert("token".to_owned(), value.clone());
            }
            "user" | "username" => {
                single.insert("user".to_owned(), value.clone());
            }
            "pass" | "password" => {
                single.insert("password".to_owned(), value.clone());
            }
            "timeout" => {
                limits.insert("auth_timeout".to_owned(), Value::from(text(value)));
            }
            "users" => {
                let users = value.as_array().context("users is a list")?;
                let users = users.iter().map(user).collect::<Result<Vec<_>>>()?;
                auth.insert("users".to_owned(), Value::Array(users));
            }
            "default_permissions" => {
                auth.insert("default_permissions".to_owned(), permissions(value)?);
            }
            other => bail!("authorization.{other} has no meaning in Pinnace"),
        }
    }
    if !single.is_empty() {
        auth.insert("users".to_owned(), json!([single]));
    }
    Ok(())
}

fn user(value: &Value) -> Result<Value> {
    let mut user = Map::new();
    for (key, value) in value.as_object().context("a user is a block")? {
        let (key, value) = match key.as_str() {
            "user" | "username" => ("user", value.clone()),
            "pass" | "password" => ("password", value.clone()),
            "nkey" => ("nkey", value.clone()),
            "permissions" | "permission" => ("permissions", permissions(value)?),
            other => bail!("`{other}` of a user has no meaning in Pinnace"),
        };
        user.insert(key.to_owned(), value);
    }
    Ok(Value::Object(user))
}

/// `publish` and `subscribe` are a subject, a list, or a block of `allow` and `deny`.
fn permissions(value: &Value) -> Result<Value> {
    let mut permissions = Map::new();
    for (key, value) in value.as_object().context("permissions is a block")? {
        let key = match key.as_str() {
            "publish" | "pub" => "publish",
            "subscribe" | "sub" => "subscribe",
            other => bail!("permissions.{other} has no meaning in Pinnace"),
        };
        let list = |value: &Value| match value {
            Value::Array(_) => value.clone(),
            one => json!([one]),
        };
        let rules = match value {
            Value::Object(rules) => rules
                .iter()
                .map(|(key, value)| (key.clone(), list(value)))
                .collect(),
            one => Map::from_iter([("allow".to_owned(), list(one))]),
        };
        permissions.insert(key.to_owned(), Value::Object(rules));
    }
    Ok(Value::Object(permissions))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Text(String),
    /// One of `{ } [ ] : = ,` or a line end.
    Sign(char),
}

fn words(text: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            if first == '#' || rest.starts_with("//") {
                break;
            }
            let used = match first {
                '{' | '}' | '[' | ']' | ':' | '=' | ',' => {
                    words.push(Word::Sign(first));
                    1
                }
                '"' | '\'' => {
                    let end = rest[1..].find(first).context("a quote is not closed")?;
                    words.push(Word::Text(rest[1..=end].to_owned()));
                    end + 2
                }
                _ => {
                    let is_end = |c: char| c.is_whitespace() || "{}[]=,".contains(c);
                    let mut end = rest.find(is_end).unwrap_or(rest.len());
                    // A colon ends a key; inside an address it does not.
                    if let Some(colon) = rest[..end].find(':') {
                        let is_key = rest[colon + 1..].starts_with([' ', '{', '[', '"', '\''])
                            || colon + 1 == rest.len()
                            || !matches!(words.last(), Some(Word::Sign(':' | '=')));
                        end = if is_key { colon } else { end };
                    }
                    words.push(Word::Text(rest[..end].to_owned()));
                    end
                }
            };
            rest = rest[used..].trim_start();
        }
        words.push(Word::Sign('\n'));
    }
    Ok(words)
}

type Words = std::iter::Peekable<std::vec::IntoIter<Word>>;

fn block(words: &mut Words, outermost: bool) -> Result<Map<String, Value>> {
    let mut block = Map::new();
    loop {
        match words.next() {
            None if outermost => return Ok(block),
            Some(Word::Sign('}')) if !outermost => return Ok(block),
            Some(Word::Sign('\n' | ',')) => {}
            Some(Word::Text(key)) => {
                while matches!(words.peek(), Some(Word::Sign(':' | '='))) {
                    words.next();
                }
                block.insert(key, value(words)?);
            }
            other => bail!("{other:?} is out of place"),
        }
    }
}

fn value(words: &mut Words) -> Result<Value> {
    match words.next() {
        Some(Word::Text(text)) => Ok(Value::from(text)),
        Some(Word::Sign('{')) => Ok(Value::Object(block(words, false)?)),
        Some(Word::Sign('[')) => {
            let mut list = Vec::new();
            loop {
                match words.peek() {
                    Some(Word::Sign(']')) => {
                        words.next();
                        return Ok(Value::Array(list));
                    }
                    Some(Word::Sign('\n' | ',')) => drop(words.next()),
                    _ => list.push(value(words)?),
                }
            }
        }
        other => bail!("{other:?} is no value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_mean_the_same_in_our_words() {
        for (text, ours) in [
            ("", json!({"server": {}})),
            (
                "listen: 127.0.0.1:4222\nmax_payload = 1024 # small\nping_max 3",
                json!({"server": {"nats_limits": {"max_payload": "1024", "pings_unanswered_max": "3"}}}),
            ),
            (
                "max_payload: 128KB",
                json!({"server": {"nats_limits": {"max_payload": "131072"}}}),
            ),
            (
                "authorization { token: \"s3cr:et\" }\n",
                json!({"server": {"auth": {"token": "s3cr:et"}}}),
            ),
            (
                "authorization: {user: a, password: b, timeout: 1}",
                json!({"server": {"nats_limits": {"auth_timeout": "1"}, "auth": {"users": [{"user": "a", "password": "b"}]}}}),
            ),
            (
                "authorization {\n users = [\n  {nkey: UA, permissions: {publish: \"a.>\", subscribe: {deny: [b, c]}}}\n ]\n}",
                json!({"server": {"auth": {"users": [{"nkey": "UA",
                    "permissions": {"publish": {"allow": ["a.>"]}, "subscribe": {"deny": ["b", "c"]}}}]}}}),
            ),
        ] {
            let conf = Conf::parse(text).unwrap();
            let found: Value = serde_json::from_str(&conf.pinnace().unwrap()).unwrap();
            assert_eq!(found, ours, "{text}");
        }
        assert_eq!(
            Conf::parse("listen: 127.0.0.1:-1").unwrap().port(),
            Some(-1)
        );
        assert_eq!(Conf::parse("port: 4222").unwrap().port(), Some(4222));
    }

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        for (text, word) in [
            ("jetstream {}", "jetstream"),
            ("authorization { oauth: 1 }", "authorization.oauth"),
            ("authorization { users: [{jwt: x}] }", "`jwt`"),
        ] {
            let error = Conf::parse(text).unwrap().pinnace().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(Conf::parse("a: {").is_err());
        assert!(Conf::parse("a: \"b").is_err());
    }
}
