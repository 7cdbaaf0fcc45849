//! nats-server, any version, with and without JetStream.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Broker, Served, bound_to_us, free_port, start_on, version_of};
use crate::load::durable::Store;
use crate::load::wire::{Wire, nats::Nats};

/// When JetStream syncs what it stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before it acknowledges; 2.9.10 does not know it.
    Always,
    /// Every two minutes, its default: an acknowledged message may be lost.
    Default,
}

/// A nats-server.
#[derive(Debug)]
pub struct NatsServer {
    /// What it is called here.
    pub name: &'static str,
    /// Where it is.
    pub program: PathBuf,
    /// How it would be installed.
    pub how_to_get: &'static str,
    /// Whether it stores, and how.
    pub jetstream: Option<Sync>,
}

impl Broker for NatsServer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> Result<String> {
        let version = version_of(&self.program, "--version", self.how_to_get)?;
        Ok(match self.jetstream {
            None => version,
            Some(Sync::Always) => format!("{version}, JetStream file store, sync_interval always"),
            Some(Sync::Default) => format!("{version}, JetStream file store, not synced"),
        })
    }

    fn start(&self, data: &Path) -> Result<Served> {
        let port = free_port()?;
        let store = match self.jetstream {
            None => "",
            Some(Sync::Always) => "jetstream { store_dir: \"store\", sync_interval: always }\n",
            Some(Sync::Default) => "jetstream { store_dir: \"store\" }\n",
        };
        let config = format!("host: 127.0.0.1\nport: {port}\n{store}");
        std::fs::write(data.join("server.conf"), config)?;
        let mut command = bound_to_us(&self.program);
        start_on(port, command.args(["-c", "server.conf"]), data)
    }

    fn live(&self) -> Option<(&'static dyn Wire, Option<u64>)> {
        self.jetstream.is_none().then_some((&Nats, None))
    }

    fn store(&self) -> Option<Store> {
        self.jetstream.map(|_| Store::JetStream)
    }
}
