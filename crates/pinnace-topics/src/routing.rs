//! Who gets a message: patterns in a tree, one level per token.
//!
//! Invariant: `Routes::find` gives exactly the subscriptions and queues whose pattern matches by
//! `topic::matches`. Every change raises the generation while the tree is locked, so a match set
//! of the current generation is the current truth. Delivery happens outside of the lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::literals::Literals;
use crate::live::{Batch, Kept, Message, Sink};
use crate::topic::{self, first_token};

/// A live subscription, until it is unsubscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

#[derive(Clone)]
pub(crate) struct Subscription {
    id: SubscriptionId,
    owner: u64,
    group: Option<Box<[u8]>>,
    sink: Arc<dyn Sink>,
}

/// Everything that gets messages of one topic.
pub(crate) struct MatchSet {
    pub(crate) topic: Arc<[u8]>,
    plain: Vec<Arc<Subscription>>,
    groups: Vec<Group>,
    /// Sorted.
    pub(crate) queues: Arc<[u32]>,
    /// Every topic that differs only in its last token reaches the same, and no queue.
    pub(crate) for_siblings: bool,
}

struct Group {
    members: Vec<Arc<Subscription>>,
    turn: AtomicUsize,
}

impl MatchSet {
    /// Delivers to every plain subscription and to one member of each group, except those of
    /// `skip_owner`. Returns how many took it.
    pub(crate) fn deliver(
        &self,
        message: &Message<'_>,
        skip_owner: Option<u64>,
        batch: &mut Batch,
    ) -> u32 {
        self.deliver_by(skip_owner, |sink| sink.deliver(message, batch))
    }

    /// Like `deliver`, for a message that is kept in queues under `seq`.
    pub(crate) fn deliver_kept(
        &self,
        message: &Message<'_>,
        seq: u64,
        skip_owner: Option<u64>,
        batch: &mut Batch,
    ) -> u32 {
        let queues = Arc::clone(&self.queues);
        let kept = Kept { seq, queues };
        self.deliver_by(skip_owner, |sink| sink.deliver_kept(message, &kept, batch))
    }

    #[inline]
    fn deliver_by(
        &self,
        skip_owner: Option<u64>,
        mut deliver: impl FnMut(&dyn Sink) -> bool,
    ) -> u32 {
        let mut live = 0;
        for subscription in &self.plain {
            if skip_owner != Some(subscription.owner) {
                live += u32::from(deliver(&*subscription.sink));
            }
        }
        for group in &self.groups {
            let first = group.turn.fetch_add(1, Ordering::Relaxed);
            let taken = (0..group.members.len()).any(|step| {
                let member = &group.members[first.wrapping_add(step) % group.members.len()];
                skip_owner != Some(member.owner) && deliver(&*member.sink)
            });
            live += u32::from(taken);
        }
        live
    }
}

/// The tree of patterns behind its lock.
#[derive(Default)]
pub(crate) struct Routes {
    tree: RwLock<Tree>,
    generation: AtomicU64,
    /// Where the next match set's groups begin, so that they do not all begin with the same member.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Tree {
    root: Node,
    /// Queues on patterns without wildcards are here and not in the tree.
    literals: Literals,
    patterns: HashMap<SubscriptionId, Box<[u8]>>,
    next_id: u64,
}

#[derive(Default)]
struct Node {
    tokens: HashMap<Box<[u8]>, Node>,
    /// Below the token `*`.
    any: Option<Box<Node>>,
    /// Patterns that end here.
    here: Leaf,
    /// Patterns that end with `>` at the next level.
    rest: Leaf,
}

/// The interests registered under one pattern.
#[derive(Default)]
pub(crate) struct Leaf {
    subscriptions: Vec<Arc<Subscription>>,
    queues: Vec<u32>,
}

