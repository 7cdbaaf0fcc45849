//! Leases as the state knows them: which messages are given out, until when, how often.
//!
//! Invariant: a leased message belongs to its queue until its acknowledgement is durable; a lease
//! that ends in any other way, also with the process, lets it wait again in its place. Instants
//! are the caller's; nothing here reads a clock. Counts of deliveries start afresh when the broker
//! is opened.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use pinnace_log::Lsn;

use crate::error::Error;
use crate::limits::{DEAD_LETTER_LEASE, ENDED_LEASES_MAX};
use crate::queues::{Done, no_such_queue};
use crate::state::State;
use crate::steps::{Call, Op, Pending};
use crate::takes::bounded;

/// Names a lease. Not used again, not even after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for LeaseId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<LeaseId, Self::Err> {
        u64::from_str_radix(text, 16).map(LeaseId)
    }
}

pub(crate) struct Lease {
    pub(crate) queue: u32,
    pub(crate) seqs: Vec<u64>,
    pub(crate) until: Instant,
}

#[derive(Default)]
pub(crate) struct Leases {
    by_id: HashMap<LeaseId, Lease>,
    due: BTreeSet<(Instant, LeaseId)>,
    last: u64,
    /// Leases acknowledged lately, so that an acknowledgement may be repeated.
    ended: VecDeque<(LeaseId, Lsn)>,
}

/// Lease ids per microsecond of the clock before two openings could share one.
const LEASES_PER_US: u64 = 1 << 12;

impl Leases {
    /// Numbers start from the time of opening, so that no lease from before is taken for a new one.
    pub(crate) fn start(&mut self, opened_us: u64) {
        self.last = opened_us.wrapping_mul(LEASES_PER_US);
    }

    fn add(&mut self, queue: u32, seqs: Vec<u64>, until: Instant) -> LeaseId {
        self.last = self.last.wrapping_add(1);
        let id = LeaseId(self.last);
        self.due.insert((until, id));
        self.by_id.insert(id, Lease { queue, seqs, until });
        id
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        self.due.remove(&(lease.until, id));
        Some(lease)
    }

    /// Ends leases whose queue goes.
    pub(crate) fn end_all(&mut self, ids: impl Iterator<Item = LeaseId>) {
        for id in ids {
            self.remove(id);
        }
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Lets a lease end at another time.
    pub(crate) fn extend(&mut self, id: LeaseId, until: Instant) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            self.due.remove(&(lease.until, id));
            lease.until = until;
            self.due.insert((until, id));
        }
    }

    /// The lease that ends first.
    pub(crate) fn first(&self) -> Option<(Instant, LeaseId)> {
        self.due.first().copied()
    }

    /// Messages of a lease were acknowledged with the record `lsn`. True when it has no more.
    pub(crate) fn acknowledged(&mut self, id: LeaseId, seqs: &[u64], lsn: Lsn) -> bool {
        let Some(lease) = self.by_id.get_mut(&id) else {
            return false;
        };
        lease.seqs.retain(|seq| seqs.binary_search(seq).is_err());
        if !lease.seqs.is_empty() {
            return false;
        }
        self.remove(id);
        if self.ended.len() >= ENDED_LEASES_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((id, lsn));
        true
    }

    /// An acknowledgement was refused after all.
    pub(crate) fn forget_ended(&mut self, id: Option<LeaseId>) {
        self.ended.retain(|(ended, _)| Some(*ended) != id);
    }
}

impl State {
    /// Moves waiting messages to a new lease.
    pub(crate) fn lease(
        &mut self,
        id: u32,
        max: usize,
        until: Instant,
    ) -> Option<(LeaseId, Vec<u64>)> {
        let mut more = bounded(max, self.durable_seq);
        let mut seqs = Vec::new();
        let queue = self.queues.get_mut(u64::from(id))?;
        for seq in queue.waiting() {
            let bytes = self.index.messages.get(seq).map_or(0, |entry| entry.bytes);
            if !more(seq, u64::from(bytes), 0) {
                break;
            }
            seqs.push(seq);
        }
        if seqs.is_empty() {
            return None;
        }
        let lease = self.leases.add(id, seqs.clone(), until);
        let active = queue.active_mut();
        active.waiting.drain(..seqs.len());
        active.leased.extend(seqs.iter().map(|seq| (*seq, lease)));
        Some((lease, seqs))
    }

