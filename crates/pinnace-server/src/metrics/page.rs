//! `GET /-/metrics`: every family, in one place.
//!
//! Names follow the custom of the field: units last, `_total` for what only grows, `process_` for
//! what any process has. Names of queues are labels of a bounded number of samples only.

use std::hash::{DefaultHasher, Hash, Hasher};

use pinnace_topics::{Overview, SYNC_CLASSES_US, StorageState};

use super::exposition::{Page, seconds};
use super::histogram::{CLASSES_US, Histogram};
use super::{Counter, DoorMetrics, process};
use crate::clock::now_us;
use crate::harbour::Harbour;
use crate::limits::{METRIC_LABEL_CHARS_MAX, METRIC_QUEUES_MAX};
use crate::slow::SlowPolicy;

/// The page; `paths` are the door's paths in the order in which requests were counted.
pub(crate) fn render(harbour: &Harbour, paths: &[&str]) -> String {
    let mut page = Page::default();
    about(&mut page, harbour);
    doors(&mut page, harbour);
    requests(&mut page, harbour, paths);
    let overview = harbour.broker.overview(METRIC_QUEUES_MAX);
    queues(&mut page, &overview);
    storage(&mut page, harbour, &overview);
    system(&mut page);
    page.into_text()
}

fn about(page: &mut Page, harbour: &Harbour) {
    let info = &harbour.info;
    page.gauge("pinnace_build_info", "Always 1; which program answers.")
        .sample(&[("version", &info.version)], 1_u64);
    page.gauge(
        "process_start_time_seconds",
        "When the server started, in seconds since 1970.",
    )
    .sample(&[], seconds(info.started_us));
    page.gauge(
        "pinnace_uptime_seconds",
        "For how long the server has been up.",
    )
    .sample(&[], seconds(now_us().saturating_sub(info.started_us)));
}

/// A part of what is counted at a door.
type Of<T> = fn(&DoorMetrics) -> &T;

fn doors(page: &mut Page, harbour: &Harbour) {
    let metrics = &harbour.metrics;
    let doors = [("nats", &metrics.nats), ("http", &metrics.http)];
    page.gauge("pinnace_connections", "Open connections.");
    for (name, door) in doors {
        page.sample(&[("door", name)], door.connections.get());
    }
    counters(page, &doors);
    page.counter(
        "pinnace_refused_connections_total",
        "Connections closed at once because there were too many.",
    )
    .sample(&[], metrics.refused_connections.get());
    page.gauge("pinnace_streams", "Open streams of the HTTP door.")
        .sample(&[("kind", "events")], metrics.event_streams.get())
        .sample(&[("kind", "websocket")], metrics.sockets.get());
    latencies(page, &doors);
}

fn counters(page: &mut Page, doors: &[(&str, &DoorMetrics)]) {
    let counters: [(&'static str, &str, Of<Counter>); 9] = [
        (
            "pinnace_connections_total",
            "Connections accepted.",
            |door| &door.connections_ever,
        ),
        (
            "pinnace_received_messages_total",
            "Messages published by clients.",
            |door| &door.received_messages,
        ),
        (
            "pinnace_sent_messages_total",
            "Messages handed to clients, once for each.",
            |door| &door.sent_messages,
        ),
        (
            "pinnace_received_bytes_total",
            "Bytes read from sockets.",
            |door| &door.received_bytes,
        ),
        (
            "pinnace_sent_bytes_total",
            "Bytes written to sockets.",
            |door| &door.sent_bytes,
        ),
        (
            "pinnace_refused_publishes_total",
            "Publishes that were refused: limits, storage.",
            |door| &door.refused_publishes,
        ),
        (
            "pinnace_slow_consumers_total",
            "Receivers that were ended because they did not keep up.",
            |door| &door.slow_consumers,
        ),
        (
            "pinnace_spills_total",
            "Times a queue took over for a live receiver that was behind.",
            |door| &door.spills,
        ),
        (
            "pinnace_spilled_messages_total",
            "Messages that live receivers got from such queues.",
            |door| &door.spilled_messages,
        ),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help);
        for (door, metrics) in doors {
            page.sample(&[("door", door)], counter(metrics).get());
        }
    }
    page.counter(
        "pinnace_dropped_messages_total",
        "Messages that live receivers who were behind did not get.",
    );
    for (door, metrics) in doors {
        for (policy, count) in [
            (SlowPolicy::DropOldest, &metrics.dropped_oldest),
            (SlowPolicy::NewestOnly, &metrics.dropped_for_newest),
        ] {
            page.sample(&[("door", door), ("policy", policy.name())], count.get());
        }
    }
}

