//! What should be stored, plainly: each queue with its options and its messages.

use std::collections::BTreeMap;

use pinnace_topics::{Overflow, QueueOptions, topic};

/// A queue's pattern and name.
pub(super) type Key = (&'static str, &'static str);

/// A topic and a payload by number.
pub(super) type Messages = BTreeMap<u64, (String, String)>;

/// What should be stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Model(pub(super) BTreeMap<Key, Kept>);

/// One queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) options: Option<QueueOptions>,
    pub(super) messages: Messages,
}

impl Model {
    pub(super) fn create(&mut self, key: Key, first: bool, options: Option<QueueOptions>) {
        let stored = self.0.values().flat_map(|kept| kept.messages.clone());
        let messages = stored
            .filter(|(_, (on, _))| first && topic::matches(key.0.as_bytes(), on.as_bytes()))
            .collect();
        self.0.insert(key, Kept { options, messages });
    }

    pub(super) fn remove(&mut self, key: Key, seqs: &[u64]) {
        if let Some(kept) = self.0.get_mut(&key) {
            kept.messages.retain(|seq, _| !seqs.contains(seq));
        }
    }

    fn matching(&mut self, on: &str) -> impl Iterator<Item = (&Key, &mut Kept)> {
        let matches = move |key: &Key| topic::matches(key.0.as_bytes(), on.as_bytes());
        self.0.iter_mut().filter(move |(key, _)| matches(key))
    }

    /// What makes room for one more message.
    pub(super) fn make_room(&mut self, on: &str) {
        let mut gone = Vec::new();
        for (key, kept) in self.matching(on) {
            let Some(options) = &kept.options else {
                continue;
            };
            let over = options
                .messages_max
                .is_some_and(|max| kept.messages.len() as u64 >= max);
            match options.overflow {
                Overflow::DropOldest if over => drop(kept.messages.pop_first()),
                Overflow::Expire if over => gone.push(*key),
                _ => {}
            }
        }
        self.0.retain(|key, _| !gone.contains(key));
    }

    pub(super) fn publish(&mut self, seq: u64, on: &str, payload: &str) {
        self.make_room(on);
        for (_, kept) in self.matching(on) {
            kept.messages
                .insert(seq, (on.to_owned(), payload.to_owned()));
        }
    }
}
