//! The clients: publishers that try again or do not, fetchers, workers with leases, listeners. Each does one
//! thing whenever it wakes up, and believes only what it is told.

use std::collections::VecDeque;

use pinnace_topics::LeaseId;

use super::checker::MessageId;
use super::dice::Dice;
use super::wire::{Answer, ConnectionId, Request};

pub(super) enum Role {
    /// Sends messages, several before the first is acknowledged.
    Publisher {
        publisher: u32,
        sent: u32,
        /// Sends again, with identities, what was not acknowledged before a connection was lost.
        tries_again: bool,
        unanswered: VecDeque<(MessageId, &'static str)>,
    },
    /// Takes for good.
    Fetcher { queue: usize },
    /// Takes on leases, which it acknowledges, gives back or forgets.
    Worker {
        queue: usize,
        holds: Option<(LeaseId, Vec<u64>)>,
        /// An acknowledgement that was not answered, to be repeated.
        unanswered: Option<(LeaseId, Vec<u64>)>,
    },
    /// Listens live to everything.
    Listener { listens: bool },
}

pub(super) struct Client {
    pub(super) role: Role,
    pub(super) connection: Option<ConnectionId>,
    /// Since when it waits for an answer.
    pub(super) asked_at_us: Option<u64>,
}

/// Messages that a publisher sends ahead.
const AHEAD_MAX: usize = 3;
/// Messages of one publisher.
const MESSAGES_MAX: u32 = 18;
const TOPICS: [&str; 3] = ["t.a", "t.b", "u"];

impl Client {
    pub(super) fn new(role: Role) -> Client {
        Client {
            role,
            connection: None,
            asked_at_us: None,
        }
    }

    /// What a publisher has sent and may send again.
    pub(super) fn may_repeat(&self) -> impl Iterator<Item = MessageId> + '_ {
        let unanswered = match &self.role {
            Role::Publisher {
                tries_again: true,
                unanswered,
                ..
            } => Some(unanswered),
            _ => None,
        };
        unanswered.into_iter().flatten().map(|(id, _)| *id)
    }

    /// A new connection: what it sends first.
    pub(super) fn connected(&mut self) -> Vec<Request> {
        match &mut self.role {
            Role::Publisher { unanswered, .. } => {
                let again = unanswered.iter();
                let again = again.map(|&(id, on)| Request::Publish {
                    id,
                    on,
                    identified: true,
                });
                again.collect()
            }
            Role::Listener { listens } => {
                *listens = true;
                vec![Request::Subscribe]
            }
            Role::Fetcher { .. } | Role::Worker { .. } => Vec::new(),
        }
    }

    /// The connection is lost. A publisher that does not try again becomes the publisher `next`.
    pub(super) fn disconnected(&mut self, next: u32) {
        (self.connection, self.asked_at_us) = (None, None);
        match &mut self.role {
            Role::Publisher {
                publisher,
                sent,
                tries_again: false,
                unanswered,
            } => {
                (*publisher, *sent) = (next, 0);
                unanswered.clear();
            }
            Role::Listener { listens } => *listens = false,
            _ => {}
        }
    }

    /// What it asks for next, if anything.
    pub(super) fn next(&mut self, dice: &mut Dice) -> Option<Request> {
        let waits = self.asked_at_us.is_some();
        match &mut self.role {
            Role::Publisher {
                publisher,
                sent,
                tries_again,
                unanswered,
            } => {
                if unanswered.len() >= AHEAD_MAX || *sent >= MESSAGES_MAX {
                    return None;
                }
                *sent += 1;
                let (publisher, number) = (*publisher, *sent);
                let id = MessageId { publisher, number };
                let on = TOPICS[dice.below(3) as usize];
                unanswered.push_back((id, on));
                Some(Request::Publish {
                    id,
                    on,
                    identified: *tries_again,
                })
            }
            _ if waits => None,
            Role::Fetcher { queue } => Some(Request::Fetch {
                queue: *queue,
                max: 1 + dice.below(3) as usize,
            }),
            Role::Worker {
                queue,
                holds,
                unanswered,
            } => {
                let queue = *queue;
                if let Some((lease, seqs)) = unanswered.clone() {
                    return Some(Request::Acknowledge { queue, lease, seqs });
                }
                let Some((lease, seqs)) = holds.take() else {
                    let max = 1 + dice.below(3) as usize;
                    return Some(Request::Lease { queue, max });
                };
                match dice.below(6) {
                    0 => None,
                    1 => Some(Request::GiveBack { queue, lease }),
                    2 => {
                        // One now; the rest comes again by itself.
                        let seqs = vec![seqs[0]];
                        *unanswered = Some((lease, seqs.clone()));
                        Some(Request::Acknowledge { queue, lease, seqs })
                    }
                    _ => {
                        *unanswered = Some((lease, seqs.clone()));
                        Some(Request::Acknowledge { queue, lease, seqs })
                    }
                }
            }
            Role::Listener { .. } => None,
        }
    }

    /// An answer has come.
    pub(super) fn told(&mut self, answer: Answer) {
        match (&mut self.role, answer) {
            (Role::Publisher { unanswered, .. }, Answer::Published(id)) => {
                unanswered.retain(|(other, _)| *other != id);
                if !unanswered.is_empty() {
                    return;
                }
            }
            (Role::Worker { holds, .. }, Answer::Leased(lease, seqs)) => {
                *holds = Some((lease, seqs));
            }
            (Role::Worker { unanswered, .. }, Answer::Acknowledged | Answer::Nothing) => {
                *unanswered = None;
            }
            _ => {}
        }
        self.asked_at_us = None;
    }
}
