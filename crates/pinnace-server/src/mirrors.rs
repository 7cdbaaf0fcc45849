//! What happens in shares, as messages on topics.
//!
//! Invariant: `synced` is published once for each state that is reached. Left to others: what happens in shares.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError, Weak};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{Changed, ClientState, Halted, Phase, Synced};
use pinnace_sync::server::Listener;

use crate::clock::now_us;
use crate::harbour::Harbour;

/// Publishes for the shares of a harbour.
#[derive(Default)]
pub(crate) struct Mirrors {
    harbour: OnceLock<Weak<Harbour>>,
    /// The last change of each share that was said to be all there is.
    synced: Mutex<BTreeMap<String, u64>>,
}

impl Mirrors {
    /// The harbour, once there is one.
    pub(crate) fn set(&self, harbour: Weak<Harbour>) {
        // It is set once, before the doors are open.
        let _ = self.harbour.set(harbour);
    }

    fn publish(&self, share: &str, event: &str, document: &impl serde::Serialize) {
        if let Some(harbour) = self.harbour.get().and_then(Weak::upgrade) {
            harbour.publish(&format!("pinnace.sync.{share}.{event}"), document);
        }
    }
}

impl Listener for Mirrors {
    fn changed(&self, share: &str, seq: u64, changes: u64, paths: &[String]) {
        let document = Changed {
            v: DOCUMENT_VERSION,
            share: share.to_owned(),
            seq,
            changes,
            paths: paths.to_vec(),
        };
        self.publish(share, "changed", &document);
    }

    fn client_is(&self, share: &str, state: &ClientState, seq: u64) {
        match state.phase {
            Phase::Live => {
                let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
                if synced.insert(share.to_owned(), seq) == Some(seq) {
                    return;
                }
                drop(synced);
                let document = Synced {
                    v: DOCUMENT_VERSION,
                    share: share.to_owned(),
                    seq,
                    entries: state.entries,
                };
                self.publish(share, "synced", &document);
            }
            Phase::Halted => {
                let document = Halted {
                    v: DOCUMENT_VERSION,
                    share: share.to_owned(),
                    reason: state.reason.clone().unwrap_or_default(),
                };
                self.publish(share, "halted", &document);
            }
            Phase::Scanning => {}
        }
    }

    fn clock(&self) -> fn() -> u64 {
        now_us
    }
}
