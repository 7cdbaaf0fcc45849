//! Text in columns of a terminal: measured, cut, padded, wrapped, and series as bars.
//!
//! Invariant: what comes back is never wider than asked for and carries no control characters.

use crate::words::clean;

/// Columns a character takes on a terminal: none for combining marks, two for East Asian wide
/// letters and pictures, one otherwise. The ranges are coarse; a wrong one costs alignment only.
fn char_columns(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns of a text without control characters.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

/// The text cut to `width` columns, with `…` where something is missing.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text = clean(text);
    if columns(&text) <= width {
        return text;
    }
    let mut cut = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += char_columns(c);
        if used > width {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// The text in exactly `width` columns, the last of them a blank.
pub(crate) fn pad_right(text: &str, width: usize) -> String {
    let text = fit(text, width.saturating_sub(1));
    let pad = width.saturating_sub(columns(&text));
    text + &" ".repeat(pad)
}

/// Words in lines of at most `width` columns; a longer word is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_ascii_whitespace() {
        let word = fit(word, width);
        let fits = lines
            .last()
            .is_some_and(|line| line.is_empty() || columns(line) + 1 + columns(&word) <= width);
        if !fits {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    lines
}

/// A series in `width` characters, each the mean of its part; a blank where nothing is known.
pub(crate) fn sparkline(values: &[Option<u64>], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if values.is_empty() || width == 0 {
        return " ".repeat(width);
    }
    let mean = |place: usize| -> Option<f64> {
        let from = place * values.len() / width;
        let to = ((place + 1) * values.len())
            .div_ceil(width)
            .clamp(from + 1, values.len());
        let known: Vec<u64> = values.get(from..to)?.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| known.iter().sum::<u64>() as f64 / known.len() as f64)
    };
    let means: Vec<Option<f64>> = (0..width).map(mean).collect();
    let most = means.iter().flatten().copied().fold(0.0, f64::max);
    means
        .into_iter()
        .map(|mean| match mean {
            None => ' ',
            Some(mean) if most > 0.0 => BARS[((mean / most * 8.0) as usize).min(7)],
            Some(_) => BARS[0],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_not_by_bytes() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 5, "日本…"),
            ("日本語", 6, "日本語"),
            ("", 1, ""),
        ] {
            assert_eq!(fit(text, width), expected);
        }
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("abcdefgh", 5), ["abcd…"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn a_sparkline_is_as_wide_as_asked_and_leaves_holes_open() {
        let values = [Some(0), Some(50), None, Some(100)];
        assert_eq!(sparkline(&values, 4), "▁▅ █");
        assert_eq!(sparkline(&values, 8).chars().count(), 8);
        assert_eq!(sparkline(&[Some(1); 100], 7), "███████");
        assert_eq!(sparkline(&[], 3), "   ");
    }
}
