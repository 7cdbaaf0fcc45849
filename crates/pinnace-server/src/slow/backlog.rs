//! What waits for one live subscriber that is behind, whole messages in order.
//!
//! Invariant: what is pushed comes out once, in order, or is counted as dropped, and the latest never is;
//! a message that is in the queue which stands in for the subscription never comes out here. Left to
//! others: locks, sockets, and telling the client.

use std::collections::{BTreeMap, HashMap, VecDeque};

use pinnace_topics::{Kept, QueueId};

use super::behind::Look;
use super::{Choice, SlowPolicy};
use crate::limits::{SPILL_SLACK_BYTES, SPILLS_REMEMBERED};

/// A message that can wait.
pub(crate) trait Waiting {
    fn topic(&self) -> &[u8];
    fn bytes(&self) -> usize;
}

pub(crate) struct Backlog<T> {
    policy: SlowPolicy,
    bytes_max: usize,
    /// By order of arrival.
    waiting: BTreeMap<u64, Entry<T>>,
    arrivals: u64,
    /// Where the message of each topic is, when only the newest waits.
    newest: HashMap<Box<[u8]>, u64>,
    bytes: usize,
    /// Dropped since something last came out.
    dropped: u64,
    dropped_ever: u64,
    /// Something was dropped since it was last empty.
    is_dropping: bool,
    spill: Spill,
    /// The queues that stood in for the subscription, the latest last.
    queues: VecDeque<QueueId>,
}

struct Entry<T> {
    item: T,
    /// Where else it is, while it is not known whether the queue has it.
    kept: Option<Kept>,
}

/// Where a subscription that spills is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spill {
    /// Messages come live.
    Live,
    /// More waits than may: the queue is about to be there.
    Wanted,
    /// The queue comes to be: what arrives may be in it.
    Beginning,
    /// The queue takes what is published.
    Queue,
}

impl Spill {
    fn of(policy: SlowPolicy) -> Self {
        match policy {
            SlowPolicy::Spill => Self::Beginning,
            _ => Self::Live,
        }
    }
}

/// What became of a message that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Waits,
    /// The queue has it.
    Queued,
    /// It waits; this many others were dropped. `is_first`: since the backlog was last empty.
    Dropped {
        count: u64,
        is_first: bool,
    },
    /// It waits, and the queue is needed now.
    Overflows,
    /// More waits than can.
    TooMuch,
}

impl<T: Waiting> Backlog<T> {
    /// Of one that spills nothing comes out yet: it has to be seen what was kept earlier.
    pub(crate) fn new(choice: &Choice) -> Self {
        Self {
            policy: choice.policy,
            bytes_max: choice.pending_bytes_max,
            waiting: BTreeMap::new(),
            arrivals: 0,
            newest: HashMap::new(),
            bytes: 0,
            dropped: 0,
            dropped_ever: 0,
            is_dropping: false,
            spill: Spill::of(choice.policy),
            queues: VecDeque::new(),
        }
    }

    pub(crate) fn policy(&self) -> SlowPolicy {
        self.policy
    }

