//! How the payload of a message is shown to people.
//!
//! Invariant: nothing a stranger sent moves the cursor or colours the screen: control characters are
//! replaced, whatever they are hidden in.

use serde_json::Value;

const KEY: &str = "36";
const TEXT: &str = "32";
const OTHER: &str = "33";

/// Who it is shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A program, or a file: as it came.
    Program,
    /// Somebody at a terminal, with or without colour: JSON is set out.
    Person {
        /// Colour may be used.
        color: bool,
    },
}

/// The payload as text.
pub(crate) fn shown(payload: &[u8], reader: Reader) -> String {
    let text = String::from_utf8_lossy(payload);
    if let Reader::Person { color } = reader
        && let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(&text)
    {
        let mut out = String::new();
        write(&mut out, &value, 0, color);
        return out;
    }
    clean(&text)
}

/// Text without control characters, save line ends and tabs.
pub(crate) fn clean(text: &str) -> String {
    let replace = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(replace).collect()
}

fn write(out: &mut String, value: &Value, depth: usize, color: bool) {
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (number, (key, value)) in fields.iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                indent(out, depth + 1);
                paint(out, &Value::from(key.as_str()), KEY, color);
                out.push_str(": ");
                write(out, value, depth + 1, color);
            }
            indent(out, depth);
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number > 0 { "," } else { "" });
                indent(out, depth + 1);
                write(out, item, depth + 1, color);
            }
            indent(out, depth);
            out.push(']');
        }
        Value::String(_) => paint(out, value, TEXT, color),
        _ => paint(out, value, OTHER, color),
    }
}

fn paint(out: &mut String, value: &Value, code: &str, color: bool) {
    // JSON leaves some control characters as they are.
    let text = clean(&value.to_string());
    if color {
        *out += &format!("\x1b[{code}m{text}\x1b[0m");
    } else {
        *out += &text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Reader = Reader::Person { color: false };

    #[test]
    fn json_is_set_out_for_people_and_left_alone_for_programs() {
        let payload = br#"{"a":[1,"x"],"e":{},"n":null}"#;
        assert_eq!(
            shown(payload, PLAIN),
            "{\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"e\": {},\n  \"n\": null\n}"
        );
        assert_eq!(
            shown(payload, Reader::Program),
            String::from_utf8_lossy(payload)
        );
        let colored = shown(br#"{"a":"b"}"#, Reader::Person { color: true });
        assert!(colored.contains("\x1b[36m\"a\"\x1b[0m: \x1b[32m\"b\"\x1b[0m"));
        for scalar in ["5", "\"x\"", "true", "no json", "{"] {
            assert_eq!(shown(scalar.as_bytes(), PLAIN), scalar);
        }
    }

    #[test]
    fn control_characters_do_not_get_through() {
        for reader in [PLAIN, Reader::Program] {
            for payload in ["\x1b[2Jx\ry\u{9b}z", "{\"a\":\"\\u001b\u{9b}\x7f\"}"] {
                let text = shown(payload.as_bytes(), reader);
                let bad = text.chars().any(|c| c.is_control() && c != '\n');
                assert!(!bad, "{text:?}");
            }
        }
    }
}
