//! A message of the collector's queue to an event, or a line in the log why it is none.

use pinnace_proto::event::{Body, Event};
use pinnace_proto::units::{show_rate, show_size};
use pinnace_proto::{DOCUMENT_VERSION, name};
use pinnace_runs::Received;
use pinnace_topics::Stored;

/// The event in a message; `None` (and a warning) when it is none of this version.
pub(super) fn event(message: Stored) -> Option<Received> {
    let topic = String::from_utf8_lossy(&message.topic).into_owned();
    if topic.ends_with(".finished") && topic.split('.').count() == 4 {
        return None;
    }
    match parse(&topic, &message.payload) {
        Ok((event, document)) => Some(Received {
            received_us: message.published_us,
            event,
            document,
        }),
        Err(reason) => {
            tracing::warn!(topic = %topic.escape_debug(), seq = message.seq, reason, "no bench event");
            None
        }
    }
}

fn parse(topic: &str, payload: &[u8]) -> Result<(Event, String), String> {
    let document = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
    let event: Event = serde_json::from_str(document).map_err(|error| error.to_string())?;
    if event.v != DOCUMENT_VERSION {
        return Err(format!("version {} is unknown", event.v));
    }
    for text in [&event.run, &event.client, &event.instance] {
        name::check(text).map_err(|error| error.to_string())?;
    }
    if event.topic() != topic {
        return Err(format!("the event belongs on {}", event.topic()));
    }
    Ok((event, document.to_owned()))
}

/// Writes the event to the log: what a person follows at `info`, the rest at `debug`.
pub(super) fn log(event: &Event) {
    let Event {
        run,
        client,
        elapsed_us,
        body,
        ..
    } = event;
    let at_s = *elapsed_us as f64 / 1e6;
    match body {
        Body::Started(started) => {
            let workers = started.job.workers.len();
            tracing::info!(run, client, workers, "bench client started");
        }
        Body::Stopped(stopped) => {
            let bytes: u64 = stopped.workers.iter().map(|worker| worker.bytes).sum();
            let rate = bytes as f64 / (stopped.ran_us as f64 / 1e6);
            tracing::info!(
                run, client, at_s, reason = ?stopped.reason,
                written = show_size(bytes), throughput = show_rate(rate),
                "bench client stopped"
            );
        }
        Body::Lost(lost) => tracing::warn!(run, client, reason = ?lost.reason, "bench client lost"),
        Body::Error(error) => tracing::warn!(
            run,
            client,
            at_s,
            worker = error.worker,
            operation = error.operation,
            message = error.message,
            "bench client reports an error"
        ),
        Body::Rollover(rollover) => tracing::info!(
            run,
            client,
            at_s,
            worker = rollover.worker,
            number = rollover.number,
            bytes = rollover.bytes,
            file_ms = rollover.file_us / 1_000,
            "rollover"
        ),
        Body::Heartbeat(heartbeat) => {
            let answered = heartbeat
                .workers
                .iter()
                .filter(|worker| worker.answered)
                .count();
            let workers = heartbeat.workers.len();
            tracing::debug!(run, client, at_s, answered, workers, "heartbeat");
        }
        Body::Resources(resources) => {
            let cpu_share: f64 = resources
                .workers
                .iter()
                .map(|worker| worker.cpu_share)
                .sum();
            tracing::debug!(
                run,
                client,
                at_s,
                cpu_share,
                rss_bytes = resources.rss_bytes,
                "resources"
            );
        }
        Body::Sample(sample) => {
            let bytes: u64 = sample.workers.iter().map(|worker| worker.bytes).sum();
            let seconds = sample.to_us.saturating_sub(sample.from_us) as f64 / 1e6;
            let throughput = show_rate(bytes as f64 / seconds);
            tracing::debug!(run, client, at_s, bytes, throughput, "sample");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinnace_proto::event::Heartbeat;

    fn message(topic: &str, payload: &str) -> Stored {
        Stored {
            seq: 1,
            published_us: 7,
            topic: topic.into(),
            headers: Vec::new(),
            payload: payload.into(),
        }
    }

    #[test]
    fn only_events_of_this_version_on_their_own_topic_pass() {
        let good = Event {
            v: 1,
            run: "r".into(),
            client: "c".into(),
            instance: "1f".into(),
            n: 1,
            at_us: 1,
            elapsed_us: 1,
            body: Body::Heartbeat(Heartbeat {
                workers: vec![],
                disks: vec![],
                next_us: 5,
            }),
        };
        let json = serde_json::to_string(&good).unwrap();
        let received = event(message("pinnace.bench.r.c.heartbeat", &json)).unwrap();
        assert_eq!((received.event, received.received_us), (good, 7));
        for (topic, payload) in [
            ("pinnace.bench.r.other.heartbeat", json.as_str()),
            ("pinnace.bench.r.c.sample", &json),
            ("pinnace.bench.r.c.heartbeat", "{"),
            (
                "pinnace.bench.r.c.heartbeat",
                &json.replace("\"v\":1", "\"v\":2"),
            ),
            (
                "pinnace.bench.r.c.heartbeat",
                &json.replace("\"heartbeat\"", "\"dance\""),
            ),
            (
                "pinnace.bench.r.c d.heartbeat",
                &json.replace("\"c\"", "\"c d\""),
            ),
            ("pinnace.bench.r.finished", "{}"),
        ] {
            assert!(
                event(message(topic, payload)).is_none(),
                "{topic} {payload}"
            );
        }
    }
}
