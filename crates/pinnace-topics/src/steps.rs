//! Records that are not durable yet: what becomes of them, and how they are undone.
//!
//! Invariant: records become durable in the order of `pending`; those the log refuses are undone
//! last one first, so that the state is again what it was before the first of them. Callbacks are
//! collected and run by the caller once the lock is gone.

use std::sync::Arc;

use pinnace_log::{Lsn, Position};

use crate::error::StoreError;
use crate::leases::LeaseId;
use crate::queue::{Queue, QueueOptions};
use crate::queues::{Done, Wake};
use crate::routing::Routes;
use crate::state::State;
use crate::takes::{Receipt, Stored, TakeDone, Taken};

/// A record that is not durable yet.
pub(crate) struct Pending {
    pub(crate) lsn: Lsn,
    pub(crate) op: Op,
}

/// What the record does, and what undoes it.
pub(crate) enum Op {
    Publish {
        seq: u64,
        queues: Arc<[u32]>,
        /// Under which its identity is remembered.
        identity: Option<Arc<[u8]>>,
        dones: Dones,
    },
    Create {
        queue: u32,
        held: Vec<u64>,
        dones: Vec<Done>,
    },
    /// With the options from before.
    Change {
        queue: u32,
        before: Option<Box<QueueOptions>>,
        done: Done,
    },
    Restate {
        queue: u32,
    },
    Delete {
        queue: u32,
        removed: Box<Queue>,
        done: Option<Done>,
    },
    Take(Box<Take>),
    Settle {
        queue: u32,
        seqs: Vec<u64>,
        /// What `done` is told.
        through: u64,
        lease: Option<LeaseId>,
        dones: Vec<Done>,
    },
    Copy {
        seq: u64,
    },
    ReclaimStep,
}

/// Messages between their removal from the queue and the taker.
pub(crate) struct Take {
    pub(crate) messages: Vec<Stored>,
    pub(crate) receipt: Receipt,
    pub(crate) done: TakeDone,
}

/// Those who wait for one publish: mostly one, more when it was repeated.
#[derive(Default)]
pub(crate) struct Dones {
    pub(crate) first: Option<Done>,
    pub(crate) others: Vec<Done>,
}

impl Dones {
    fn tell(self, outcome: &Result<u64, StoreError>, calls: &mut Vec<Call>) {
        let all = self.first.into_iter().chain(self.others);
        calls.extend(all.map(|done| Call::Done(done, outcome.clone())));
    }
}

/// A callback with its argument, to be run without a lock.
pub(crate) enum Call {
    Done(Done, Result<u64, StoreError>),
    Taken(TakeDone, Result<Taken, StoreError>),
    Wake(Wake),
}

impl Call {
    pub(crate) fn run(self) {
        match self {
            Call::Done(done, outcome) => done(outcome),
            Call::Taken(done, outcome) => done(outcome),
            Call::Wake(wake) => wake(),
        }
    }
}

impl State {
    /// The record at the front of `pending` is durable at `position`.
    pub(crate) fn commit(&mut self, position: Position, calls: &mut Vec<Call>) {
        if position.segment != self.index.active_segment {
            self.index.active_segment = position.segment;
            self.index.reclaim_due = true;
        }
        let Some(Pending { op, lsn }) = self.pending.pop_front() else {
            return;
        };
        self.commit_op(op, position, calls);
        while self.settling.front().is_some_and(|(last, _)| *last <= lsn) {
            let settled = self.settling.pop_front();
            calls.extend(settled.map(|(_, done)| Call::Done(done, Ok(self.durable_seq))));
        }
    }

    fn commit_op(&mut self, op: Op, position: Position, calls: &mut Vec<Call>) {
        match op {
            Op::Publish {
                seq, queues, dones, ..
            } => {
                self.durable_seq = seq;
                self.index.place(seq, position);
                for id in queues.iter() {
                    self.wake(*id, calls);
                }
                dones.tell(&Ok(seq), calls);
            }
            Op::Create { queue, dones, .. } => {
                self.define(queue, position);
                self.wake(queue, calls);
                let seq = self.durable_seq;
                calls.extend(dones.into_iter().map(|done| Call::Done(done, Ok(seq))));
            }
            Op::Change { queue, done, .. } => {
                self.define(queue, position);
                calls.push(Call::Done(done, Ok(self.durable_seq)));
            }
            Op::Restate { queue } => self.define(queue, position),
            Op::Delete {
                mut removed, done, ..
            } => {
                let waiting: Vec<u64> = removed.waiting().collect();
                self.index.unpin(&waiting);
                release_wakes(&mut removed, calls);
                calls.extend(done.map(|done| Call::Done(done, Ok(self.durable_seq))));
            }
            Op::Take(take) => {
                let Take {
                    messages,
                    receipt,
                    done,
                } = *take;
                calls.push(Call::Taken(done, Ok(Taken { messages, receipt })));
            }
            Op::Settle {
                seqs,
                through,
                dones,
                ..
            } => {
                self.index.unpin(&seqs);
                calls.extend(dones.into_iter().map(|done| Call::Done(done, Ok(through))));
            }
            Op::Copy { seq } => self.index.place(seq, position),
            Op::ReclaimStep => self.reclaim.stepping = false,
        }
    }

