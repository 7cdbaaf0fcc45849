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
mod error;
mod limits;
mod live;
mod page;
mod publisher;
mod queues;
mod reclaim;
mod record;
mod replay;
mod routing;
mod state;
mod status;
pub mod topic;

pub use broker::{Broker, Clock, Options};
pub use pinnace_log::Damage;

pub use error::{Error, OpenError, PublishError, StoreError};
pub use limits::{
    QUEUE_BYTES_DEFAULT, QUEUE_MESSAGES_DEFAULT, QUEUE_NAME_BYTES_MAX, QUEUES_DEFAULT,
    TOPIC_BYTES_MAX, TOPIC_TOKENS_MAX,
};
pub use live::{Batch, Flush, Message, Sink};
pub use page::Page;
pub use publisher::{Published, Publisher};
pub use queues::{Done, Peeked, Start, Stored, TakeDone, Wake, WakeId};
pub use replay::Recovery;
pub use routing::SubscriptionId;
pub use status::{QueueStatus, StorageState, TopicStatus};
