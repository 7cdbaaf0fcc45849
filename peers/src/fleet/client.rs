//! One simulated client: connects, joins, and tells its script in order and on time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use async_nats::{Client, ConnectOptions, Request};
use pinnace_proto::api::{JoinRequest, Joined};
use pinnace_proto::{Body, DOCUMENT_VERSION, Event};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::http;
use super::script::{Script, TICK_US};
use super::tally::Tally;
use crate::limits::{ACKNOWLEDGE_MAX, ACKNOWLEDGE_TRIES, EXCHANGE_MAX};

/// Where the fleet reports to, and what it takes part in.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address and port of the NATS door.
    pub nats: String,
    /// Address and port of the HTTP door.
    pub http: String,
    /// The run.
    pub run: String,
    /// Ticks of the run.
    pub ticks: u64,
    /// How long a tick takes on the wall: a second, or less to press harder.
    pub tick: Duration,
}

/// A client that has joined its run.
pub struct Member {
    target: Arc<Target>,
    tally: Arc<Tally>,
    nats: Client,
    name: String,
    instance: String,
    number: u32,
    told: u64,
}

impl Member {
    /// Connects and joins.
    ///
    /// # Errors
    /// When a door does not answer or the server refuses the client.
    pub async fn join(target: Arc<Target>, tally: Arc<Tally>, number: u32) -> Result<Self> {
        let name = format!("client-{number:04}");
        let instance = format!("{number:016x}");
        let nats = ConnectOptions::new()
            .name(&name)
            .connection_timeout(EXCHANGE_MAX)
            .ignore_discovered_servers()
            .connect(&target.nats)
            .await
            .with_context(|| format!("{name} cannot connect"))?;
        let request = serde_json::to_vec(&JoinRequest {
            v: DOCUMENT_VERSION,
            client: name.clone(),
            instance: instance.clone(),
            connection: nats.server_info().client_id,
            heartbeat_us: Script::heartbeat_us(),
        })?;
        let path = format!("/-/runs/{}/clients", target.run);
        let answer = http::exchange(&target.http, "POST", &path, &request).await?;
        let joined: Joined = serde_json::from_slice(&answer).context("answer to the join")?;
        if joined.run != target.run {
            bail!("{name} joined run {} instead of {}", joined.run, target.run);
        }
        Ok(Self {
            target,
            tally,
            nats,
            name,
            instance,
            number,
            told: 0,
        })
    }

    /// Tells the whole script; tick 0 is at `start`.
    ///
    /// # Errors
    /// When an event is not acknowledged after all tries.
    pub async fn tell(mut self, start: Instant) -> Result<()> {
        let mut script = Script::new(self.number, self.target.ticks);
        for tick in 0..=self.target.ticks {
            let due = start + self.target.tick * u32::try_from(tick)?;
            sleep_until(due).await;
            let bodies = script.at(tick);
            bodies.iter().for_each(|_| self.tally.due());
            for body in bodies {
                self.publish(tick, body, due).await?;
            }
        }
        self.nats.drain().await?;
        Ok(())
    }

    async fn publish(&mut self, tick: u64, body: Body, due: Instant) -> Result<()> {
        self.told += 1;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let event = Event {
            v: DOCUMENT_VERSION,
            run: self.target.run.clone(),
            client: self.name.clone(),
            instance: self.instance.clone(),
            n: self.told,
            at_us: u64::try_from(wall.as_micros())?,
            elapsed_us: tick * TICK_US,
            body,
        };
        let payload = serde_json::to_vec(&event)?;
        let bytes = payload.len();
        let topic = event.topic();
        for _ in 0..ACKNOWLEDGE_TRIES {
            let request = Request::new()
                .payload(payload.clone().into())
                .timeout(Some(ACKNOWLEDGE_MAX));
            let began = Instant::now();
            let answer = self.nats.send_request(topic.clone(), request).await;
            let stored = answer.ok().and_then(|answer| {
                let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
                answer["seq"].as_u64()
            });
            if stored.is_some() {
                let now = Instant::now();
                self.tally.acknowledged(bytes, now - began, now - due);
                return Ok(());
            }
            self.tally.repeated();
        }
        bail!("{topic}: not acknowledged after {ACKNOWLEDGE_TRIES} tries");
    }
}
