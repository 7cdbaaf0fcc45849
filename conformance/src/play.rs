//! Plays a script against a server and writes down what was answered.
//!
//! Invariant: two servers that answer alike give the same transcript, line by line; what differs
//! between any two processes (names, ports, numbers of connections) is levelled in `normal`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::normal::normal;
use crate::script::{Piece, RUN_BYTES, Script, Step};
use crate::servers::Server;
use crate::unread::Inquiry;
use crate::wire::{Connection, Received};

/// What a modern client says first.
const CLIENT: &[u8] = b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";

/// Plays the whole script, once for each place to cut, and gives its transcript. Runs that were
/// answered alike are written down once.
pub(crate) fn play(script: &Script, server: &Server, run: &mut u32) -> Vec<String> {
    let whole = once(script, server, 0, run);
    let mut transcript = Vec::new();
    let mut same = 0;
    for cut in 1..=script.cuts() {
        let lines = once(script, server, cut, run);
        if lines == whole {
            same += 1;
        } else {
            transcript.push(format!("cut after {cut} bytes:"));
            transcript.extend(lines);
        }
    }
    if script.cuts() > 0 {
        transcript.push(format!(
            "whole, and cut at {same} of {} places:",
            script.cuts()
        ));
    }
    transcript.extend(whole);
    transcript
}

fn once(script: &Script, server: &Server, cut: usize, run: &mut u32) -> Vec<String> {
    *run += 1;
    let mut player = Player {
        server,
        cut,
        run: format!("r{run:0width$}", width = RUN_BYTES - 1),
        connections: BTreeMap::new(),
        transcript: Vec::new(),
    };
    for step in &script.steps {
        if let Err(error) = player.step(step) {
            // The rest would only repeat it.
            player.transcript.push(format!("({error:#})"));
            break;
        }
    }
    player.transcript
}

struct Player<'a> {
    server: &'a Server,
    cut: usize,
    run: String,
    connections: BTreeMap<String, Connection>,
    transcript: Vec<String>,
}

impl Player<'_> {
    fn connection(&mut self, name: &str) -> Result<&mut Connection> {
        self.connections
            .get_mut(name)
            .with_context(|| format!("connection {name} was not opened"))
    }

    fn note(&mut self, name: &str, line: &str) {
        let line = normal(line).replace(&self.run, "<run>");
        self.transcript.push(format!("{name}: {line}"));
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Open(names) => names.iter().try_for_each(|name| {
                self.connect(name)?;
                let received = self.connection(name)?.receive()?;
                self.record(name, received);
                Ok(())
            }),
            Step::Client(names) => names.iter().try_for_each(|name| {
                self.connect(name)?;
                let connection = self.connection(name)?;
                connection.receive()?;
                connection.send(CLIENT);
                connection.send(b"PING\r\n");
                connection.receive()?;
                Ok(())
            }),
            Step::Knock(name) => self.connect(name),
            Step::Send { to, bytes, split } => self.send(to, bytes, *split),
            Step::Fence(names) => names.iter().try_for_each(|name| {
                for line in self.fence(name)? {
                    self.note(name, &line);
                }
                Ok(())
            }),
            Step::Until { from, text } => self.read_until(from, text),
            Step::Closed(name) => self.read_to_end(name),
            Step::End(name) => {
                self.connection(name)?.end();
                self.read_to_end(name)
            }
            Step::Share(shares) => self.share(shares),
            Step::Drain => self.server.drain(),
        }
    }

    fn connect(&mut self, name: &str) -> Result<()> {
        let connection = Connection::open(self.server.address)?;
        self.connections.insert(name.to_owned(), connection);
        Ok(())
    }

    fn send(&mut self, to: &str, pieces: &[Piece], split: bool) -> Result<()> {
        let (run, cut) = (self.run.clone(), self.cut);
        let inquiry = Inquiry::new()?;
        let connection = self.connection(to)?;
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(some) => bytes.extend_from_slice(some),
                Piece::Run => bytes.extend_from_slice(run.as_bytes()),
                Piece::Signature(seed) => {
                    let nonce = connection.nonce.as_deref().unwrap_or_default();
                    bytes.extend_from_slice(signature(seed, nonce)?.as_bytes());
                }
            }
        }
        if split && cut > 0 {
            connection.send(&bytes[..cut]);
            connection.wait_until_read(&inquiry)?;
            bytes.drain(..cut);
        }
        connection.send(&bytes);
        Ok(())
    }

    fn record(&mut self, name: &str, received: Received) -> bool {
        match received {
            Received::Line(line) => {
                self.note(name, &line);
                false
            }
            Received::End => {
                self.transcript.push(format!("{name}: (closed)"));
                true
            }
        }
    }

    /// Everything before the answer to a PING, in order.
    fn fence(&mut self, name: &str) -> Result<Vec<String>> {
        let connection = self.connection(name)?;
        connection.send(b"PING\r\n");
        let mut lines = Vec::new();
        loop {
            match connection.receive()? {
                Received::Line(line) if line == "PONG" => return Ok(lines),
                // A server may ask whether somebody is there whenever it likes.
                Received::Line(line) if line == "PING" => {}
                Received::Line(line) => lines.push(line),
                Received::End => {
                    lines.push("(closed)".to_owned());
                    return Ok(lines);
                }
            }
        }
    }

    fn read_until(&mut self, name: &str, text: &str) -> Result<()> {
        loop {
            let received = self.connection(name)?.receive()?;
            let found = matches!(&received, Received::Line(line) if line.contains(text));
            let asks = received == Received::Line("PING".to_owned());
            if asks && !found {
                continue;
            }
            if self.record(name, received) || found {
                return Ok(());
            }
        }
    }

    fn read_to_end(&mut self, name: &str) -> Result<()> {
        loop {
            let received = self.connection(name)?.receive()?;
            let asks = received == Received::Line("PING".to_owned());
            if !asks && self.record(name, received) {
                return Ok(());
            }
        }
    }

    fn share(&mut self, shares: &[(String, usize, usize)]) -> Result<()> {
        let mut all = 0;
        let mut verdicts = Vec::new();
        for (name, low, high) in shares {
            let lines = self.fence(name)?;
            let is_message = |line: &&String| line.starts_with("MSG ") || line.starts_with("HMSG ");
            let count = lines.iter().filter(is_message).count();
            all += count;
            verdicts.push(match (*low..=*high).contains(&count) {
                true => format!("{name} has {low} to {high}"),
                false => format!("{name} has {count}, not {low} to {high}"),
            });
            for line in lines.iter().filter(|line| !is_message(line)) {
                self.note(name, line);
            }
        }
        self.transcript
            .push(format!("{all} messages: {}", verdicts.join(", ")));
        Ok(())
    }
}

/// The nonce signed, as CONNECT carries it: base64 for URLs without padding.
fn signature(seed: &str, nonce: &str) -> Result<String> {
    let pair = nkeys::KeyPair::from_seed(seed).context("the seed of a script")?;
    let signature = pair.sign(nonce.as_bytes())?;
    let mut text = String::new();
    for chunk in signature.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let digit = word >> (18 - 6 * place) & 63;
            text.push(char::from(BASE64[digit as usize]));
        }
    }
    Ok(text)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_86_characters_for_urls() {
        let pair = nkeys::KeyPair::new_user();
        let signature = signature(&pair.seed().unwrap(), "nonce").unwrap();
        assert_eq!(signature.len(), 86);
        assert!(signature.bytes().all(|byte| BASE64.contains(&byte)));
    }
}
