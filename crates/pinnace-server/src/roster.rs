//! Who is connected, and who was: the NATS connections of this server, and of its earlier processes.
//!
//! Invariant: every entry is added once and leaves once; the history is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::api::ClientEntry;
use pinnace_proto::event::{BenchIdentity, Presence};

use crate::limits::ROSTER_HISTORY_MAX;
use crate::roster_file::RosterFile;

/// The roster; shared by the doors.
#[derive(Default)]
pub(crate) struct Roster {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    present: BTreeMap<u64, Guest>,
    past: VecDeque<ClientEntry>,
    /// Where the history is kept; nowhere in tests of the roster alone.
    file: Option<RosterFile>,
}

#[derive(Clone, Debug)]
struct Guest {
    name: String,
    address: SocketAddr,
    since_us: u64,
    /// In a box, because most have none.
    bench: Option<Box<BenchIdentity>>,
    /// The name is its alone among those who asked for one; which program of that name it is.
    named: Option<Option<String>>,
}

impl Guest {
    fn kind(&self) -> &'static str {
        if self.bench.is_some() {
            "bench"
        } else {
            "nats"
        }
    }
}

/// A client with its name.
#[derive(Debug)]
pub(crate) struct Renamed {
    pub(crate) presence: Presence,
    /// It had another before.
    pub(crate) is_new: bool,
}

impl State {
    fn note(&mut self, line: &ClientEntry) {
        let Self { file, present, .. } = self;
        let Some(file) = file else {
            return;
        };
        let others = present.iter().filter(|_| file.is_full());
        let here: Vec<_> = others.map(|(c, guest)| entry(*c, guest, 0, None)).collect();
        file.note(line, &here);
    }
}

