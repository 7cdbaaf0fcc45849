//! The command that repeats a client's part of a run.
//!
//! Invariant: what the command says is what the job says; sizes and times are written so that
//! reading them back gives the same number, and words are quoted for a POSIX shell.

use pinnace_proto::job::{Engine, Job, MinFree};

use crate::summary::ClientSummary;

/// The `pinnace bench` command for `client`; `None` when its job is not on record. With `shared`,
/// it joins the others in one new run.
pub(crate) fn command(client: &ClientSummary, shared: Option<&str>) -> Option<String> {
    let job = client.job.as_ref()?;
    let mut words = vec!["pinnace bench".to_owned()];
    let mut flag = |name: &str, value: &str| words.push(format!("--{name} {}", quote(value)));
    if let Some(run) = shared {
        flag("run", run);
        flag("id", &client.client);
    }
    if !job.name.is_empty() {
        flag("name", &job.name);
    }
    if !job.solution.is_empty() {
        flag("solution", &job.solution);
    }
    for worker in &job.workers {
        flag("path", &worker.path);
    }
    flag("chunk-size", &sizes(job, |worker| worker.chunk_bytes));
    flag("file-size", &sizes(job, |worker| worker.file_bytes));
    flag("run-time", &exact_time(job.run_time_us));
    flag("heartbeat", &exact_time(job.heartbeat_us));
    flag("monitor", &exact_time(job.monitor_us));
    let floor = match job.min_free {
        MinFree::Bytes(bytes) => exact_size(bytes),
        MinFree::Percent(percent) => format!("{percent}%"),
    };
    flag("min-free", &floor);
    if let Some(rate) = job.rate_bytes_per_second {
        flag("rate", &exact_size(rate));
    }
    if job.engine != Engine::Psync {
        flag("engine", job.engine.name());
    }
    for (name, set) in [
        ("direct", job.direct),
        ("keep-files", job.keep_files),
        ("force", job.force),
    ] {
        if set {
            words.push(format!("--{name}"));
        }
    }
    Some(words.join(" "))
}

/// One size when all workers have the same, a list otherwise.
fn sizes(job: &Job, of: fn(&pinnace_proto::job::WorkerJob) -> u64) -> String {
    let mut sizes: Vec<String> = job.workers.iter().map(|w| exact_size(of(w))).collect();
    if sizes.windows(2).all(|pair| pair[0] == pair[1]) {
        sizes.truncate(1);
    }
    sizes.join(",")
}

/// A size without loss: in the largest unit that divides it.
pub(crate) fn exact_size(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("k", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A duration without loss: in the largest unit that divides it.
pub(crate) fn exact_time(us: u64) -> String {
    for (unit, length) in [
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ] {
        if us > 0 && us.is_multiple_of(length) {
            return format!("{}{unit}", us / length);
        }
    }
    format!("{us}us")
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:%@+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use pinnace_proto::units::{parse_duration, parse_size};

    use super::*;

    #[test]
    fn sizes_and_times_read_back_as_they_were() {
        for bytes in [
            0,
            1,
            1_023,
            4_096,
            10 << 20,
            (10 << 20) + 1,
            3 << 40,
            u64::MAX,
        ] {
            assert_eq!(parse_size(&exact_size(bytes)), Ok(bytes));
        }
        for us in [0, 1, 1_500, 25_000_000, 90_000_000, 7_200_000_000] {
            let read = parse_duration(&exact_time(us)).unwrap();
            assert_eq!(read.as_micros(), u128::from(us));
        }
    }

    #[test]
    fn words_are_quoted_when_a_shell_would_touch_them() {
        for (word, expected) in [
            ("/srv/data-1", "/srv/data-1"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
        ] {
            assert_eq!(quote(word), expected);
        }
    }
}