impl Routes {
    /// Changes with every change of the tree.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn subscribe(
        &self,
        pattern: &[u8],
        group: Option<&[u8]>,
        owner: u64,
        sink: Arc<dyn Sink>,
    ) -> SubscriptionId {
        self.change(|tree| {
            tree.next_id += 1;
            let id = SubscriptionId(tree.next_id);
            tree.patterns.insert(id, pattern.into());
            let group = group.map(Into::into);
            let subscription = Arc::new(Subscription {
                id,
                owner,
                group,
                sink,
            });
            tree.root.leaf(pattern).subscriptions.push(subscription);
            id
        })
    }

    /// The subscription, so that its sink is dropped outside of the lock.
    pub(crate) fn unsubscribe(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.change(|tree| {
            let pattern = tree.patterns.remove(&id)?;
            let mut removed = None;
            tree.root.remove(Some(&pattern), &mut |leaf| {
                let index = leaf.subscriptions.iter().position(|s| s.id == id);
                removed = index.map(|index| leaf.subscriptions.remove(index));
            });
            removed
        })
    }

    /// Gives a subscription another sink; what it was, to be dropped outside of the lock.
    pub(crate) fn replace_sink(
        &self,
        id: SubscriptionId,
        sink: Arc<dyn Sink>,
    ) -> Option<Arc<Subscription>> {
        self.change(|tree| {
            let leaf = tree.root.leaf(tree.patterns.get(&id)?);
            let place = leaf.subscriptions.iter_mut().find(|s| s.id == id)?;
            let before = Arc::clone(place);
            Arc::make_mut(place).sink = sink;
            Some(before)
        })
    }

    pub(crate) fn add_queue(&self, pattern: &Arc<[u8]>, id: u32) {
        self.change(|tree| {
            if topic::has_wildcards(pattern) {
                tree.root.leaf(pattern).queues.push(id);
            } else {
                tree.literals.add(pattern, id);
            }
        });
    }

    pub(crate) fn remove_queue(&self, pattern: &[u8], id: u32) {
        self.change(|tree| {
            if topic::has_wildcards(pattern) {
                tree.root.remove(Some(pattern), &mut |leaf| {
                    leaf.queues.retain(|queue| *queue != id);
                });
            } else {
                tree.literals.remove(pattern, id);
            }
        });
    }

    /// The match set of a topic and the generation it belongs to.
    pub(crate) fn find(&self, topic: &[u8]) -> (Arc<MatchSet>, u64) {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let generation = self.generation();
        let (mut plain, mut queues) = (Vec::new(), Vec::new());
        let mut groups: Vec<Group> = Vec::new();
        let mut by_name: HashMap<&[u8], usize> = HashMap::new();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        tree.root.visit(Some(topic), &mut |leaf| {
            queues.extend_from_slice(&leaf.queues);
            for subscription in &leaf.subscriptions {
                let Some(name) = &subscription.group else {
                    plain.push(Arc::clone(subscription));
                    continue;
                };
                let index = *by_name.entry(name).or_insert_with(|| {
                    groups.push(Group {
                        members: Vec::new(),
                        turn: AtomicUsize::new(turn),
                    });
                    groups.len() - 1
                });
                groups[index].members.push(Arc::clone(subscription));
            }
            true
        });
        queues.extend_from_slice(tree.literals.get(topic));
        queues.sort_unstable();
        let for_siblings = queues.is_empty()
            && !tree.literals.may_have_siblings(topic)
            && tree.root.treats_siblings_alike(topic);
        let set = MatchSet {
            for_siblings,
            topic: topic.into(),
            plain,
            groups,
            queues: queues.into(),
        };
        (Arc::new(set), generation)
    }

    /// Whether anything gets messages of the topic.
    pub(crate) fn any(&self, topic: &[u8]) -> bool {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        !tree.literals.get(topic).is_empty()
            || !tree.root.visit(Some(topic), &mut |leaf| leaf.is_empty())
    }

    /// Every pattern with its numbers of subscriptions and queues, in no order; some come twice, with
    /// part of their numbers each.
    pub(crate) fn patterns(&self) -> Vec<(Vec<u8>, usize, usize)> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        tree.root.list(&mut Vec::new(), &mut found);
        let literals = tree.literals.iter();
        found.extend(literals.map(|(text, queues)| (text.to_vec(), 0, queues)));
        found
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut tree);
        self.generation.fetch_add(1, Ordering::Release);
        result
    }
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.queues.is_empty()
    }
}

