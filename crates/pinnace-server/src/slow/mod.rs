//! What happens to a live subscriber that is too far behind: the choices, and how they are asked for.
//!
//! Invariant: nothing is left out without a word to the subscriber that did not get it, and what one
//! subscriber chose costs no other anything. Left to others: what waits ([`backlog`]), the queue that
//! takes over ([`spill`]), and how each door says what was dropped.

pub(crate) mod backlog;
pub(crate) mod behind;
pub(crate) mod spill;

use std::fmt::Display;
use std::str::FromStr;

use crate::http_door::Failure;
use crate::http_door::path::checked_subscriber;
use crate::http_door::request::{Parameters, size};
use crate::limits::{
    NEWEST_BYTES_AHEAD, PENDING_BYTES_MAX, PENDING_BYTES_MIN, SPILL_PENDING_BYTES,
};

/// What happens to a live subscriber that is too far behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowPolicy {
    /// It is told so and disconnected.
    #[default]
    Disconnect,
    /// Its oldest messages go, and the next one it gets says how many.
    DropOldest,
    /// Of each topic only the latest message waits; otherwise as `DropOldest`.
    NewestOnly,
    /// A durable queue takes its messages until it has caught up.
    Spill,
}

impl SlowPolicy {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Disconnect,
        Self::DropOldest,
        Self::NewestOnly,
        Self::Spill,
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DropOldest => "drop-oldest",
            Self::NewestOnly => "newest-only",
            Self::Spill => "spill",
        }
    }

    /// Logs that messages are left out now, once for each time that a subscriber is behind.
    pub(crate) fn log_first_drop(self, client: impl Display, pattern: &[u8]) {
        let pattern = String::from_utf8_lossy(pattern);
        if self == Self::DropOldest {
            tracing::warn!(%client, %pattern, "a subscriber is behind; its oldest messages are dropped");
        } else {
            tracing::debug!(%client, %pattern, "a subscriber is behind; it gets the newest messages");
        }
    }

    /// Whether messages are left out, which only some clients can be told.
    pub(crate) fn drops(self) -> bool {
        matches!(self, Self::DropOldest | Self::NewestOnly)
    }
}

