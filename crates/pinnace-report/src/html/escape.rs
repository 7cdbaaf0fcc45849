//! Text into HTML.
//!
//! Invariant: every piece of text that is not written in this crate goes through [`esc`], which
//! leaves nothing that could open a tag, close an attribute or be invalid in a document.

use crate::words::clean;

/// Text as it may stand between tags and in double-quoted attributes.
pub(crate) fn esc(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The same for text of several lines, whose line breaks stay.
pub(crate) fn esc_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(esc).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_open_a_tag_or_close_an_attribute() {
        assert_eq!(
            esc("<script>\"a\" & 'b'\0</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}&lt;/script&gt;"
        );
        assert_eq!(esc_lines("a\n<b>"), "a\n&lt;b&gt;");
    }
}
