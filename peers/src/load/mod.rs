//! The message load: raw sockets, batches of 64 KiB, one thread a publisher and one epoll loop for
//! all subscribers, the same for every server.
//!
//! Invariant: what is counted was compared. Every payload carries its number, every delivery is
//! held against the bytes it must have, and a phase ends only when each subscriber has each message
//! once and in order; anything else is an error, never a smaller figure.
//!
//! Left to others: which server and how it is started ([`crate::servers`]), which cases are run and
//! what is printed (`src/bin/messages.rs`).

pub mod clock;
pub mod durable;
pub mod flood;
pub mod http;
pub mod idle;
pub mod line;
pub mod publisher;
pub mod receiver;
pub mod request;
pub mod spent;
pub mod startup;
pub mod wire;

use serde::Serialize;

use crate::figures::{Quantiles, quantiles};

/// What one run of one case showed. Rates are made from these where they are printed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Messages published, or requests answered.
    pub published: u64,
    /// Messages delivered to live subscribers, all of them together.
    pub delivered: u64,
    /// From the first publish to the last delivery or answer, seconds.
    pub seconds: f64,
    /// CPU time of the server in that time, seconds.
    pub server_cpu_s: f64,
    /// CPU time of the generator in that time, seconds.
    pub generator_cpu_s: f64,
    /// Largest resident memory of the server since its start, bytes.
    pub peak_rss_bytes: u64,
    /// From the send (or from the request) to the arrival.
    pub from_send: Option<Quantiles>,
    /// From when the send was due to the arrival: a late sender cannot hide a slow server.
    pub from_due: Option<Quantiles>,
    /// What a connection costs, where that is the question.
    pub memory: Option<Memory>,
    /// Anything a reader of the figure must know.
    pub note: String,
}

/// Growth of the server's memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Connections opened.
    pub connections: u64,
    /// Resident growth, bytes.
    pub rss_bytes: u64,
    /// Proportional growth (shared pages divided), bytes.
    pub pss_bytes: u64,
    /// Proportional memory of the whole server with them, bytes.
    pub pss_all_bytes: u64,
}

impl Figures {
    /// Puts the quantiles of `samples` (nanoseconds from the send, and from the due time) in.
    pub fn with_latencies(mut self, from_send_ns: Vec<u32>, from_due_ns: Vec<u32>) -> Self {
        self.from_send = quantiles(from_send_ns);
        self.from_due = quantiles(from_due_ns);
        self
    }
}