impl Node {
    /// The leaf of a pattern, made if it is not there.
    fn leaf(&mut self, pattern: &[u8]) -> &mut Leaf {
        let mut node = self;
        let mut left = Some(pattern);
        while let Some(text) = left {
            let (token, after) = first_token(text);
            match token {
                b">" if after.is_none() => return &mut node.rest,
                b"*" => node = node.any.get_or_insert_default(),
                // Two look-ups, so that a known token costs no allocation.
                _ if node.tokens.contains_key(token) => match node.tokens.get_mut(token) {
                    Some(next) => node = next,
                    None => break,
                },
                _ => node = node.tokens.entry(token.into()).or_default(),
            }
            left = after;
        }
        &mut node.here
    }

    /// Shows `change` the leaf of a pattern, then prunes branches that have become empty.
    fn remove(&mut self, pattern: Option<&[u8]>, change: &mut dyn FnMut(&mut Leaf)) {
        let Some(text) = pattern else {
            return change(&mut self.here);
        };
        let (token, after) = first_token(text);
        match token {
            b">" if after.is_none() => change(&mut self.rest),
            b"*" => {
                if let Some(node) = &mut self.any {
                    node.remove(after, change);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            _ => {
                if let Some(node) = self.tokens.get_mut(token) {
                    node.remove(after, change);
                    if node.is_empty() {
                        self.tokens.remove(token);
                        if self.tokens.len() * 4 < self.tokens.capacity() {
                            self.tokens.shrink_to_fit();
                        }
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }

    /// Shows every leaf that matches `topic` until `see` returns false; whether it never did.
    fn visit<'a>(&'a self, topic: Option<&[u8]>, see: &mut dyn FnMut(&'a Leaf) -> bool) -> bool {
        let Some(text) = topic else {
            return see(&self.here);
        };
        let (token, after) = first_token(text);
        see(&self.rest)
            && self
                .tokens
                .get(token)
                .is_none_or(|node| node.visit(after, see))
            && self.any.as_ref().is_none_or(|node| node.visit(after, see))
    }

    /// Whether no pattern tells the topic from one that differs in its last token.
    fn treats_siblings_alike(&self, text: &[u8]) -> bool {
        let (token, Some(after)) = first_token(text) else {
            return self.tokens.is_empty();
        };
        self.tokens
            .get(token)
            .is_none_or(|node| node.treats_siblings_alike(after))
            && self
                .any
                .as_ref()
                .is_none_or(|node| node.treats_siblings_alike(after))
    }

    fn list(&self, prefix: &mut Vec<u8>, found: &mut Vec<(Vec<u8>, usize, usize)>) {
        let length = prefix.len();
        let push = |prefix: &mut Vec<u8>, token: &[u8]| {
            if length > 0 {
                prefix.push(b'.');
            }
            prefix.extend_from_slice(token);
        };
        if !self.here.is_empty() {
            let Leaf {
                subscriptions,
                queues,
            } = &self.here;
            found.push((prefix.clone(), subscriptions.len(), queues.len()));
        }
        if !self.rest.is_empty() {
            let Leaf {
                subscriptions,
                queues,
            } = &self.rest;
            push(prefix, b">");
            found.push((prefix.clone(), subscriptions.len(), queues.len()));
            prefix.truncate(length);
        }
        let any = self.any.iter().map(|node| (&b"*"[..], &**node));
        for (token, node) in self
            .tokens
            .iter()
            .map(|(token, node)| (&**token, node))
            .chain(any)
        {
            push(prefix, token);
            node.list(prefix, found);
            prefix.truncate(length);
        }
    }
}
