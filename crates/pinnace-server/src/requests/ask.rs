//! A request as it was sent: its verb, the topic behind it, and the fields of its JSON document.
//!
//! Fields that become parameters are read as the HTTP door reads them, so both doors take the same and
//! refuse the same: a number is its digits, and `NAME_ms` is the duration NAME in milliseconds.

use serde_json::{Map, Value};

use super::{KNOWN, no_such_request, too_large};
use crate::http_door::Failure;
use crate::http_door::request::{Parameters, check_known};

/// Fields are taken out one by one; what is left in the end is not known.
pub(crate) struct Ask {
    verb: &'static str,
    /// What follows the verb in the subject.
    topic: Option<String>,
    fields: Map<String, Value>,
    /// Names that were asked for, to say which there are.
    known: Vec<&'static str>,
}

impl Ask {
    /// Reads a request from what follows `$PN.` in its subject, and its payload: nothing, or an object.
    pub(super) fn read(subject: &[u8], payload: &[u8]) -> Result<Self, Failure> {
        let subject = String::from_utf8_lossy(subject).into_owned();
        let verb = KNOWN.into_iter().find(|known| {
            let rest = subject.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let verb = verb.ok_or_else(|| no_such_request(&subject))?;
        let topic = subject.get(verb.len() + 1..).map(str::to_owned);
        if let Some(failure) = too_large(payload.len()) {
            return Err(failure);
        }
        let fields = if payload.trim_ascii().is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(payload).map_err(|error| {
                let detail = format!("a request is a JSON object, or empty: {error}");
                Failure::bad_request("bad-document", detail)
            })?
        };
        Ok(Self {
            verb,
            topic,
            fields,
            known: Vec::new(),
        })
    }

    pub(crate) fn verb(&self) -> &'static str {
        self.verb
    }

    /// The topic or pattern it is about: behind the verb, or in the field `topic`.
    pub(crate) fn topic(&mut self) -> Result<String, Failure> {
        let field = self.optional_text("topic")?;
        match (self.topic.take(), field) {
            (Some(behind), Some(field)) if behind != field => {
                let detail = format!("the subject names `{behind}`, the field `topic` `{field}`");
                Err(Failure::bad_request("bad-topic", detail))
            }
            (Some(topic), _) | (None, Some(topic)) => Ok(topic),
            (None, None) => Err(missing("topic")),
        }
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<String, Failure> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    pub(super) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<u64, Failure> {
        let value = self.take(name).ok_or_else(|| missing(name))?;
        value
            .as_u64()
            .ok_or_else(|| wrong(name, "a number", &value))
    }

    /// Numbers in a list, if there is one.
    pub(super) fn numbers(&mut self, name: &'static str) -> Result<Option<Vec<u64>>, Failure> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let numbers = value.as_array().and_then(|all| {
            let numbers = all.iter().map(Value::as_u64);
            numbers.collect::<Option<Vec<u64>>>()
        });
        numbers
            .map(Some)
            .ok_or_else(|| wrong(name, "a list of numbers", &value))
    }

    /// A yes or no; no when it is not there.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Failure> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(yes)) => Ok(yes),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// What is left, as parameters; each has to be one of `known`.
    pub(crate) fn parameters(mut self, known: &[&'static str]) -> Result<Parameters, Failure> {
        let mut parameters = Parameters::new();
        for (field, value) in std::mem::take(&mut self.fields) {
            let (name, unit) = match field.strip_suffix("_ms") {
                Some(name) => (name.to_owned(), "ms"),
                None => (field, ""),
            };
            if !known.contains(&name.as_str()) {
                check_known(&name, &[&self.known, known].concat())?;
            }
            let text = match value {
                Value::Null => continue,
                Value::Number(number) => format!("{number}{unit}"),
                Value::String(text) if unit.is_empty() => text,
                other => {
                    let expected = if unit.is_empty() {
                        "a text or a number"
                    } else {
                        "a number of milliseconds"
                    };
                    return Err(wrong(&name, expected, &other));
                }
            };
            if parameters.iter().any(|(seen, _)| *seen == name) {
                let detail = format!("`{name}` is given twice");
                return Err(Failure::bad_request("bad-parameter", detail));
            }
            parameters.push((name, text));
        }
        self.done()?;
        Ok(parameters)
    }

    /// Refuses what nobody asked for.
    pub(super) fn done(&self) -> Result<(), Failure> {
        if let Some(topic) = &self.topic {
            let verb = self.verb;
            let detail = format!("`$PN.{verb}` is about no topic, so not about `{topic}`");
            return Err(Failure::bad_request("bad-topic", detail));
        }
        match self.fields.keys().next() {
            None => Ok(()),
            Some(field) => check_known(field, &self.known),
        }
    }
}

