//! Every file says what it holds before it begins.

use super::{File, Finding};

/// A Rust file opens with a `//!` head.
pub(super) fn check(file: &File) -> Option<Finding> {
    let headed = file.text.starts_with("//! ");
    (!headed).then(|| {
        Finding::new(
            &file.path,
            1,
            "the file has no head; open it with `//!` lines: what it holds, the invariant it keeps, \
             what it leaves to others",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_first_thing_in_a_file() {
        for (text, wrong) in [
            ("//! Holds this.\n", false),
            ("use std::fmt;\n", true),
            ("\n//! Late.\n", true),
            ("// Not a head.\n", true),
            ("//!\n", true),
            ("", true),
        ] {
            assert_eq!(check(&File::of("a.rs", text)).is_some(), wrong, "{text:?}");
        }
    }
}