fn latencies(page: &mut Page, doors: &[(&str, &DoorMetrics)]) {
    let times: [(&'static str, &str, Of<Histogram>); 2] = [
        (
            "pinnace_publish_ack_seconds",
            "From reading a publish to its acknowledgement; over NATS, of one durable publish in 16.",
            |door| &door.publish_to_ack,
        ),
        (
            "pinnace_publish_deliver_seconds",
            "From reading a publish to the end of writing it to its live receivers; over NATS, of one batch in 16.",
            |door| &door.publish_to_deliver,
        ),
    ];
    for (name, help, histogram) in times {
        page.histogram(name, help);
        for (door, metrics) in doors {
            add_times(page, &[("door", door)], histogram(metrics));
        }
    }
}

fn add_times(page: &mut Page, labels: &[(&str, &str)], histogram: &Histogram) {
    let counts = histogram.counts();
    page.times(labels, &CLASSES_US, &counts.classes, counts.total_us);
}

fn requests(page: &mut Page, harbour: &Harbour, paths: &[&str]) {
    let requests = &harbour.metrics.requests;
    page.counter("pinnace_http_requests_total", "Requests answered.");
    for (path, method, status, count) in requests.counted() {
        let labels = [
            ("path", paths.get(path).copied().unwrap_or("other")),
            ("method", method),
            ("code", &status.to_string()),
        ];
        page.sample(&labels, count);
    }
    page.histogram(
        "pinnace_http_request_seconds",
        "From the head of a request to the head of its answer, without those that asked to wait.",
    );
    for (number, path) in paths.iter().enumerate() {
        let Some(times) = requests.times(number) else {
            continue;
        };
        if times.counts().classes.iter().any(|count| *count > 0) {
            add_times(page, &[("path", path)], times);
        }
    }
}

fn queues(page: &mut Page, overview: &Overview) {
    let now_us = now_us();
    let age = |since_us: Option<u64>| seconds(now_us.saturating_sub(since_us.unwrap_or(now_us)));
    page.gauge("pinnace_queues", "Durable queues.")
        .sample(&[], overview.queues);
    page.gauge(
        "pinnace_queues_waiting_messages",
        "Messages all queues hold; one in two queues counts twice.",
    )
    .sample(&[], overview.waiting);
    page.gauge(
        "pinnace_queues_leased_messages",
        "Of these, messages out on a lease.",
    )
    .sample(&[], overview.leased);
    page.gauge("pinnace_queues_waiting_bytes", "Bytes all queues hold.")
        .sample(&[], overview.waiting_bytes);
    let deepest = overview.fullest.first().map_or(0, |queue| queue.messages);
    page.gauge(
        "pinnace_queues_waiting_messages_max",
        "Messages the fullest queue holds.",
    )
    .sample(&[], deepest);
    page.gauge(
        "pinnace_queues_oldest_seconds",
        "Age of the oldest message in any queue; 0 when there is none.",
    )
    .sample(&[], age(overview.oldest_us));
    page.counter(
        "pinnace_queues_dropped_messages_total",
        "Messages dropped for a limit of their queue.",
    )
    .sample(&[], overview.dropped);
    page.counter(
        "pinnace_queues_damaged_messages_total",
        "Messages that could not be read from disk.",
    )
    .sample(&[], overview.damaged);

    let labels = |queue: &pinnace_topics::QueueStatus| {
        let topic = shortened(&String::from_utf8_lossy(&queue.pattern));
        (topic, shortened(&queue.name))
    };
    page.gauge(
        "pinnace_queue_waiting_messages",
        "Messages a queue holds; the 50 fullest.",
    );
    for queue in &overview.fullest {
        let (topic, subscriber) = labels(queue);
        page.sample(
            &[("topic", &topic), ("subscriber", &subscriber)],
            queue.messages,
        );
    }
    page.gauge(
        "pinnace_queue_oldest_seconds",
        "Age of a queue's oldest message; the 50 fullest.",
    );
    for queue in &overview.fullest {
        let (topic, subscriber) = labels(queue);
        page.sample(
            &[("topic", &topic), ("subscriber", &subscriber)],
            age(queue.first_us),
        );
    }
}

/// A name as a label: bounded, and different names stay different.
fn shortened(name: &str) -> String {
    if name.chars().count() <= METRIC_LABEL_CHARS_MAX {
        return name.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let start: String = name.chars().take(METRIC_LABEL_CHARS_MAX - 17).collect();
    format!("{start}…{:016x}", hasher.finish())
}

fn storage(page: &mut Page, harbour: &Harbour, overview: &Overview) {
    page.gauge("pinnace_stored_messages", "Messages stored, each once.")
        .sample(&[], overview.stored_messages);
    page.gauge("pinnace_log_bytes", "Bytes the message log takes on disk.")
        .sample(&[], overview.log_bytes);
    page.gauge("pinnace_log_segments", "Segments of the message log.")
        .sample(&[], overview.log_segments);
    page.histogram(
        "pinnace_log_fsync_seconds",
        "Syncs of the message log; each makes everything written before it durable.",
    )
    .times(
        &[],
        &SYNC_CLASSES_US,
        &overview.syncs.counts,
        overview.syncs.total_us,
    );
    let state = harbour.broker.state();
    page.gauge("pinnace_storage_state", "1 for the state storage is in.");
    for (name, is) in [
        ("ok", matches!(state, StorageState::Ok)),
        ("full", matches!(state, StorageState::Full(_))),
        ("failed", matches!(state, StorageState::Failed(_))),
    ] {
        page.sample(&[("state", name)], u64::from(is));
    }
    page.gauge(
        "pinnace_storage_damages",
        "Damaged places found when the message log was opened.",
    )
    .sample(&[], harbour.damage.len() as u64);
}

fn system(page: &mut Page) {
    let figures = process::figures();
    page.counter(
        "process_cpu_seconds_total",
        "Time this process spent on CPUs, in seconds.",
    );
    if let Some(cpu_seconds) = figures.cpu_seconds {
        page.sample(&[], cpu_seconds);
    }
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory in use.",
            figures.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "Addresses in use.",
            figures.virtual_bytes,
        ),
        ("process_threads", "Threads.", figures.threads),
        (
            "process_open_fds",
            "Open file descriptors.",
            figures.open_fds,
        ),
        (
            "process_max_fds",
            "Most file descriptors there may be.",
            figures.max_fds,
        ),
    ] {
        page.gauge(name, help);
        if let Some(value) = value {
            page.sample(&[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_short_and_different() {
        let long = |end: &str| format!("{}{end}", "ä".repeat(METRIC_LABEL_CHARS_MAX));
        assert_eq!(shortened("short"), "short");
        assert_ne!(shortened(&long("1")), shortened(&long("2")));
        assert_eq!(
            shortened(&long("1")).chars().count(),
            METRIC_LABEL_CHARS_MAX
        );
    }
}
