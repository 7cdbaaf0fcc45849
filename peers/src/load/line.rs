//! A connection to a server: made, greeted and fenced with blocking calls.
//!
//! Invariant: a line that is handed out has been fenced, so the server has carried out all that was
//! asked of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

use super::wire::{Item, Wire};
use crate::limits::{EXCHANGE_MAX, FRAME_BYTES_MAX};

const READ_BYTES: usize = 64 << 10;

/// A server as the generator sees it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its protocol.
    pub wire: &'a dyn Wire,
    /// Address and port; `None` is the floor: publishers are wired to subscribers directly.
    pub address: Option<&'a str>,
    /// Most messages under way from one publisher, for servers that cut off who is behind.
    pub window: Option<u64>,
}

/// A blocking connection.
pub struct Line<'a> {
    wire: &'a dyn Wire,
    stream: TcpStream,
    bytes: Vec<u8>,
    taken: usize,
}

impl<'a> Line<'a> {
    /// Connects and subscribes to `topics`, numbered from 1.
    ///
    /// # Errors
    /// When the server does not answer in time or refuses.
    pub fn open(target: &Target<'a>, number: usize, topics: &[&str]) -> Result<Self> {
        let address = target.address.context("the floor has no server")?;
        let stream = TcpStream::connect(address)
            .with_context(|| format!("connection {number} to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(EXCHANGE_MAX))?;
        stream.set_write_timeout(Some(EXCHANGE_MAX))?;
        let mut line = Self {
            wire: target.wire,
            stream,
            bytes: Vec::new(),
            taken: 0,
        };
        let mut first = Vec::new();
        line.wire.hello(&mut first, number);
        for (id, topic) in (1..).zip(topics) {
            line.wire.subscribe(&mut first, topic, id);
        }
        line.wire.fence(&mut first);
        line.send(&first)?;
        while line.receive()?.0 != Item::Fence {}
        Ok(line)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server does not take them in time.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next item, and the bytes of a message or an answer. What the server asks is answered.
    ///
    /// # Errors
    /// When nothing comes in time, or a complaint.
    pub fn receive(&mut self) -> Result<(Item, &[u8])> {
        loop {
            if let Some((length, item)) = self.wire.next(&self.bytes[self.taken..])? {
                let start = self.taken;
                self.taken += length;
                let range = match &item {
                    Item::Message(range) | Item::Answer(range) => range.clone(),
                    Item::Asked(answer) => {
                        self.stream.write_all(answer)?;
                        continue;
                    }
                    Item::Fence | Item::Other => 0..0,
                };
                return Ok((item, &self.bytes[start..][range]));
            }
            self.read()?;
        }
    }

    /// Reads what there is, keeping what is not used up.
    fn read(&mut self) -> Result<()> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let kept = self.bytes.len();
        ensure!(kept < FRAME_BYTES_MAX, "a frame without an end");
        self.bytes.resize(kept + READ_BYTES, 0);
        let count = self.stream.read(&mut self.bytes[kept..]);
        self.bytes
            .truncate(kept + count.as_ref().copied().unwrap_or(0));
        if count.context("waiting for the server")? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }

    /// Sends a request whose answer is a message, and hands the message out.
    ///
    /// # Errors
    /// As [`Line::send`] and [`Line::receive`].
    pub fn ask(&mut self, topic: &str, reply: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let mut frame = self.wire.publish(topic, Some(reply), payload.len());
        frame.bytes[frame.payload.clone()].copy_from_slice(payload);
        self.send(&frame.bytes)?;
        loop {
            if let (Item::Message(_), bytes) = self.receive()? {
                return Ok(bytes.to_vec());
            }
        }
    }

    /// The socket, for the batched loops; nothing may be waiting on it.
    ///
    /// # Errors
    /// When bytes are left over.
    pub fn into_stream(self) -> Result<TcpStream> {
        let left = &self.bytes[self.taken..];
        ensure!(
            left.is_empty(),
            "{} bytes came after the fence: {:?}",
            left.len(),
            String::from_utf8_lossy(left)
        );
        Ok(self.stream)
    }
}
