//! Lending messages: lease, acknowledge, give back, extend, and the tick that ends leases.
//!
//! Invariant: an acknowledgement is durable before `done` says so, also when it is repeated. Where
//! dead letters go is left to whoever gets them from `tick` and `give_back`.

use std::time::Instant;

use crate::broker::{Broker, Inner};
use crate::dropping::drop_aged;
use crate::error::{Error, StoreError};
use crate::leases::LeaseId;
use crate::queues::{Done, no_such_queue};
use crate::record;
use crate::steps::{Op, Pending};
use crate::takes::{Stored, places, read};

/// Messages given out on a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// To acknowledge or give them back by.
    pub lease: LeaseId,
    /// The messages, oldest first.
    pub messages: Vec<LeasedMessage>,
}

/// A message given out on a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedMessage {
    /// The message.
    pub message: Stored,
    /// How many times it has been given out on a lease since the broker was opened; 1 at first.
    pub deliveries: u32,
}

/// A message whose deliveries are used up. It is held by `lease` for a minute, to be published
/// elsewhere and then acknowledged; if it is not, it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// To acknowledge it by.
    pub lease: LeaseId,
    /// The pattern of the queue.
    pub pattern: Vec<u8>,
    /// The name of the queue.
    pub name: String,
    /// Where it is to be published.
    pub topic: Vec<u8>,
    /// How many times it was given out.
    pub deliveries: u32,
    /// The message.
    pub message: Stored,
}

/// What a tick found.
#[derive(Debug, Default)]
pub struct Ticked {
    /// Messages whose deliveries are used up.
    pub dead_letters: Vec<DeadLetter>,
    /// When the next lease ends.
    pub next: Option<Instant>,
}

impl Broker {
    /// Gives out up to `max` of the oldest durable messages until `until`; `None` when none waits.
    /// Damaged messages are left out and counted.
    ///
    /// # Errors
    /// `NoSuchQueue`; `Store` when the disk cannot be read, with nothing given out.
    pub fn lease(
        &self,
        pattern: &[u8],
        name: &str,
        max: usize,
        until: Instant,
    ) -> Result<Option<Leased>, Error> {
        loop {
            let (queue, lease, seqs) = {
                let mut state = self.inner.core.lock();
                let id = state.queue_id(pattern, name);
                let id = id.ok_or_else(|| no_such_queue(pattern, name))?;
                match state.lease(id, max, until) {
                    Some((lease, seqs)) => (id, lease, seqs),
                    None => return Ok(None),
                }
            };
            let read = read(&self.inner, &places(&self.inner, &seqs));
            let mut state = self.inner.core.lock();
            for seq in &read.damaged {
                state.discard_damaged(*seq, &[queue]);
            }
            if let Some((unreadable, reason)) = read.unreadable {
                state.end_part(queue, lease, unreadable);
                if read.messages.is_empty() {
                    return Err(StoreError::Unreadable(reason).into());
                }
            }
            if read.messages.is_empty() {
                // All were damaged; more may wait behind them.
                state.leases.remove(lease);
                continue;
            }
            let deliver = |message: Stored| LeasedMessage {
                deliveries: state.count_delivery(queue, message.seq),
                message,
            };
            let messages = read.messages.into_iter().map(deliver).collect();
            return Ok(Some(Leased { lease, messages }));
        }
    }

