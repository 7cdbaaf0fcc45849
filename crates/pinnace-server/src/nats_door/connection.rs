//! One connection: reads, hands operations to the session, pings, and ends in an orderly way.
//!
//! Reads go to a buffer of the thread, so an idle connection holds none; only an operation that has
//! not wholly arrived is kept with the connection.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::sync::Arc;

use pinnace_nats::{PING, decode};
use pinnace_topics::Flush;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::outbox::Outbox;
use super::session::{Close, Session};
use crate::caller::Caller;
use crate::harbour::Harbour;
use crate::limits::{
    LINGER, PAUSE_MAX, PAYLOAD_BYTES_MAX, PING_INTERVAL, PINGS_UNANSWERED_MAX, READ_BYTES,
};

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Serves one connection to its end.
pub(super) async fn run(stream: TcpStream, caller: Caller, harbour: Arc<Harbour>) {
    let Some(_admitted) = harbour.admit() else {
        tracing::warn!(address = %caller.address, "maximum connections exceeded");
        let _ = stream.try_write(b"-ERR 'maximum connections exceeded'\r\n");
        return;
    };
    let _counted = harbour.metrics.nats.connections.enter();
    harbour.metrics.nats.connections_ever.add(1);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection closed before it was greeted");
        return;
    }
    let outbox = Arc::new(Outbox::new(stream, &harbour));
    let writer = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.drain_when_blocked().await }
    });
    let mut session = Session::new(harbour.clone(), caller, outbox.clone());
    session.greet();
    outbox.flush();
    let close = converse(&mut session, &outbox, &harbour).await;
    session.batch.flush();
    session.fold(None);
    session.end(&close.reason);
    tracing::debug!(
        connection = session.connection,
        reason = close.reason,
        "connection closed"
    );
    say_farewell(&outbox, close.error.as_deref()).await;
    writer.abort();
}

/// Reads and carries out operations until something ends the connection.
async fn converse(session: &mut Session, outbox: &Outbox, harbour: &Harbour) -> Close {
    let stopped = harbour.stopped();
    tokio::pin!(stopped);
    let mut unfinished = Vec::new();
    let mut next_ping = Instant::now() + PING_INTERVAL;
    let mut pings_unanswered = 0;
    loop {
        tokio::select! {
            ready = outbox.socket().readable() => {
                if ready.is_err() {
                    return closed("read error");
                }
                let began = session.sample();
                match read_and_handle(session, outbox, &mut unfinished) {
                    Ok(true) => {
                        next_ping = Instant::now() + PING_INTERVAL;
                        pings_unanswered = 0;
                    }
                    Ok(false) => {}
                    Err(close) => return close,
                }
                let behind = session.batch.flush();
                session.fold(began);
                if behind {
                    // A receiver is far behind: its publisher gives it a moment.
                    let _ = timeout(PAUSE_MAX, harbour.drained.notified()).await;
                }
                outbox.flush();
            }
            () = outbox.attention.notified() => {
                for sid in outbox.used_up() {
                    session.forget(&sid);
                }
            }
            () = tokio::time::sleep_until(next_ping) => {
                if pings_unanswered == PINGS_UNANSWERED_MAX {
                    return Close {
                        error: Some("Stale Connection".to_owned()),
                        reason: "stale connection: pings were not answered".to_owned(),
                    };
                }
                pings_unanswered += 1;
                next_ping = Instant::now() + PING_INTERVAL;
                outbox.add(|bytes| bytes.extend_from_slice(PING));
                outbox.flush();
                outbox.relax();
            }
            () = &mut stopped => {
                return Close {
                    error: Some("Server Shutdown".to_owned()),
                    reason: "server shutdown".to_owned(),
                };
            }
        }
        if let Some(reason) = outbox.closed() {
            let slow = u64::from(reason == "slow consumer");
            harbour.metrics.nats.slow_consumers.add(slow);
            let error = (reason == "slow consumer").then(|| "Slow Consumer".to_owned());
            return Close {
                error,
                reason: reason.to_owned(),
            };
        }
    }
}

fn closed(reason: &str) -> Close {
    Close {
        error: None,
        reason: reason.to_owned(),
    }
}

/// Reads once and carries out what has wholly arrived; true when something was read.
fn read_and_handle(
    session: &mut Session,
    outbox: &Outbox,
    unfinished: &mut Vec<u8>,
) -> Result<bool, Close> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let count = match outbox.socket().try_read(buffer) {
            Ok(0) => return Err(closed("client closed the connection")),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(closed(&format!("read error: {error}"))),
        };
        session.received_bytes(count);
        if unfinished.is_empty() {
            let handled = handle_all(session, &buffer[..count])?;
            unfinished.extend_from_slice(&buffer[handled..count]);
        } else {
            unfinished.extend_from_slice(&buffer[..count]);
            let handled = handle_all(session, unfinished)?;
            unfinished.drain(..handled);
            if unfinished.is_empty() {
                *unfinished = Vec::new();
            }
        }
        Ok(true)
    })
}

/// Carries out every complete operation at the front of `bytes` and says how long they were.
fn handle_all(session: &mut Session, bytes: &[u8]) -> Result<usize, Close> {
    let mut handled = 0;
    while let Some((op, length)) = decode(&bytes[handled..], PAYLOAD_BYTES_MAX)? {
        session.handle(&op)?;
        handled += length;
    }
    Ok(handled)
}

/// Sends the last words and closes, so that they are not lost to a reset: what the client still
/// sends is read and thrown away for a moment.
async fn say_farewell(outbox: &Outbox, error: Option<&str>) {
    if let Some(error) = error {
        outbox.add(|bytes| pinnace_nats::write_err(bytes, error));
    }
    outbox.close("closed");
    let farewell = async {
        outbox.drain().await?;
        rustix::net::shutdown(outbox.socket(), rustix::net::Shutdown::Write)?;
        let mut scratch = [0; 4_096];
        loop {
            outbox.socket().readable().await?;
            match outbox.socket().try_read(&mut scratch) {
                Ok(0) => return Ok::<(), std::io::Error>(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let _ = timeout(LINGER, farewell).await;
}