    pub(crate) fn look(&self) -> Look {
        Look {
            policy: self.policy,
            waiting_bytes: self.bytes,
            dropped: self.dropped_ever,
            is_spilling: self.spill != Spill::Live,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether nothing comes out now, whatever waits.
    pub(crate) fn is_held(&self) -> bool {
        self.spill == Spill::Beginning
    }

    /// Whether a message that arrives may go out at once.
    pub(crate) fn lets_pass(&self) -> bool {
        self.waiting.is_empty() && !self.is_held()
    }

    /// Whether a message that arrives is for the queue to give.
    pub(crate) fn has_queued(&self, kept: Option<&Kept>) -> bool {
        let mut queues = self.queues.iter();
        kept.is_some_and(|kept| queues.any(|queue| kept.is_in(*queue)))
    }

    /// Lets a message wait.
    pub(crate) fn push(&mut self, item: T, kept: Option<&Kept>) -> Pushed {
        if self.has_queued(kept) {
            return Pushed::Queued;
        }
        let replaced = self.add(item, kept);
        self.fit(replaced)
    }

    /// Adds a message; how many it replaced.
    fn add(&mut self, item: T, kept: Option<&Kept>) -> u64 {
        let mut replaced = 0;
        if self.policy == SlowPolicy::NewestOnly {
            let earlier = self.newest.insert(item.topic().into(), self.arrivals);
            replaced = u64::from(earlier.is_some_and(|earlier| self.remove(earlier).is_some()));
        }
        self.bytes += item.bytes();
        let kept = kept.filter(|_| self.is_held()).cloned();
        self.waiting.insert(self.arrivals, Entry { item, kept });
        self.arrivals += 1;
        replaced
    }

    /// Holds to the limit, after `dropped` messages were dropped already.
    fn fit(&mut self, mut dropped: u64) -> Pushed {
        let is_over = self.bytes > self.bytes_max;
        match self.policy {
            SlowPolicy::Disconnect if is_over => return Pushed::TooMuch,
            SlowPolicy::Disconnect => {}
            SlowPolicy::Spill => {
                if self.bytes > self.bytes_max.saturating_add(SPILL_SLACK_BYTES) {
                    return Pushed::TooMuch;
                }
                if is_over && self.spill == Spill::Live {
                    self.spill = Spill::Wanted;
                    return Pushed::Overflows;
                }
            }
            SlowPolicy::DropOldest | SlowPolicy::NewestOnly => {
                while self.bytes > self.bytes_max && self.waiting.len() > 1 {
                    self.pop_first();
                    dropped += 1;
                }
            }
        }
        if dropped == 0 {
            return Pushed::Waits;
        }
        self.dropped += dropped;
        self.dropped_ever += dropped;
        let is_first = !std::mem::replace(&mut self.is_dropping, true);
        let count = dropped;
        Pushed::Dropped { count, is_first }
    }

    /// The oldest message, and how many were dropped since the last one.
    pub(crate) fn pop(&mut self) -> Option<(T, u64)> {
        if self.is_held() {
            return None;
        }
        let item = self.pop_first()?;
        self.is_dropping &= !self.waiting.is_empty();
        Some((item, std::mem::take(&mut self.dropped)))
    }

    fn pop_first(&mut self) -> Option<T> {
        let first = *self.waiting.first_key_value()?.0;
        let item = self.remove(first)?;
        if self.policy == SlowPolicy::NewestOnly {
            self.newest.remove(item.topic());
        }
        Some(item)
    }

    fn remove(&mut self, arrival: u64) -> Option<T> {
        let entry = self.waiting.remove(&arrival)?;
        self.bytes -= entry.item.bytes();
        Some(entry.item)
    }

    /// Nothing more is wanted of what waits.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.newest.clear();
        self.bytes = 0;
    }

    /// Holds to another choice from now on, also for what waits already. Not while it spills.
    pub(crate) fn choose(&mut self, choice: &Choice) -> Pushed {
        let waiting = std::mem::take(&mut self.waiting);
        self.clear();
        (self.policy, self.bytes_max) = (choice.policy, choice.pending_bytes_max);
        self.spill = Spill::of(choice.policy);
        let mut replaced = 0;
        for entry in waiting.into_values() {
            replaced += self.add(entry.item, None);
        }
        self.fit(replaced)
    }

    /// The queue comes to be; nothing comes out until it is known which it is.
    pub(crate) fn begin_spill(&mut self) {
        self.spill = Spill::Beginning;
    }

    /// The queue is there. What arrived meanwhile and is in it comes from there.
    pub(crate) fn spill_to(&mut self, queue: QueueId) {
        self.spill = Spill::Queue;
        if self.queues.back() != Some(&queue) {
            self.queues.push_back(queue);
        }
        // Of those before, only messages on their way to this very subscription could still come.
        if self.queues.len() > SPILLS_REMEMBERED {
            self.queues.pop_front();
        }
        let mut bytes = 0;
        self.waiting.retain(|_, entry| {
            let is_queued = entry.kept.take().is_some_and(|kept| kept.is_in(queue));
            bytes += if is_queued { 0 } else { entry.item.bytes() };
            !is_queued
        });
        self.bytes = bytes;
    }

    /// The queue is gone; messages come live again. True when the next is needed at once.
    pub(crate) fn end_spill(&mut self) -> bool {
        self.spill = Spill::Live;
        self.fit(0) == Pushed::Overflows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of so many bytes, by topic and text.
    #[derive(Debug, PartialEq, Eq)]
    struct Item(&'static str, u32, usize);

    impl Waiting for Item {
        fn topic(&self) -> &[u8] {
            self.0.as_bytes()
        }

        fn bytes(&self) -> usize {
            self.2
        }
    }

    fn backlog(policy: SlowPolicy, pending_bytes_max: usize) -> Backlog<Item> {
        let mut backlog = Backlog::new(&Choice {
            policy,
            pending_bytes_max,
            queue: None,
        });
        assert_eq!(backlog.lets_pass(), policy != SlowPolicy::Spill);
        backlog.end_spill();
        backlog
    }

    fn dropped(count: u64, is_first: bool) -> Pushed {
        Pushed::Dropped { count, is_first }
    }

    fn numbers(backlog: &mut Backlog<Item>) -> Vec<(u32, u64)> {
        let mut popped = Vec::new();
        while let Some((Item(_, number, _), dropped)) = backlog.pop() {
            popped.push((number, dropped));
        }
        assert_eq!((backlog.bytes(), backlog.len()), (0, 0));
        popped
    }

    #[test]
    fn the_limit_is_exact() {
        for policy in SlowPolicy::ALL {
            for (bytes, is_over) in [(9, false), (10, false), (11, true)] {
                let mut backlog = backlog(policy, 10);
                assert_eq!(backlog.push(Item("a", 1, 4), None), Pushed::Waits);
                let pushed = backlog.push(Item("b", 2, bytes - 4), None);
                let expected = match policy {
                    _ if !is_over => Pushed::Waits,
                    SlowPolicy::Disconnect => Pushed::TooMuch,
                    SlowPolicy::Spill => Pushed::Overflows,
                    _ => dropped(1, true),
                };
                assert_eq!(pushed, expected, "{policy:?} with {bytes} bytes");
            }
        }
        let mut backlog = backlog(SlowPolicy::Spill, 10);
        assert_eq!(backlog.push(Item("a", 1, 11), None), Pushed::Overflows);
        assert_eq!(
            backlog.push(Item("a", 2, SPILL_SLACK_BYTES - 1), None),
            Pushed::Waits
        );
        assert_eq!(backlog.push(Item("a", 3, 1), None), Pushed::TooMuch);
    }

    #[test]
    fn the_oldest_go_and_are_counted_once() {
        let mut backlog = backlog(SlowPolicy::DropOldest, 10);
        for (number, pushed) in [
            (1, Pushed::Waits),
            (2, Pushed::Waits),
            (3, dropped(1, true)),
            (4, dropped(1, false)),
        ] {
            assert_eq!(backlog.push(Item("t", number, 5), None), pushed, "{number}");
        }
        assert_eq!(backlog.pop(), Some((Item("t", 3, 5), 2)));
        assert_eq!(backlog.push(Item("t", 5, 6), None), dropped(1, false));
        // However large it is, the latest stays.
        assert_eq!(backlog.push(Item("t", 6, 99), None), dropped(1, false));
        assert_eq!(numbers(&mut backlog), [(6, 2)]);
        assert_eq!(backlog.push(Item("t", 7, 99), None), Pushed::Waits);
        assert_eq!(backlog.push(Item("t", 8, 99), None), dropped(1, true));
        assert_eq!(numbers(&mut backlog), [(8, 1)]);
    }

    #[test]
    fn only_the_newest_of_a_topic_waits() {
        let mut backlog = backlog(SlowPolicy::NewestOnly, 30);
        for (topic, number) in [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("c", 5)] {
            backlog.push(Item(topic, number, 10), None);
        }
        assert_eq!((backlog.len(), backlog.bytes()), (3, 30));
        assert_eq!(backlog.pop(), Some((Item("b", 2, 10), 2)));
        backlog.push(Item("b", 6, 10), None);
        assert_eq!(backlog.push(Item("d", 7, 10), None), dropped(1, false));
        assert_eq!(numbers(&mut backlog), [(5, 1), (6, 0), (7, 0)]);
        // What has come out replaces nothing.
        assert_eq!(backlog.push(Item("a", 8, 10), None), Pushed::Waits);
        assert_eq!(numbers(&mut backlog), [(8, 0)]);
    }

    #[test]
    fn another_choice_holds_for_what_waits() {
        let mut backlog = backlog(SlowPolicy::DropOldest, 100);
        for (topic, number) in [("a", 1), ("b", 2), ("a", 3)] {
            backlog.push(Item(topic, number, 10), None);
        }
        let mut choice = Choice {
            policy: SlowPolicy::NewestOnly,
            pending_bytes_max: 100,
            queue: None,
        };
        assert_eq!(backlog.choose(&choice), dropped(1, true));
        choice.policy = SlowPolicy::Spill;
        choice.pending_bytes_max = 19;
        assert_eq!(backlog.choose(&choice), Pushed::Waits);
        assert!(backlog.end_spill(), "too much waits");
        choice.policy = SlowPolicy::Disconnect;
        assert_eq!(backlog.choose(&choice), Pushed::TooMuch);
        choice.policy = SlowPolicy::DropOldest;
        assert_eq!(backlog.choose(&choice), dropped(1, false));
        assert_eq!(numbers(&mut backlog), [(3, 2)]);
    }

    #[test]
    fn nothing_comes_out_while_a_queue_begins() {
        let mut backlog = backlog(SlowPolicy::Spill, 10);
        assert!(backlog.lets_pass());
        backlog.begin_spill();
        assert!(!backlog.lets_pass());
        backlog.push(Item("a", 1, 10), None);
        assert_eq!(backlog.pop(), None);
        assert!(!backlog.end_spill());
        assert_eq!(numbers(&mut backlog), [(1, 0)]);
        assert_eq!(backlog.push(Item("a", 2, 11), None), Pushed::Overflows);
        backlog.begin_spill();
        assert!(backlog.end_spill(), "there is still too much");
    }
}