    /// Acknowledges the messages of a lease, or those of them in `only`: they are given away for
    /// good. `done` is called once that is durable. To repeat it does no harm for a while.
    ///
    /// # Errors
    /// `NoSuchQueue`, `NoSuchLease`, `Store`; nothing changed.
    pub fn acknowledge(
        &self,
        pattern: &[u8],
        name: &str,
        lease: LeaseId,
        only: Option<&[u64]>,
        done: Done,
    ) -> Result<(), Error> {
        let Inner { core, log } = &*self.inner;
        let mut guard = core.lock();
        let state = &mut *guard;
        let id = state.queue_id(pattern, name);
        let id = id.ok_or_else(|| no_such_queue(pattern, name))?;
        let Some(held) = state.leases.get(lease).filter(|l| l.queue == id) else {
            let done = match state.join_acknowledgement(lease, done) {
                Ok(()) => return Ok(()),
                Err(done) => done.ok_or(Error::NoSuchLease)?,
            };
            let seq = state.durable_seq;
            drop(guard);
            self.inner.answer(done, seq);
            return Ok(());
        };
        let wanted = |seq: &u64| only.is_none_or(|only| only.contains(seq));
        let seqs: Vec<u64> = held.seqs.iter().copied().filter(wanted).collect();
        let Some(&through) = seqs.last() else {
            return Err(Error::NoSuchLease);
        };
        record::settle(&mut state.scratch, id, &seqs);
        let lsn = log
            .append_urgent(&[&state.scratch])
            .map_err(StoreError::from)?;
        let seqs = state.pick(id, &seqs);
        let ended = state
            .leases
            .acknowledged(lease, &seqs, lsn)
            .then_some(lease);
        let op = Op::Settle {
            queue: id,
            seqs,
            through,
            lease: ended,
            dones: vec![done],
        };
        state.pending.push_back(Pending { lsn, op });
        Ok(())
    }

    /// Gives the messages of a lease back, unacknowledged. Those whose deliveries are used up are
    /// returned instead.
    ///
    /// # Errors
    /// `NoSuchQueue`, `NoSuchLease`.
    pub fn give_back(
        &self,
        pattern: &[u8],
        name: &str,
        lease: LeaseId,
        now: Instant,
    ) -> Result<Vec<DeadLetter>, Error> {
        let mut calls = Vec::new();
        let dead = {
            let mut state = self.inner.core.lock();
            state.check_lease(pattern, name, lease)?;
            state.end_lease(lease, now, &mut calls)
        };
        for call in calls {
            call.run();
        }
        Ok(self.dead_letters(dead))
    }

    /// Lets a lease last until `until`.
    ///
    /// # Errors
    /// `NoSuchQueue`, `NoSuchLease`.
    pub fn extend(
        &self,
        pattern: &[u8],
        name: &str,
        lease: LeaseId,
        until: Instant,
    ) -> Result<(), Error> {
        let mut state = self.inner.core.lock();
        state.check_lease(pattern, name, lease)?;
        state.leases.extend(lease, until);
        Ok(())
    }

    /// Ends the leases that are over at `now`, and drops messages that are too old at the clock's
    /// time. To be called at `Ticked::next` or a little later, and about every second.
    pub fn tick(&self, now: Instant) -> Ticked {
        let (mut calls, mut dead) = (Vec::new(), Vec::new());
        let next = {
            let mut guard = self.inner.core.lock();
            let state = &mut *guard;
            while let Some((until, lease)) = state.leases.first()
                && until <= now
            {
                dead.extend(state.end_lease(lease, now, &mut calls));
            }
            drop_aged(&self.inner, state);
            state.leases.first().map(|(until, _)| until)
        };
        for call in calls {
            call.run();
        }
        Ticked {
            dead_letters: self.dead_letters(dead),
            next,
        }
    }

    /// When the next lease ends.
    #[must_use]
    pub fn next_lease_end(&self) -> Option<Instant> {
        let state = self.inner.core.lock();
        state.leases.first().map(|(until, _)| until)
    }

    /// Reads dead letters. One that cannot be read is left to its lease and comes again.
    fn dead_letters(&self, dead: Vec<(LeaseId, u32, u64)>) -> Vec<DeadLetter> {
        let letter = |(lease, queue, seq)| {
            let read = read(&self.inner, &places(&self.inner, &[seq]));
            let mut state = self.inner.core.lock();
            for damaged in read.damaged {
                state.discard_damaged(damaged, &[queue]);
            }
            let queue = state.queue(queue)?;
            let topic = queue.options.as_ref()?.dead_letter.as_ref()?.to_vec();
            let deliveries = queue.active()?.deliveries.get(&seq).copied().unwrap_or(0);
            Some(DeadLetter {
                lease,
                pattern: queue.pattern.to_vec(),
                name: queue.name.to_string(),
                topic,
                deliveries,
                message: read.messages.into_iter().next()?,
            })
        };
        dead.into_iter().filter_map(letter).collect()
    }
}
