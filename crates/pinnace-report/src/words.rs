//! Figures and names as words, the same in every renderer, and the headline of a run.
//!
//! Invariant: a figure that does not exist is a dash, and text that came from outside leaves here
//! without control characters, so that it can neither move a terminal's cursor nor break a page.

use std::time::Duration;

use jiff::Timestamp;
use pinnace_proto::event::{LostReason, StopReason};
use pinnace_proto::run::{ClientState, RunState};
use pinnace_proto::units::{show_duration, show_rate, show_size};

use crate::limits::NAMES_IN_SENTENCE;
use crate::summary::{ClientSummary, PromiseOutcome, Summary};

/// What stands where a figure does not exist.
pub(crate) const NONE: &str = "–";

/// A duration in nanoseconds, or a dash.
pub(crate) fn ns(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or(NONE.to_owned(), |ns| {
        show_duration(Duration::from_nanos(ns))
    })
}

/// A duration in microseconds.
pub(crate) fn us(microseconds: u64) -> String {
    if microseconds == 0 {
        return "0 s".to_owned();
    }
    let text = show_duration(Duration::from_micros(microseconds));
    // `10 min 0 s` says nothing that `10 min` does not.
    let round = [(" min 0 s", " min"), (" h 0 min", " h")];
    let shorter = round
        .iter()
        .find_map(|(long, short)| Some(text.strip_suffix(long)?.to_owned() + short));
    shorter.unwrap_or(text)
}

/// A duration in microseconds, or a dash.
pub(crate) fn us_or_none(microseconds: Option<u64>) -> String {
    microseconds.map_or(NONE.to_owned(), us)
}

/// A rate, or a dash.
pub(crate) fn bytes_per_second(rate: Option<f64>) -> String {
    rate.map_or(NONE.to_owned(), show_rate)
}

/// A size, or a dash.
pub(crate) fn size(bytes: Option<u64>) -> String {
    bytes.map_or(NONE.to_owned(), show_size)
}

/// A share of 1 in percent, or a dash. Only a whole is written 100 %, and only nothing 0 %.
pub(crate) fn percent(share: Option<f64>) -> String {
    let Some(share) = share.filter(|share| share.is_finite()) else {
        return NONE.to_owned();
    };
    let percent = share * 100.0;
    let rounded = if percent < 100.0 && percent > 99.9 {
        99.9
    } else if percent > 0.0 && percent < 0.1 {
        0.1
    } else {
        percent
    };
    let text = format!("{rounded:.1}");
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// A count with thin gaps between thousands: `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// `1 client`, `3 clients`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

/// A moment, as UTC.
pub(crate) fn wall_clock(us_since_1970: Option<u64>) -> String {
    us_since_1970
        .filter(|us| *us > 0)
        .and_then(|us| i64::try_from(us).ok())
        .and_then(|us| Timestamp::from_microsecond(us).ok())
        .map_or(NONE.to_owned(), |at| {
            at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
        })
}

/// Text from outside, without control characters and direction marks.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if c.is_control() => '\u{fffd}',
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// Prose in which a number and its unit stay on one line.
pub(crate) fn keep_units(text: &str) -> String {
    const UNITS: [&str; 10] = ["B", "KiB", "MiB", "GiB", "TiB", "%", "s", "ms", "min", "h"];
    let mut kept = String::with_capacity(text.len());
    for word in text.split(' ') {
        let bare = word.trim_end_matches([',', '.', ';', ':', ')']);
        let unit = bare.strip_suffix("/s").unwrap_or(bare);
        let after_number = kept.ends_with(|c: char| c.is_ascii_digit());
        if after_number && (UNITS.contains(&unit) || unit == "µs") {
            kept.push('\u{a0}');
        } else if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(word);
    }
    kept
}

/// Names in a sentence: `a`, `a and b`, `a, b, c and 7 more`.
pub(crate) fn names<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(NAMES_IN_SENTENCE)
        .map(|name| clean(name.as_ref()))
        .collect();
    let more = names.len().saturating_sub(shown.len());
    match (shown.split_last(), more) {
        (None, _) => String::new(),
        (Some(_), 1..) => format!("{} and {} more", shown.join(", "), count(more as u64)),
        (Some((only, [])), 0) => only.clone(),
        (Some((last, rest)), 0) => format!("{} and {last}", rest.join(", ")),
    }
}

/// `Client a`, `Clients a and b`.
pub(crate) fn client_names<S: AsRef<str>>(all: &[S]) -> String {
    let noun = if all.len() == 1 { "Client" } else { "Clients" };
    format!("{noun} {}", names(all))
}

/// A client's state with its reason, short: `completed`, `lost at 12.4 s`, `disk full`.
pub(crate) fn state_of(client: &ClientSummary) -> String {
    match (client.state, client.stop_reason, &client.lost) {
        (ClientState::Lost, _, Some(lost)) => format!("lost at {}", us(lost.at_us)),
        (ClientState::Lost, _, None) => "lost".to_owned(),
        (ClientState::Running, _, _) => "running".to_owned(),
        (ClientState::Stopped, Some(reason), _) => stop_reason(reason).to_owned(),
        (ClientState::Stopped, None, _) => "stopped".to_owned(),
    }
}

/// A stop reason in words.
pub(crate) fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Completed => "completed",
        StopReason::Interrupted => "interrupted",
        StopReason::DiskFull => "disk full",
        StopReason::Failed => "failed",
    }
}

