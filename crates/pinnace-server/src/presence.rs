//! Arrivals and departures of clients: roster, log and topics told in one place.

use std::net::SocketAddr;

use crate::clock::now_us;
use crate::collector::Command;
use crate::harbour::Harbour;

impl Harbour {
    /// A NATS client said who it is.
    pub(crate) fn arrived(&self, connection: u64, name: Option<&str>, address: SocketAddr) {
        let name = name
            .filter(|name| !name.is_empty())
            .map_or_else(|| address.to_string(), shown);
        tracing::info!(connection, name, %address, "client connected");
        let presence = self.roster.arrive(connection, name, address, now_us());
        self.publish("pinnace.client.joined", &presence);
    }

    /// A client asked for a name of its own; says which it got, `None` when it is not on the roster.
    pub(crate) fn renamed(
        &self,
        connection: u64,
        wanted: &str,
        instance: Option<String>,
    ) -> Option<String> {
        let renamed = self.roster.rename(connection, wanted, instance)?;
        let name = renamed.presence.name.clone();
        if renamed.is_new {
            tracing::info!(connection, name, wanted, "client named");
            self.publish("pinnace.client.joined", &renamed.presence);
        }
        Some(name)
    }

    /// A NATS connection closed.
    pub(crate) fn departed(&self, connection: u64, reason: &str) {
        let Some(presence) = self.roster.leave(connection, reason, now_us()) else {
            return;
        };
        tracing::info!(connection, name = presence.name, reason, "client left");
        self.publish("pinnace.client.left", &presence);
        if let Some(bench) = presence.bench {
            // The collector only goes away with the server.
            let _ = self.collector.send(Command::Left { bench, connection });
        }
    }
}

/// A name as it may be logged and listed: bounded, and without control characters.
fn shown(name: &str) -> String {
    name.chars()
        .take(256)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
