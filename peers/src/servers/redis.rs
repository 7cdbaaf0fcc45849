//! Redis: publish/subscribe without persistence, and streams whose every turn is synced.

use std::path::Path;

use anyhow::Result;

use super::{Broker, Served, bound_to_us, free_port, start_on, version_of};
use crate::load::durable::Store;
use crate::load::wire::{Wire, resp::Resp};

const PROGRAM: &str = "redis-server";
/// Messages under way: further behind than 32 MiB a subscriber would be cut off.
const WINDOW: u64 = 20_000;
/// Connections it admits; the descriptors of one process are 20,000 here.
const CLIENTS_MAX: &str = "15000";

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    /// Whether it writes an append-only file and syncs it before answering.
    pub durable: bool,
}

impl Broker for Redis {
    fn name(&self) -> &'static str {
        if self.durable { "redis-aof" } else { "redis" }
    }

    fn version(&self) -> Result<String> {
        let version = version_of(
            Path::new(PROGRAM),
            "--version",
            "apt-get install redis-server",
        )?;
        // `Redis server v=7.0.15 sha=… malloc=… build=…`
        let version = version
            .split(" sha=")
            .next()
            .unwrap_or("unknown")
            .to_owned();
        Ok(if self.durable {
            format!("{version}, appendonly yes, appendfsync always")
        } else {
            version
        })
    }

    fn start(&self, data: &Path) -> Result<Served> {
        let port = free_port()?;
        let mut command = bound_to_us(Path::new(PROGRAM));
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--maxclients", CLIENTS_MAX, "--save", ""])
            .args(["--appendonly", if self.durable { "yes" } else { "no" }])
            .args(["--appendfsync", "always"]);
        start_on(port, &mut command, data)
    }

    fn live(&self) -> Option<(&'static dyn Wire, Option<u64>)> {
        (!self.durable).then_some((&Resp, Some(WINDOW)))
    }

    fn store(&self) -> Option<Store> {
        self.durable.then_some(Store::Stream)
    }
}
