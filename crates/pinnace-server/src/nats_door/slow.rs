//! What one connection chose for its subscriptions that are behind, by `$PN.slow`.
//!
//! Invariant: a choice holds for a pattern, for the subscriptions there are and those to come; one that
//! leaves out messages only for a client that can be told so in a header. Left to others: what the
//! choices mean (`slow`), how a subscription keeps to one (`lagging`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use pinnace_nats::Connect;
use pinnace_topics::Sink;
use serde_json::{Value, json};

use super::lagging::{Laggards, Lagging, LaggingSink};
use super::outbox::Outbox;
use super::session::Entry;
use super::sink::Subscription;
use crate::caller::{Action, Caller};
use crate::harbour::Harbour;
use crate::http_door::{Failure, path};
use crate::limits::PENDING_BYTES_MAX;
use crate::requests::Ask;
use crate::slow::behind::Entered;
use crate::slow::spill::Keeper;
use crate::slow::{Choice, SlowPolicy};

/// The choices of one connection.
pub(super) struct Choices {
    harbour: Arc<Harbour>,
    outbox: Arc<Outbox>,
    connection: u64,
    by_pattern: BTreeMap<Box<[u8]>, Chosen>,
    /// Made with the first choice that needs it.
    laggards: Option<Arc<Laggards>>,
}

struct Chosen {
    choice: Choice,
    /// The subscription that spills: one queue is read by one.
    spilling: Option<Arc<Lagging>>,
}

/// A subscription that keeps to a choice.
pub(super) struct Lagged {
    lagging: Arc<Lagging>,
    choice: Choice,
    _entered: Entered,
    /// Of one that spills.
    keeper: Option<Keeper>,
}

impl Drop for Lagged {
    fn drop(&mut self) {
        self.lagging.stop();
    }
}

impl Lagged {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(LaggingSink(self.lagging.clone()))
    }
}

/// Where the messages of a subscription go.
pub(super) fn sink(subscription: &Arc<Subscription>, lagged: Option<&Lagged>) -> Arc<dyn Sink> {
    match lagged {
        Some(lagged) => lagged.sink(),
        None => subscription.clone(),
    }
}

impl Choices {
    pub(super) fn new(harbour: Arc<Harbour>, outbox: Arc<Outbox>, connection: u64) -> Self {
        Self {
            by_pattern: BTreeMap::new(),
            laggards: None,
            harbour,
            outbox,
            connection,
        }
    }

    fn usual(&self) -> Choice {
        Choice::usual(self.harbour.slow_consumer, PENDING_BYTES_MAX)
    }

    /// Moves on what waits.
    pub(super) fn advance(&self) {
        if let Some(laggards) = &self.laggards {
            laggards.advance();
        }
    }

    /// What a new subscription needs besides to keep to the choice for its pattern; nothing, if it is
    /// simply to be disconnected.
    pub(super) fn lagged(
        &mut self,
        connect: &Connect,
        subscription: &Arc<Subscription>,
        (pattern, group): (&[u8], Option<&[u8]>),
    ) -> Option<Lagged> {
        let chosen = self.by_pattern.get(pattern);
        let choice = chosen.map_or_else(|| self.usual(), |chosen| chosen.choice.clone());
        let can_be = match choice.policy {
            SlowPolicy::Disconnect => chosen.is_some(),
            // A queue would take what the other members get, too.
            SlowPolicy::Spill => group.is_none() && !self.spills(pattern),
            SlowPolicy::DropOldest | SlowPolicy::NewestOnly => connect.headers,
        };
        can_be.then(|| self.follow(subscription, pattern, choice))
    }

    fn spills(&self, pattern: &[u8]) -> bool {
        let chosen = self.by_pattern.get(pattern);
        let spilling = chosen.and_then(|chosen| chosen.spilling.as_ref());
        spilling.is_some_and(|lagging| !lagging.is_stopped())
    }

    fn follow(
        &mut self,
        subscription: &Arc<Subscription>,
        pattern: &[u8],
        choice: Choice,
    ) -> Lagged {
        let (harbour, outbox, number) = (&self.harbour, &self.outbox, self.connection);
        let laggards = self
            .laggards
            .get_or_insert_with(|| Arc::new(Laggards::new(outbox.clone(), harbour, number)));
        let lagging = Lagging::new(laggards.clone(), subscription.clone(), pattern, &choice);
        let lagging = Arc::new(lagging);
        let subscriber: Weak<Lagging> = Arc::downgrade(&lagging);
        Lagged {
            _entered: Entered::new(harbour, pattern, number.to_string(), subscriber),
            lagging,
            choice,
            keeper: None,
        }
    }

    /// A new subscription is in effect.
    pub(super) fn begin(&mut self, pattern: &[u8], lagged: &mut Option<Lagged>) {
        if let Some(lagged) = lagged {
            self.keep(pattern, lagged);
        }
    }