impl FromStr for SlowPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|policy| policy.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{}` is none of {names}", text.escape_debug())
        })
    }
}

/// What is chosen for subscribers that choose nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowConsumer {
    /// What happens to them; not `Spill`, which needs a name for each.
    pub policy: SlowPolicy,
    /// Bytes that may wait for one of them; each door has a usual number.
    pub pending_bytes_max: Option<usize>,
}

impl SlowConsumer {
    /// Bytes beyond which a NATS connection is closed: not less than one batch of a publisher may be, and
    /// no limit of its own where messages wait elsewhere.
    pub(crate) fn connection_bytes_max(self) -> usize {
        match (self.policy, self.pending_bytes_max) {
            (SlowPolicy::Disconnect, Some(bytes)) => bytes.max(PENDING_BYTES_MIN),
            _ => PENDING_BYTES_MAX,
        }
    }
}

/// What was chosen for one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) policy: SlowPolicy,
    pub(crate) pending_bytes_max: usize,
    /// The queue that messages are spilled to.
    pub(crate) queue: Option<Box<str>>,
}

impl Choice {
    /// Parameters that make a choice.
    pub(crate) const KNOWN: [&str; 3] = ["slow", "pending", "spill"];

    /// The choice of who chooses nothing.
    pub(crate) fn usual(usual: SlowConsumer, usual_bytes: usize) -> Self {
        Self {
            policy: usual.policy,
            pending_bytes_max: usual.pending_bytes_max.unwrap_or(usual_bytes),
            queue: None,
        }
    }

    /// The same for what only can be disconnected.
    pub(crate) fn disconnecting(self) -> Self {
        Self {
            policy: SlowPolicy::Disconnect,
            queue: None,
            ..self
        }
    }

    /// Bytes that may be on their way before messages wait, where `most` is usual: what is on its way is
    /// dropped or replaced no more.
    pub(crate) fn bytes_ahead(&self, most: usize) -> usize {
        let most = match self.policy {
            SlowPolicy::NewestOnly => NEWEST_BYTES_AHEAD,
            _ => most,
        };
        most.min(self.pending_bytes_max)
    }

    /// Makes the choice that parameters ask for, of what they do not say the usual one; `None` when
    /// they ask for nothing. The others are left where they are.
    pub(crate) fn take(parameters: &mut Parameters, usual: &Self) -> Result<Option<Self>, Failure> {
        let (asked, others): (Parameters, Parameters) = std::mem::take(parameters)
            .into_iter()
            .partition(|(name, _)| Self::KNOWN.contains(&name.as_str()));
        *parameters = others;
        if asked.is_empty() {
            return Ok(None);
        }
        let mut choice = usual.clone();
        let (mut policy, mut asked_pending) = (None, None);
        for (name, value) in asked {
            match name.as_str() {
                "slow" => policy = Some(parsed(&value)?),
                "pending" => asked_pending = Some(pending(&value)?),
                _ => choice.queue = Some(checked_subscriber(value)?.into()),
            }
        }
        choice.policy = match (policy, &choice.queue) {
            (None | Some(SlowPolicy::Spill), Some(_)) => SlowPolicy::Spill,
            (Some(SlowPolicy::Spill), None) => {
                return Err(bad(
                    "to spill needs the name of a queue, as in spill=alice".to_owned()
                ));
            }
            (Some(policy), Some(_)) => {
                let policy = policy.name();
                return Err(bad(format!("spill names a queue, and {policy} needs none")));
            }
            (Some(policy), None) => policy,
            (None, None) => choice.policy,
        };
        if choice.policy == SlowPolicy::Spill {
            choice.pending_bytes_max = choice.pending_bytes_max.min(SPILL_PENDING_BYTES);
        }
        choice.pending_bytes_max = asked_pending.unwrap_or(choice.pending_bytes_max);
        Ok(Some(choice))
    }
}

fn parsed(text: &str) -> Result<SlowPolicy, Failure> {
    text.parse().map_err(|error| bad(format!("slow: {error}")))
}

fn pending(text: &str) -> Result<usize, Failure> {
    match size("pending", text)? {
        bytes @ 1.. if bytes <= PENDING_BYTES_MAX as u64 => Ok(bytes as usize),
        _ => Err(bad(format!("pending takes 1 to {PENDING_BYTES_MAX} bytes"))),
    }
}

fn bad(detail: String) -> Failure {
    Failure::bad_request("bad-parameter", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_refused() {
        let usual = Choice::usual(SlowConsumer::default(), 5 << 20);
        let choose = |asked: &[(&str, &str)]| {
            let pairs = asked
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            let mut parameters: Parameters = pairs.collect();
            Choice::take(&mut parameters, &usual).map_err(|failure| failure.detail().to_owned())
        };
        let choice = |policy, pending_bytes_max, queue: Option<&str>| Choice {
            policy,
            pending_bytes_max,
            queue: queue.map(Into::into),
        };
        use SlowPolicy::*;
        for (asked, expected) in [
            (&[][..], None),
            (&[("after", "1")], None),
            (
                &[("slow", "drop-oldest")],
                Some(choice(DropOldest, 5 << 20, None)),
            ),
            (
                &[("pending", "10M"), ("spill", "a")],
                Some(choice(Spill, 10 << 20, Some("a"))),
            ),
            (
                &[("slow", "newest-only"), ("pending", "1k")],
                Some(choice(NewestOnly, 1_024, None)),
            ),
            (
                &[("pending", "67108864")],
                Some(choice(Disconnect, 67_108_864, None)),
            ),
            (&[("spill", "a")], Some(choice(Spill, 4 << 20, Some("a")))),
            (
                &[("slow", "spill"), ("spill", "a")],
                Some(choice(Spill, 4 << 20, Some("a"))),
            ),
        ] {
            assert_eq!(choose(asked), Ok(expected), "{asked:?}");
        }
        for (asked, part) in [
            (&[("slow", "oldest")][..], "drop-oldest"),
            (&[("slow", "spill")], "spill=alice"),
            (&[("slow", "disconnect"), ("spill", "a")], "needs none"),
            (&[("pending", "0")], "1 to 67108864"),
            (&[("pending", "67108865")], "1 to 67108864"),
            (&[("pending", "many")], "pending"),
            (&[("spill", "")], "subscriber"),
        ] {
            let detail = choose(asked).unwrap_err();
            assert!(detail.contains(part), "{asked:?}: {detail}");
        }
    }
}
