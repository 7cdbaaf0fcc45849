//! JSON documents that cross a process boundary: any bytes are read or refused, and what was read can be
//! written and read again. The first byte chooses the document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinnace_proto::event::{Event, Finished, Presence};
use pinnace_proto::job::Job;
use pinnace_proto::run::RunRecord;
use pinnace_proto::{Histogram, api};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned + Serialize>(json: &[u8]) -> Option<T> {
    let document: T = serde_json::from_slice(json).ok()?;
    let written = serde_json::to_vec(&document).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    serde_json::to_vec(&again).expect("and again");
    Some(document)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, json)) = bytes.split_first() else {
        return;
    };
    match which {
        b'e' => {
            if let Some(event) = read::<Event>(json) {
                assert!(event.topic().ends_with(event.body.kind()));
            }
        }
        b'h' => {
            if let Some(mut histogram) = read::<Histogram>(json) {
                for quantile in [0.0, 0.5, 0.999, 1.0] {
                    assert_eq!(
                        histogram.quantile_ns(quantile).is_some(),
                        !histogram.is_empty()
                    );
                }
                histogram.mean_ns();
                let other = histogram.clone();
                histogram.merge(&other);
            }
        }
        b'f' => drop(read::<Finished>(json)),
        b'p' => drop(read::<Presence>(json)),
        b'j' => drop(read::<Job>(json)),
        b'r' => drop(read::<RunRecord>(json)),
        b'm' => drop(read::<api::MessageLine>(json)),
        b'o' => drop(read::<api::JoinRequest>(json)),
        b'q' => drop(read::<api::Query>(json)),
        b't' => drop(read::<api::Topics>(json)),
        _ => {}
    }
});