fn missing(name: &str) -> Failure {
    Failure::bad_request("bad-parameter", format!("the field `{name}` is missing"))
}

fn wrong(name: &str, expected: &str, value: &Value) -> Failure {
    let detail = format!("the field `{name}` is {expected}, not `{value}`");
    Failure::bad_request("bad-parameter", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(subject: &str, payload: &str) -> Result<Ask, Failure> {
        Ask::read(subject.as_bytes(), payload.as_bytes())
    }

    #[test]
    fn verbs_are_told_from_topics() {
        for (subject, verb, topic) in [
            ("topics", "topics", None),
            ("create.a.b", "create", Some("a.b")),
            ("queue.next.a", "queue.next", Some("a")),
            ("queue.next", "queue.next", None),
        ] {
            let mut ask = ask(subject, "").unwrap();
            assert_eq!(ask.verb(), verb);
            assert_eq!(ask.topic().ok().as_deref(), topic, "{subject}");
        }
        for subject in [
            "topic",
            "topicsx",
            "",
            "queue",
            "queue.nex",
            "queue.nextx.a",
        ] {
            let failure = ask(subject, "").err().unwrap();
            assert_eq!(failure.code(), "no-such-request", "{subject}");
        }
    }

    #[test]
    fn fields_become_what_the_other_door_takes() {
        let payload = r#"{"name":"x","max":5,"wait_ms":1500,"age":"1h","gone":null}"#;
        let mut ask = ask("queue.next.a", payload).unwrap();
        assert_eq!(ask.topic().unwrap(), "a");
        assert_eq!(ask.text("name").unwrap(), "x");
        let mut parameters = ask.parameters(&["max", "wait", "age", "gone"]).unwrap();
        parameters.sort();
        let pairs = [("age", "1h"), ("max", "5"), ("wait", "1500ms")];
        let pairs = pairs.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(parameters, pairs);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (subject, payload, code, part) in [
            ("queue.next", "[1]", "bad-document", "object"),
            ("queue.next", "{", "bad-document", "object"),
            ("queue.next", "{}", "bad-parameter", "`topic`"),
            ("queue.next.a", r#"{"topic":"b"}"#, "bad-topic", "`b`"),
            ("queue.next.a", r#"{"name":1}"#, "bad-parameter", "`name`"),
            (
                "queue.next.a",
                r#"{"name":"x","maxx":1}"#,
                "unknown-parameter",
                "`maxx`",
            ),
            (
                "queue.next.a",
                r#"{"name":"x","max":true}"#,
                "bad-parameter",
                "`true`",
            ),
            (
                "queue.next.a",
                r#"{"name":"x","max_ms":"1"}"#,
                "bad-parameter",
                "milliseconds",
            ),
        ] {
            let read = ask(subject, payload).and_then(|mut ask| {
                ask.topic()?;
                ask.text("name")?;
                ask.parameters(&["max"])
            });
            let failure = read.err().unwrap();
            assert_eq!(failure.code(), code, "{payload}");
            assert!(failure.detail().contains(part), "{failure}");
        }
    }
}