    /// Spills, if that is its choice.
    fn keep(&mut self, pattern: &[u8], lagged: &mut Lagged) {
        let Some(queue) = lagged.choice.queue.as_deref() else {
            return;
        };
        let (harbour, lagging) = (self.harbour.clone(), lagged.lagging.clone());
        if let Some(chosen) = self.by_pattern.get_mut(pattern) {
            chosen.spilling = Some(lagging.clone());
        }
        lagged.keeper = Some(Keeper::start(harbour, pattern, queue, lagging));
    }

    /// `$PN.slow`: makes a choice, or says what was chosen.
    pub(super) fn answer<'e>(
        &mut self,
        (connect, caller): (&Connect, &Caller),
        entries: impl Iterator<Item = &'e mut Entry>,
        mut ask: Ask,
    ) -> Result<Value, Failure> {
        let topic = path::checked_pattern(ask.topic()?)?;
        let pattern = topic.as_bytes();
        let mut parameters = ask.parameters(&Choice::KNOWN)?;
        let usual = self.usual();
        let asked = Choice::take(&mut parameters, &usual)?;
        let entries = entries.filter(|entry| *entry.pattern == *pattern);
        let mut entries: Vec<&mut Entry> = entries.collect();
        if let Some(choice) = asked {
            permit(&choice, pattern, connect, caller)?;
            let mut lagged = entries.iter().filter_map(|entry| entry.lagged.as_ref());
            if lagged.any(|lagged| lagged.choice.queue.is_some() && lagged.choice != choice) {
                let detail =
                    "a subscription that spills goes on doing so; unsubscribe, and subscribe again";
                return Err(Failure::conflict("spills-already", detail));
            }
            self.remember(pattern, &choice)?;
            for entry in &mut entries {
                self.apply(entry, &choice);
            }
        }
        let chosen = self.by_pattern.get(pattern);
        let choice = chosen.map_or(&usual, |chosen| &chosen.choice);
        Ok(json!({
            "topic": topic,
            "slow": choice.policy.name(),
            "pending": choice.pending_bytes_max,
            "spill": choice.queue,
            "subscriptions": entries.len(),
        }))
    }

    fn remember(&mut self, pattern: &[u8], choice: &Choice) -> Result<(), Failure> {
        let choices_max = self.harbour.nats_limits.subscriptions_max;
        if self.by_pattern.len() >= choices_max && !self.by_pattern.contains_key(pattern) {
            let detail = format!("at most {choices_max} choices of a connection");
            return Err(Failure::bad_request("too-many-requests", detail));
        }
        let new = || Chosen {
            choice: choice.clone(),
            spilling: None,
        };
        let chosen = self.by_pattern.entry(pattern.into()).or_insert_with(new);
        chosen.choice = choice.clone();
        Ok(())
    }

    /// Has a subscription that exists keep to a choice.
    fn apply(&mut self, entry: &mut Entry, choice: &Choice) {
        match &mut entry.lagged {
            Some(lagged) if lagged.choice == *choice => {}
            // One queue is read by one subscription, and a member of a group does not spill.
            _ if choice.queue.is_some() && (entry.is_grouped || self.spills(&entry.pattern)) => {}
            Some(lagged) => {
                lagged.lagging.choose(choice);
                lagged.choice = choice.clone();
                self.keep(&entry.pattern, lagged);
            }
            None => {
                let (subscription, pattern) = (&entry.subscription, &entry.pattern);
                let mut lagged = self.follow(subscription, pattern, choice.clone());
                let broker = &self.harbour.broker;
                broker.replace_sink(entry.id, lagged.sink());
                self.keep(pattern, &mut lagged);
                entry.lagged = Some(lagged);
            }
        }
    }
}

impl Drop for Choices {
    fn drop(&mut self) {
        // Each of its subscriptions knows it, too.
        if let Some(laggards) = &self.laggards {
            laggards.forget();
        }
    }
}

/// Refuses a choice that this client could not be told the consequences of, or may not make.
fn permit(
    choice: &Choice,
    pattern: &[u8],
    connect: &Connect,
    caller: &Caller,
) -> Result<(), Failure> {
    if choice.policy.drops() && !connect.headers {
        let detail =
            "what is dropped is told in a header, and this client's CONNECT does not say `headers`";
        return Err(Failure::bad_request("bad-parameter", detail));
    }
    if choice.policy != SlowPolicy::Spill {
        return Ok(());
    }
    if !connect.echo {
        let detail = "a queue does not know who published: to spill, a client has to hear itself";
        return Err(Failure::bad_request("bad-parameter", detail));
    }
    // A queue is not sifted: what its pattern matches must be permitted as a whole.
    let is_whole =
        caller.may(Action::SubscribeTo(pattern, None)) && caller.withheld(pattern, None).is_none();
    is_whole.then_some(()).ok_or_else(Failure::forbidden)
}