    /// Undoes every pending record from `first` on, last one first.
    pub(crate) fn refuse(
        &mut self,
        first: Lsn,
        error: &StoreError,
        routes: &Routes,
        calls: &mut Vec<Call>,
    ) {
        let from = calls.len();
        while self
            .pending
            .back()
            .is_some_and(|pending| pending.lsn >= first)
        {
            let Some(Pending { op, .. }) = self.pending.pop_back() else {
                break;
            };
            self.undo(op, error, routes, calls);
        }
        // Told in the order in which they were asked.
        calls[from..].reverse();
        // Those who wait for the last record that stands have been told when it was committed.
        let seq = self.durable_seq;
        let settled = self.settling.drain(..);
        calls.extend(settled.map(|(_, done)| Call::Done(done, Ok(seq))));
    }

    fn undo(&mut self, op: Op, error: &StoreError, routes: &Routes, calls: &mut Vec<Call>) {
        let refused = |done| Call::Done(done, Err(error.clone()));
        match op {
            Op::Publish {
                seq,
                queues,
                identity,
                dones,
            } => {
                self.next_seq = seq;
                if let Some(key) = identity {
                    self.identities.forget(&key);
                }
                self.unpublish(seq, &queues);
                let from = calls.len();
                dones.tell(&Err(error.clone()), calls);
                calls[from..].reverse();
            }
            Op::Create { queue, held, dones } => {
                if let Some(mut removed) = self.remove_queue(queue) {
                    routes.remove_queue(&removed.pattern, queue);
                    release_wakes(&mut removed, calls);
                    self.index.unpin(&held);
                }
                self.next_queue = queue;
                calls.extend(dones.into_iter().rev().map(refused));
            }
            Op::Change {
                queue,
                before,
                done,
            } => {
                self.set_options(queue, before);
                calls.push(refused(done));
            }
            Op::Delete {
                queue,
                removed,
                done,
            } => {
                routes.add_queue(&removed.pattern, queue);
                self.restore_queue(queue, *removed);
                self.wake(queue, calls);
                calls.extend(done.map(refused));
            }
            Op::Take(take) => {
                let Take { receipt, done, .. } = *take;
                let (queue, seqs) = receipt.void();
                self.put_back(queue, &seqs);
                self.wake(queue, calls);
                calls.push(Call::Taken(done, Err(error.clone())));
            }
            Op::Settle {
                queue,
                seqs,
                lease,
                dones,
                ..
            } => {
                self.leases.forget_ended(lease);
                self.put_back(queue, &seqs);
                self.wake(queue, calls);
                calls.extend(dones.into_iter().rev().map(refused));
            }
            Op::ReclaimStep => (self.reclaim.upto, self.reclaim.stepping) = (None, false),
            Op::Restate { .. } | Op::Copy { .. } => {}
        }
    }

    fn unpublish(&mut self, seq: u64, queues: &[u32]) {
        for id in queues {
            self.pick(*id, &[seq]);
        }
        self.index.remove(seq);
    }

    /// The log has failed: everybody who waits for anything is told.
    pub(crate) fn fail(&mut self, error: &StoreError, calls: &mut Vec<Call>) {
        let refused = |done| Call::Done(done, Err(error.clone()));
        for Pending { op, .. } in self.pending.drain(..) {
            match op {
                Op::Publish { dones, .. } => dones.tell(&Err(error.clone()), calls),
                Op::Create { dones, .. } | Op::Settle { dones, .. } => {
                    calls.extend(dones.into_iter().map(refused));
                }
                Op::Change { done, .. } => calls.push(refused(done)),
                Op::Delete {
                    mut removed, done, ..
                } => {
                    release_wakes(&mut removed, calls);
                    calls.extend(done.map(refused));
                }
                Op::Take(take) => {
                    let Take { receipt, done, .. } = *take;
                    receipt.void();
                    calls.push(Call::Taken(done, Err(error.clone())));
                }
                Op::Restate { .. } | Op::Copy { .. } | Op::ReclaimStep => {}
            }
        }
        for queue in self.queues.values_mut() {
            release_wakes(queue, calls);
        }
        calls.extend(self.settling.drain(..).map(|(_, done)| refused(done)));
    }
}

fn release_wakes(queue: &mut Queue, calls: &mut Vec<Call>) {
    if queue.active().is_some() {
        let wakes = &mut queue.active_mut().wakes;
        calls.extend(wakes.drain(..).map(|(_, wake)| Call::Wake(wake)));
        queue.rest();
    }
}
