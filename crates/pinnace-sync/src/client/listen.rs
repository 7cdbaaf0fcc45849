//! Listens to the server, and lets it hear that the client is still there.
//!
//! Left to others: what is done about it.

use std::io::Read;
use std::time::Duration;

use pinnace_proto::sync::Refused;

use super::Mirror;
use super::greeting::Frames;
use super::ledger::{Over, When};
use super::outbox::Way;
use crate::server::{Failure, FailureCode};
use crate::wire::{FrameKind, WireError, read_frame, read_parts, read_rows};

/// How often something is said when there is nothing to say.
const PING: Duration = Duration::from_secs(5);

impl Mirror<'_> {
    /// Listens to the server until the session is over, first to what it has said already.
    pub(super) fn listen(&self, early: Frames, reader: &mut dyn Read) {
        let (mut reader, mut early) = (reader, early.into_iter());
        let mut body = Vec::new();
        let over = loop {
            let heard = match early.next() {
                Some((kind, bytes)) => {
                    body = bytes;
                    Ok(kind)
                }
                None => read_frame(&mut reader, &mut body),
            };
            match heard {
                Ok(FrameKind::Refused) => {
                    let refused = serde_json::from_slice::<Refused>(&body);
                    let (code, detail) = refused.map_or_else(
                        |error| ("protocol".to_owned(), error.to_string()),
                        |refused| (refused.code, refused.detail),
                    );
                    break Over::Refused { code, detail };
                }
                Ok(kind) => {
                    if let Err(error) = self.hear(kind, &body) {
                        break Over::Lost(error.to_string());
                    }
                }
                Err(error) => break Over::Lost(error.to_string()),
            }
        };
        self.ledger.end(over);
    }

    fn hear(&self, kind: FrameKind, body: &[u8]) -> Result<(), WireError> {
        let number = || body.try_into().map(u64::from_le_bytes);
        let broken = WireError::Value("a number has eight bytes");
        match kind {
            FrameKind::Committed => self.ledger.committed(number().map_err(|_| broken)?),
            FrameKind::Durable => self.ledger.durable(number().map_err(|_| broken)?),
            FrameKind::Failed => {
                let (seq, rest) = body.split_first_chunk().ok_or(broken)?;
                let (code, detail) = rest.split_first().ok_or(broken)?;
                let code = FailureCode::from_number(*code).ok_or(broken)?;
                let detail = String::from_utf8_lossy(detail).into_owned();
                let failure = Failure { code, detail };
                self.ledger.failed(u64::from_le_bytes(*seq), failure);
            }
            FrameKind::Rows => {
                let mut paths = Vec::new();
                {
                    let mut state = self.ledger.lock();
                    let mut changes = Vec::new();
                    read_rows(body, |path, facts| {
                        state.take_row(path, facts, &mut changes);
                        paths.push(path.to_vec());
                    })?;
                    state.log(&changes);
                }
                self.again(paths);
            }
            FrameKind::Ask => {
                let ask = serde_json::from_slice(body)
                    .map_err(|_| WireError::Value("a question does not fit its schema"))?;
                self.ledger.asked(ask);
            }
            FrameKind::Parts => {
                let (stream, parts) = read_parts(body)?;
                self.streams.answered(stream, parts);
            }
            FrameKind::Pong => {}
            _ => return Err(WireError::Value("a frame that has no place here")),
        }
        Ok(())
    }

    pub(super) fn ping(&self) {
        while !self.is_over() {
            self.ledger.wait_at_most(PING, |_| false);
            if !self.is_over() {
                self.send(Way::Control, FrameKind::Ping, &[]);
                self.ledger.checkpoint(When::Quiet);
            }
        }
    }
}
