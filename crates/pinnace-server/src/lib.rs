//! The harbour: one server process with its two doors, its roster and its collector.
//!
//! ```text
//!   NATS door ─┐                ┌─ HTTP door          bytes ⇄ meaning, limits
//!              └──── broker ────┘                     live subscriptions and queues
//!                      │
//!                  collector ──── run database        bench events become runs
//! ```
//!
//! Invariants: every handler of every door is given a [`caller::Caller`]; one function decides what
//! it may do; nothing a peer sends is allocated for by a number the peer gave, or logged raw.
//!
//! Left to others: what messages and queues are (`pinnace-topics`), what figures mean
//! (`pinnace-report`), flags, signals and files a person asked for (the binary).

mod access;
mod backup;
pub mod caller;
mod channels;
mod clock;
mod collector;
mod dead_letters;
mod fetches;
mod harbour;
mod http_door;
mod idle;
mod lanes;
pub mod limits;
mod lock;
mod mail;
mod message_log;
mod metrics;
mod mirrors;
mod nats_door;
mod permissions;
mod presence;
mod requests;
mod roster;
mod roster_file;
mod server;
mod settings;
mod slow;
mod upkeep;

pub use backup::{BackupError, BackupFacts, RestoreError, Restored, restore, verify_backup};
pub use lock::LockError;
pub use message_log::{LoggedPayload, MessageLogSettings};
pub use server::{Reopen, Running, StartError, StopCause};
pub use settings::{
    AuthSettings, Identity, NatsLimits, PermissionSettings, RuleSettings, Secret, Settings,
    UserSettings,
};
pub use upkeep::{CheckError, check_data};

pub use slow::{SlowConsumer, SlowPolicy};

/// Whether messages can be chosen by this pattern.
pub fn is_valid_pattern(pattern: &str) -> bool {
    pinnace_topics::topic::is_valid_pattern(pattern.as_bytes())
}