/// Why a client counts as lost, as the end of a sentence.
pub(crate) fn lost_reason(reason: Option<LostReason>) -> &'static str {
    match reason {
        Some(LostReason::Heartbeats) => "its heartbeats stopped coming",
        Some(LostReason::Connection) => "its connection closed without a last word",
        None => "the record does not say why",
    }
}

/// Whether the promised rollovers happened, in words.
pub(crate) fn promise(summary: &Summary) -> String {
    let promise = &summary.promise;
    let happened = promise.happened_min.unwrap_or(0);
    let times = match promise.rollovers_promised {
        2 => "twice".to_owned(),
        times => format!("{times} times"),
    };
    match promise.outcome {
        PromiseOutcome::Held => format!(
            "every worker rolled over at least {times} (fewest: {})",
            count(happened)
        ),
        PromiseOutcome::Missed => format!(
            "not every worker rolled over {times} (fewest: {})",
            count(happened)
        ),
        PromiseOutcome::Open => format!(
            "not every worker has rolled over {times} yet (fewest: {})",
            count(happened)
        ),
        PromiseOutcome::Unknown => "nothing to judge the rollovers by".to_owned(),
    }
}

/// What a run is called: its name, or its id when it has none.
pub(crate) fn title(summary: &Summary) -> String {
    let name = summary.run.name.trim();
    clean(if name.is_empty() {
        &summary.run.id
    } else {
        name
    })
}

/// The outcome of a run in one or two sentences.
pub(crate) fn headline(summary: &Summary) -> String {
    let clients = summary.clients.len() as u64;
    if clients == 0 {
        return "No client has reported yet.".to_owned();
    }
    let totals = &summary.totals;
    let verb = match summary.run.state {
        RunState::Running => "have written",
        RunState::Complete | RunState::Partial => "wrote",
    };
    let verb = if clients == 1 {
        verb.replace("have", "has")
    } else {
        verb.to_owned()
    };
    let mut text = format!(
        "{} {verb} {} in {}, {} on average.",
        counted(clients, "client"),
        show_size(totals.bytes),
        us(totals.duration_us),
        bytes_per_second(totals.bytes_per_second),
    );
    text.push_str(&outcome(summary));
    text
}

fn outcome(summary: &Summary) -> String {
    let lost: Vec<&ClientSummary> = summary
        .clients
        .iter()
        .filter(|client| client.state == ClientState::Lost)
        .collect();
    let covered = percent(summary.coverage.share);
    let early = summary
        .clients
        .iter()
        .filter(|client| {
            client
                .stop_reason
                .is_some_and(|r| r != StopReason::Completed)
        })
        .count() as u64;
    match (summary.run.state, lost.as_slice()) {
        (RunState::Running, _) => format!(" The run goes on; {covered} of the plan is reported."),
        (_, [one]) => format!(
            " Client {} was lost after {}: the figures cover {covered} of the plan.",
            clean(&one.client),
            us(one.end_us - one.start_us),
        ),
        (_, [_, _, ..]) => format!(
            " {} were lost: the figures cover {covered} of the plan.",
            counted(lost.len() as u64, "client"),
        ),
        (_, []) if early > 0 => format!(
            " {} ended early: the figures cover {covered} of the plan.",
            counted(early, "client"),
        ),
        (_, []) => {
            let promise = promise(summary);
            let mut letters = promise.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            format!(" {}{}.", first.unwrap_or_default(), letters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_but_never_to_a_whole_or_to_nothing() {
        for (share, expected) in [
            (Some(0.0), "0 %"),
            (Some(0.000_1), "0.1 %"),
            (Some(0.832), "83.2 %"),
            (Some(0.999_99), "99.9 %"),
            (Some(1.0), "100 %"),
            (Some(f64::NAN), NONE),
            (None, NONE),
        ] {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn names_are_listed_up_to_a_few() {
        assert_eq!(names::<&str>(&[]), "");
        assert_eq!(names(&["a"]), "a");
        assert_eq!(names(&["a", "b", "c"]), "a, b and c");
        assert_eq!(
            names(&["a", "b", "c", "d", "e", "f"]),
            "a, b, c, d and 2 more"
        );
    }

    #[test]
    fn a_number_is_not_parted_from_its_unit() {
        assert_eq!(
            keep_units("wrote 18 GiB in 26.2 s, 701 MiB/s of 3 s-disks"),
            "wrote 18\u{a0}GiB in 26.2\u{a0}s, 701\u{a0}MiB/s of 3 s-disks"
        );
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        assert_eq!(clean("a\x1b[2Jb\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}c d");
    }

    #[test]
    fn counts_and_moments_read_well() {
        assert_eq!(count(1_234_567), "1\u{a0}234\u{a0}567");
        assert_eq!(count(999), "999");
        for (microseconds, expected) in [
            (0, "0 s"),
            (12_400_000, "12.4 s"),
            (600_000_000, "10 min"),
            (630_000_000, "10 min 30 s"),
            (7_200_000_000, "2 h"),
        ] {
            assert_eq!(us(microseconds), expected);
        }
        assert_eq!(wall_clock(Some(0)), NONE);
        assert_eq!(wall_clock(Some(u64::MAX)), NONE);
        assert_eq!(
            wall_clock(Some(1_700_000_000_000_000)),
            "2023-11-14 22:13:20 UTC"
        );
    }
}
