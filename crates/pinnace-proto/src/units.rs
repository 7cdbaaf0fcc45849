//! How sizes and durations are written by people, in flags, files and reports.
//!
//! Sizes: `4k`, `10M`, `10MiB` are powers of 1024, `10MB` is a power of 1000, a bare number is
//! bytes. Durations: `500ms`, `30s`, `5m`, `1h30m`; a bare number is seconds.

use std::time::Duration;

/// Why a size or duration could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// No digits where a number should be.
    #[error("`{0}` does not begin with a number; write {1}")]
    NoNumber(String, &'static str),
    /// The letters after the number are no unit.
    #[error("`{unit}` in `{text}` is not a unit; write {hint}")]
    UnknownUnit {
        /// All that was given.
        text: String,
        /// The part that is no unit.
        unit: String,
        /// What would be right.
        hint: &'static str,
    },
    /// More than 64 bits of bytes or nanoseconds.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

const SIZE_HINT: &str = "a size such as 4k, 10M, 1G (powers of 1024) or 10MB (power of 1000)";
const DURATION_HINT: &str = "a duration such as 500ms, 30s, 5m or 1h30m";

/// Reads a size in bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let (number, unit) = split_number(text);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(unknown(text, unit, SIZE_HINT)),
    };
    scale(text, number, factor, SIZE_HINT)
}

/// Reads a duration.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let mut rest = text;
    let mut nanoseconds: u64 = 0;
    loop {
        let (number, tail) = split_number(rest);
        let unit_length = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_length);
        let factor: u64 = match unit.trim() {
            "" if rest.len() == text.len() => 1_000_000_000,
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" | "sec" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(unknown(text, unit, DURATION_HINT)),
        };
        let part = scale(text, number, factor, DURATION_HINT)?;
        nanoseconds = nanoseconds
            .checked_add(part)
            .ok_or_else(|| UnitError::TooLarge(text.to_owned()))?;
        if next.is_empty() {
            return Ok(Duration::from_nanos(nanoseconds));
        }
        rest = next;
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len()),
    )
}

fn unknown(text: &str, unit: &str, hint: &'static str) -> UnitError {
    UnitError::UnknownUnit {
        text: text.to_owned(),
        unit: unit.trim().to_owned(),
        hint,
    }
}

/// `number * factor`, exact for whole numbers, rounded down for decimals.
fn scale(text: &str, number: &str, factor: u64, hint: &'static str) -> Result<u64, UnitError> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(factor)
            .ok_or_else(|| UnitError::TooLarge(text.to_owned()));
    }
    let value: f64 = number
        .parse()
        .map_err(|_| UnitError::NoNumber(text.to_owned(), hint))?;
    let scaled = value * factor as f64;
    if scaled >= u64::MAX as f64 {
        return Err(UnitError::TooLarge(text.to_owned()));
    }
    Ok(scaled as u64)
}

/// A size for people: `10 MiB`, `1.5 GiB`, `512 B`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = if bytes == 0 {
        0
    } else {
        (bytes.ilog2() / 10).min(4)
    };
    if step == 0 {
        return format!("{bytes} B");
    }
    let value = bytes as f64 / (1u64 << (10 * step)) as f64;
    format!("{} {}", three_figures(value), UNITS[step as usize])
}

/// A rate for people, from bytes per second: `1.42 GiB/s`.
pub fn show_rate(bytes_per_second: f64) -> String {
    if !bytes_per_second.is_finite() || bytes_per_second < 0.0 {
        return "-".to_owned();
    }
    format!("{}/s", show_size(bytes_per_second as u64))
}

/// A duration for people: `831 µs`, `12.4 ms`, `25.1 s`, `1 h 30 min`.
pub fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos() as f64;
    match duration.as_secs() {
        0 if nanoseconds < 1e3 => format!("{nanoseconds} ns"),
        0 if nanoseconds < 1e6 => format!("{} µs", three_figures(nanoseconds / 1e3)),
        0 => format!("{} ms", three_figures(nanoseconds / 1e6)),
        1..120 => format!("{} s", three_figures(duration.as_secs_f64())),
        seconds if seconds < 7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Three significant figures, without trailing zeros after the point.
fn three_figures(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_unless_written_with_a_b() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("4k", 4_096),
            ("10M", 10 << 20),
            ("10MiB", 10 << 20),
            ("10MB", 10_000_000),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
            (" 64m ", 64 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "10Q", "-1", "99999999999T", "1.2.3k", "1e3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2", 2_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in ["", "s", "5x", "1h30", "-5s", "9999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_see_three_figures_and_a_unit() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(10 << 20), "10 MiB");
        assert_eq!(show_size((3 << 29) + 1), "1.5 GiB");
        assert_eq!(show_rate(1.42 * (1u64 << 30) as f64), "1.42 GiB/s");
        assert_eq!(show_duration(Duration::from_micros(831)), "831 µs");
        assert_eq!(show_duration(Duration::from_millis(25_100)), "25.1 s");
        assert_eq!(show_duration(Duration::from_secs(5_400)), "90 min 0 s");
    }
}
