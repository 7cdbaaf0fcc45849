//! Names that become tokens of topics and segments of paths: runs, clients, queues, shares.
//!
//! A name is 1 to 64 of the letters, digits, `_` and `-`, and does not begin with `-` or `_`
//! (reserved for the server's own). It therefore needs no escaping in a topic, a path or a file.

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has at most {NAME_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// Begins with `-` or `_`.
    #[error("a name cannot begin with `{0}`; such names are reserved")]
    Reserved(char),
    /// Holds a character that a topic cannot.
    #[error("a name is made of letters, digits, `-` and `_`; `{0}` is none of them")]
    BadCharacter(char),
}

/// Checks a name and hands it back.
pub fn check(name: &str) -> Result<&str, NameError> {
    match name.chars().next() {
        None => return Err(NameError::Empty),
        Some(first @ ('-' | '_')) => return Err(NameError::Reserved(first)),
        Some(_) => {}
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    {
        Some(bad) => Err(NameError::BadCharacter(bad)),
        None => Ok(name),
    }
}

/// The nearest name to any text (a host name, say): other characters become `-`.
pub fn from_text(text: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        })
        .take(NAME_BYTES_MAX)
        .collect();
    let trimmed = mapped.trim_matches(['-', '_']);
    if trimmed.is_empty() {
        "client".to_owned()
    } else {
        trimmed.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_their_limits() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(check(&longest), Ok(longest.as_str()));
        assert_eq!(check(&format!("{longest}a")), Err(NameError::TooLong(65)));
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check("-x"), Err(NameError::Reserved('-')));
        assert_eq!(check("a.b"), Err(NameError::BadCharacter('.')));
        assert_eq!(check("rack3-node_7"), Ok("rack3-node_7"));
    }

    #[test]
    fn any_text_becomes_a_name() {
        for text in ["lab.example.org", "--", "", "ü host", "x"] {
            assert_eq!(
                check(&from_text(text)),
                Ok(from_text(text).as_str()),
                "{text}"
            );
        }
    }
}
