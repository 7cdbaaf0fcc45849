//! Mosquitto, MQTT 3.1.1 at QoS 0.

use std::path::Path;

use anyhow::Result;

use super::{Broker, Served, bound_to_us, free_port, start_on, version_of};
use crate::load::wire::{Wire, mqtt::Mqtt};

const PROGRAM: &str = "mosquitto";
/// Messages under way: it drops what a socket does not take.
const WINDOW: u64 = 5_000;

/// A Mosquitto server.
#[derive(Debug)]
pub struct Mosquitto;

impl Broker for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn version(&self) -> Result<String> {
        version_of(Path::new(PROGRAM), "-h", "apt-get install mosquitto")
    }

    fn start(&self, data: &Path) -> Result<Served> {
        let port = free_port()?;
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             set_tcp_nodelay true\npersistence false\nlog_type error\nuser root\n"
        );
        std::fs::write(data.join("mosquitto.conf"), config)?;
        let mut command = bound_to_us(Path::new(PROGRAM));
        start_on(port, command.args(["-c", "mosquitto.conf"]), data)
    }

    fn live(&self) -> Option<(&'static dyn Wire, Option<u64>)> {
        Some((&Mqtt, Some(WINDOW)))
    }
}