    pub(crate) fn check_lease(
        &self,
        pattern: &[u8],
        name: &str,
        lease: LeaseId,
    ) -> Result<(), Error> {
        let id = self.queue_id(pattern, name);
        let id = id.ok_or_else(|| no_such_queue(pattern, name))?;
        match self.leases.by_id.get(&lease) {
            Some(held) if held.queue == id => Ok(()),
            _ => Err(Error::NoSuchLease),
        }
    }

    pub(crate) fn count_delivery(&mut self, id: u32, seq: u64) -> u32 {
        let Some(queue) = self.queue_mut(id) else {
            return 1;
        };
        let count = queue.active_mut().deliveries.entry(seq).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Takes what could not be read, `first` and all behind it, out of a lease again.
    pub(crate) fn end_part(&mut self, id: u32, lease: LeaseId, first: u64) {
        let Some(held) = self.leases.by_id.get_mut(&lease) else {
            return;
        };
        let at = held.seqs.partition_point(|seq| *seq < first);
        let back = held.seqs.split_off(at);
        if held.seqs.is_empty() {
            self.leases.remove(lease);
        }
        if let Some(queue) = self.queue_mut(id) {
            let active = queue.active_mut();
            for seq in back {
                if active.leased.remove(&seq).is_some() {
                    active.put(seq);
                }
            }
        }
    }

    /// Lets the messages of a lease wait again. Those whose deliveries are used up get a lease of
    /// their own each and are returned: lease, queue, message.
    pub(crate) fn end_lease(
        &mut self,
        lease: LeaseId,
        now: Instant,
        calls: &mut Vec<Call>,
    ) -> Vec<(LeaseId, u32, u64)> {
        let mut dead = Vec::new();
        let Some(Lease {
            queue: id, seqs, ..
        }) = self.leases.remove(lease)
        else {
            return dead;
        };
        let Some(queue) = self.queues.get_mut(u64::from(id)) else {
            return dead;
        };
        let options = queue.options.as_ref();
        let deliveries_max = options
            .filter(|options| options.dead_letter.is_some())
            .and_then(|options| options.deliveries_max);
        let active = queue.active_mut();
        for seq in seqs {
            if active.leased.remove(&seq).is_none() {
                continue;
            }
            let deliveries = active.deliveries.get(&seq).copied().unwrap_or(0);
            if deliveries_max.is_some_and(|max| deliveries >= max) {
                let until = now + DEAD_LETTER_LEASE;
                let burial = self.leases.add(id, vec![seq], until);
                active.leased.insert(seq, burial);
                dead.push((burial, id, seq));
            } else {
                active.put(seq);
            }
        }
        self.wake(id, calls);
        dead
    }

    /// Lets `done` hear of an acknowledgement that was given before. It comes back with `Some` when
    /// that is durable already, and is lost with `None` when there was none.
    pub(crate) fn join_acknowledgement(
        &mut self,
        lease: LeaseId,
        done: Done,
    ) -> Result<(), Option<Done>> {
        let ended = self.leases.ended.iter().find(|(id, _)| *id == lease);
        let Some((_, lsn)) = ended else {
            return Err(None);
        };
        let at = self
            .pending
            .binary_search_by_key(lsn, |pending| pending.lsn);
        match at.ok().and_then(|at| self.pending.get_mut(at)) {
            Some(Pending {
                op: Op::Settle { dones, .. },
                ..
            }) => {
                dones.push(done);
                Ok(())
            }
            _ => Err(Some(done)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_acknowledgements_are_remembered() {
        for (count, remembered) in [
            (ENDED_LEASES_MAX - 1, true),
            (ENDED_LEASES_MAX, true),
            (ENDED_LEASES_MAX + 1, false),
        ] {
            let mut leases = Leases::default();
            let until = Instant::now();
            let mut ended = (0..count).map(|_| {
                let id = leases.add(1, vec![7], until);
                assert!(leases.acknowledged(id, &[7], 1));
                id
            });
            let first = ended.next().unwrap();
            assert_eq!(ended.count(), count - 1);
            let is_first = |(id, _): &(LeaseId, Lsn)| *id == first;
            assert_eq!(leases.ended.iter().any(is_first), remembered, "{count}");
        }
    }
}
