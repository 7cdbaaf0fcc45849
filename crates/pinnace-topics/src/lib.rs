//! Messages on topics: live subscriptions and durable queues.
//!
//! What it keeps: a live subscription gets each matching message once, in each publisher's order;
//! a queue keeps each matching message until it is taken, in publish order, across crashes, from
//! the moment the publish is acknowledged. A publish that cannot be stored is delivered to nobody.
//!
//! What it leaves to others: wire protocols (doors supply sinks and read results), who may do
//! what, the time of day (given as a clock), locking the directory, and the bytes on disk beneath
//! its records (`pinnace-log`).
//!
//! No callback (`Sink`, `Done`, `TakeDone`, a wake) is ever called while a lock of this crate is held.

mod broker;
mod check;
mod dropping;
mod error;
mod filling;
mod identity;
mod index;
mod leases;
mod lending;
mod limits;
mod literals;
mod live;
mod overview;
mod page;
mod paged;
mod publisher;
mod queue;
mod queues;
mod reclaim;
mod record;
mod replay;
mod routing;
mod snapshot;
mod spill;
mod state;
mod status;
mod steps;
mod takes;
pub mod topic;
mod varint;

pub use broker::{Broker, Clock, Options};
pub use pinnace_log::{Damage, SYNC_CLASSES_US, SnapshotFile, SyncTimes, TornTail};

pub use check::{Checked, Lost, LostMessage, Problem, ProblemKind, check, check_on};

pub use error::{Error, OpenError, PublishError, StoreError};
pub use leases::LeaseId;
pub use lending::{DeadLetter, Leased, LeasedMessage, Ticked};
pub use limits::{
    IDENTITY_BYTES_MAX, IDENTITY_WINDOW_US_DEFAULT, QUEUE_BYTES_DEFAULT, QUEUE_MESSAGES_DEFAULT,
    QUEUE_NAME_BYTES_MAX, QUEUES_DEFAULT, TOPIC_BYTES_MAX, TOPIC_TOKENS_MAX,
};
pub use live::{Batch, Flush, Kept, Message, QueueId, Sink};
pub use overview::Overview;
pub use page::{Page, Peeked};
pub use publisher::{Published, Publisher};
pub use queue::{Overflow, QueueOptions};
pub use queues::{Done, Start, Wake, WakeId};
pub use replay::Recovery;
pub use routing::SubscriptionId;
pub use snapshot::Snapshot;
pub use status::{QueueStatus, StorageState, TopicStatus};
pub use takes::{Receipt, Stored, TakeDone, Taken};