impl Roster {
    /// With the history that is kept in the data folder.
    pub(crate) fn open(data: &Path) -> std::io::Result<Self> {
        let (file, past) = RosterFile::open(data)?;
        let state = State {
            file: Some(file),
            past,
            ..State::default()
        };
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client said who it is (again).
    pub(crate) fn arrive(
        &self,
        connection: u64,
        name: String,
        address: SocketAddr,
        now_us: u64,
    ) -> Presence {
        let mut state = self.lock();
        let guest = state.present.entry(connection).or_insert_with(|| Guest {
            name: String::new(),
            address,
            since_us: now_us,
            bench: None,
            named: None,
        });
        guest.name = name;
        let (line, presence) = (
            entry(connection, guest, 0, None),
            presence(connection, guest, None),
        );
        state.note(&line);
        presence
    }

    /// A client wants a name that nobody else has: it gets `wanted`, or `wanted-2`, `-3`, … `None` when
    /// it is not on the roster. A connection of the same `instance` is its own earlier one, whose end
    /// was not noticed yet, and does not count.
    pub(crate) fn rename(
        &self,
        connection: u64,
        wanted: &str,
        instance: Option<String>,
    ) -> Option<Renamed> {
        let mut state = self.lock();
        let is_taken = |name: &str| {
            state.present.iter().any(|(other, guest)| {
                let is_earlier_self = instance.is_some() && guest.named.as_ref() == Some(&instance);
                *other != connection && guest.name == name && !is_earlier_self
            })
        };
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
        let name = candidates.find(|name| !is_taken(name))?;
        let guest = state.present.get_mut(&connection)?;
        guest.named = Some(instance);
        let is_new = guest.name != name;
        guest.name = name;
        let (line, presence) = (
            entry(connection, guest, 0, None),
            presence(connection, guest, None),
        );
        state.note(&line);
        Some(Renamed { presence, is_new })
    }

    /// A connection takes part in a run; false when there is no such connection.
    pub(crate) fn join(&self, connection: u64, bench: BenchIdentity) -> bool {
        match self.lock().present.get_mut(&connection) {
            Some(guest) => {
                guest.bench = Some(Box::new(bench));
                true
            }
            None => false,
        }
    }

    /// A connection closed.
    pub(crate) fn leave(&self, connection: u64, reason: &str, now_us: u64) -> Option<Presence> {
        let mut state = self.lock();
        let guest = state.present.remove(&connection)?;
        let duration_us = now_us.saturating_sub(guest.since_us);
        if state.past.len() == ROSTER_HISTORY_MAX {
            state.past.pop_front();
        }
        let line = entry(connection, &guest, duration_us, Some(reason));
        state.note(&line);
        state.past.push_back(line);
        Some(presence(connection, &guest, Some((duration_us, reason))))
    }

    /// The connected, and with `history` those that left, oldest first.
    pub(crate) fn list(&self, history: bool, now_us: u64) -> Vec<ClientEntry> {
        let state = self.lock();
        let past = state.past.iter().filter(|_| history).cloned();
        let present = state.present.iter().map(|(connection, guest)| {
            entry(
                *connection,
                guest,
                now_us.saturating_sub(guest.since_us),
                None,
            )
        });
        past.chain(present).collect()
    }
}

fn entry(connection: u64, guest: &Guest, duration_us: u64, reason: Option<&str>) -> ClientEntry {
    ClientEntry {
        connection,
        name: guest.name.clone(),
        kind: guest.kind().to_owned(),
        address: guest.address.to_string(),
        since_us: guest.since_us,
        duration_us,
        reason: reason.map(str::to_owned),
    }
}

fn presence(connection: u64, guest: &Guest, left: Option<(u64, &str)>) -> Presence {
    Presence {
        v: DOCUMENT_VERSION,
        connection,
        name: guest.name.clone(),
        kind: guest.kind().to_owned(),
        address: guest.address.to_string(),
        since_us: guest.since_us,
        duration_us: left.map(|(duration_us, _)| duration_us),
        reason: left.map(|(_, reason)| reason.to_owned()),
        bench: guest.bench.as_deref().cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_come_join_and_leave_a_trace() {
        let roster = Roster::default();
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        roster.arrive(1, "a".into(), address, 100);
        roster.arrive(2, "b".into(), address, 200);
        let bench = BenchIdentity {
            run: "r".into(),
            client: "c".into(),
            instance: "i".into(),
        };
        assert!(roster.join(2, bench.clone()));
        assert!(!roster.join(3, bench.clone()));
        let left = roster.leave(2, "gone", 700).unwrap();
        assert_eq!((left.duration_us, left.bench), (Some(500), Some(bench)));
        assert!(roster.leave(2, "gone", 700).is_none());
        assert_eq!(roster.list(false, 700).len(), 1);
        let all = roster.list(true, 700);
        assert_eq!(
            (all[0].kind.as_str(), all[0].reason.as_deref()),
            ("bench", Some("gone"))
        );
        assert_eq!((all[1].kind.as_str(), all[1].duration_us), ("nats", 600));
    }

    #[test]
    fn a_name_is_given_once_and_kept_by_who_comes_back() {
        let roster = Roster::default();
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for (connection, name) in [(1, "alice"), (2, "chat"), (3, "chat"), (4, "chat")] {
            roster.arrive(connection, name.into(), address, 0);
        }
        let rename = |connection, instance: Option<&str>| {
            let renamed = roster.rename(connection, "alice", instance.map(str::to_owned));
            renamed.map(|renamed| (renamed.presence.name, renamed.is_new))
        };
        assert_eq!(rename(2, Some("x")), Some(("alice-2".into(), true)));
        assert_eq!(rename(2, Some("x")), Some(("alice-2".into(), false)));
        assert_eq!(rename(3, None), Some(("alice-3".into(), true)));
        roster.leave(1, "gone", 1);
        // The second is the fourth's earlier self.
        roster.rename(2, "alice", Some("x".into()));
        assert_eq!(rename(4, Some("x")), Some(("alice".into(), true)));
        assert_eq!(rename(3, None), Some(("alice-2".into(), true)));
        assert_eq!(rename(9, None), None);
    }

    #[test]
    fn history_is_bounded() {
        let roster = Roster::default();
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for connection in 0..ROSTER_HISTORY_MAX as u64 + 5 {
            roster.arrive(connection, "x".into(), address, 0);
            roster.leave(connection, "gone", 1);
        }
        let all = roster.list(true, 1);
        assert_eq!((all.len(), all[0].connection), (ROSTER_HISTORY_MAX, 5));
    }
}
