//! One connection: reads, hands operations to the session, pings, and ends in an orderly way.
//!
//! Reads go to a buffer of the thread, so an idle connection holds none; only an operation that has
//! not wholly arrived is kept with the connection.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use pinnace_nats::{PING, decode};
use pinnace_topics::Flush;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::Interest;
use tokio::time::{Instant, timeout};

use super::close::Close;
use super::outbox::{Outbox, REPLACED, SLOW_CONSUMER};
use super::session::Session;
use crate::harbour::Harbour;
use crate::lanes::Arriving;
use crate::limits::{
    BATCH_BYTES_MAX, FAREWELL_MAX, LINGER, LOOPBACK_SEND_BYTES, PAUSE_MAX, READ_BYTES,
};

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 2 * READ_BYTES]);
}

/// Serves one connection to its end.
pub(super) async fn run(stream: Arriving, address: SocketAddr, harbour: Arc<Harbour>) {
    let admitted = harbour.admit_nats();
    let _counted = harbour.metrics.nats.connections.enter();
    harbour.metrics.nats.connections_ever.add(1);
    let landed = stream.land().and_then(|stream| {
        stream.set_nodelay(true)?;
        if address.ip().is_loopback() {
            set_socket_send_buffer_size(&stream, LOOPBACK_SEND_BYTES)?;
        }
        Ok(stream)
    });
    let stream = match landed {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a connection closed before it was greeted");
            return;
        }
    };
    let outbox = Arc::new(Outbox::new(stream, &harbour));
    let mut session = Session::new(harbour.clone(), address, outbox.clone());
    session.greet();
    outbox.flush();
    let close = match &admitted {
        Some(_) => converse(&mut session, &outbox, &harbour).await,
        None => Close::with("maximum connections exceeded"),
    };
    session.batch.flush();
    session.counts.fold(&harbour.metrics.nats, None);
    session.end(&close.reason);
    tracing::debug!(
        connection = session.connection,
        reason = close.reason,
        "connection closed"
    );
    say_farewell(&outbox, close.error.as_deref()).await;
}

/// Reads and carries out operations until something ends the connection.
async fn converse(session: &mut Session, outbox: &Outbox, harbour: &Harbour) -> Close {
    let limits = &harbour.nats_limits;
    let (stopped, go) = (harbour.stopped(), harbour.go.notified());
    tokio::pin!(stopped, go);
    let mut is_stopping = false;
    let mut unfinished = Vec::new();
    let must_be_known = Instant::now() + limits.auth_timeout;
    let mut next_ping = Instant::now() + limits.ping_interval;
    let mut pings_unanswered = 0;
    loop {
        let wanted = match outbox.is_blocked() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        // One future for both directions and one for both deadlines: ten thousand idle connections keep theirs.
        let deadline = match session.is_known() {
            true => next_ping,
            false => next_ping.min(must_be_known),
        };
        tokio::select! {
            ready = outbox.socket().ready(wanted) => {
                let Ok(ready) = ready else {
                    return closed("socket error");
                };
                if ready.is_writable() && outbox.is_blocked() {
                    outbox.resume();
                }
                if ready.is_readable() {
                    match take_in(session, outbox, harbour, &mut unfinished).await {
                        Ok(true) => {
                            next_ping = Instant::now() + limits.ping_interval;
                            pings_unanswered = 0;
                        }
                        Ok(false) => {}
                        Err(close) => return close,
                    }
                }
            }
            () = outbox.attention.notified() => {
                for sid in outbox.used_up() {
                    session.forget_used_up(&sid);
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                if !session.is_known() && must_be_known <= Instant::now() {
                    return Close::with("Authentication Timeout");
                }
                if pings_unanswered == limits.pings_unanswered_max {
                    return Close {
                        error: Some("Stale Connection".to_owned()),
                        reason: "stale connection: pings were not answered".to_owned(),
                    };
                }
                pings_unanswered += 1;
                next_ping = Instant::now() + limits.ping_interval;
                outbox.add(|bytes| bytes.extend_from_slice(PING));
                outbox.flush();
                outbox.relax();
            }
            () = &mut stopped, if !is_stopping => {
                is_stopping = true;
                session.send_away();
                outbox.flush();
            }
            () = &mut go => return closed("server shutdown"),
        }
        session.slow.advance();
        if let Some(reason) = outbox.closed() {
            return ended(reason, harbour);
        }
    }
}

/// Carries out what is there to be read and sends on what it leads to; true when there was something.
async fn take_in(
    session: &mut Session,
    outbox: &Outbox,
    harbour: &Harbour,
    unfinished: &mut Vec<u8>,
) -> Result<bool, Close> {
    let began = session.counts.begin_batch();
    let any = read_and_handle(session, outbox, unfinished)?;
    let behind = session.flush();
    session.counts.fold(&harbour.metrics.nats, began);
    if behind {
        pause(outbox, harbour).await;
    }
    outbox.flush();
    Ok(any)
}

/// The outbox was closed.
fn ended(reason: &str, harbour: &Harbour) -> Close {
    if reason == SLOW_CONSUMER {
        harbour.metrics.nats.slow_consumers.add(1);
    }
    let error = match reason {
        SLOW_CONSUMER => Some("Slow Consumer".to_owned()),
        REPLACED => Some("Replaced By Another Reader".to_owned()),
        _ => None,
    };
    let reason = reason.to_owned();
    Close { error, reason }
}

/// A receiver is far behind: its publisher gives it a moment, and its own receiving goes on.
async fn pause(outbox: &Outbox, harbour: &Harbour) {
    let over = tokio::time::sleep(PAUSE_MAX);
    let drained = harbour.drained.notified();
    tokio::pin!(over, drained);
    loop {
        tokio::select! {
            () = &mut over => return,
            () = &mut drained => return,
            ready = outbox.socket().writable(), if outbox.is_blocked() => {
                if ready.is_err() {
                    return;
                }
                outbox.resume();
            }
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
        // What is not whole is put in front of what follows, unless it is long.
        let kept = match unfinished.len() {
            length @ 0..=READ_BYTES => length,
            _ => 0,
        };
        buffer[..kept].copy_from_slice(&unfinished[..kept]);
        let read = &mut buffer[kept..kept + READ_BYTES];
        let count = match outbox.socket().try_read(read) {
            Ok(0) => return Err(closed("client closed the connection")),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(closed(&format!("read error: {error}"))),
        };
        outbox.count_received(count);
        if kept == unfinished.len() {
            let bytes = &buffer[..kept + count];
            let handled = handle_all(session, bytes)?;
            unfinished.clear();
            unfinished.extend_from_slice(&bytes[handled..]);
        } else {
            unfinished.extend_from_slice(&buffer[..count]);
            let handled = handle_all(session, unfinished)?;
            unfinished.drain(..handled);
        }
        if unfinished.is_empty() {
            *unfinished = Vec::new();
        }
        Ok(true)
    })
}

/// Carries out every complete operation at the front of `bytes` and says how long they were.
fn handle_all(session: &mut Session, bytes: &[u8]) -> Result<usize, Close> {
    let mut handled = 0;
    loop {
        let rest = &bytes[handled..];
        // Whoever has to say who it is says so first; one letter is enough to see that it does not.
        if !session.is_known()
            && rest
                .first()
                .is_some_and(|byte| !matches!(byte, b'C' | b'c'))
        {
            return Err(Close::with("Authorization Violation"));
        }
        let Some((op, length)) = decode(rest, &session.bounds)? else {
            return Ok(handled);
        };
        session.handle(&op)?;
        handled += length;
        if session.batch.bytes() > BATCH_BYTES_MAX {
            session.flush_within();
        }
    }
}

/// Sends the last words and closes, so that they are not lost to a reset: what the client still
/// sends is read and thrown away for a moment.
async fn say_farewell(outbox: &Outbox, error: Option<&str>) {
    if let Some(error) = error {
        outbox.add_farewell(|bytes| pinnace_nats::write_err(bytes, error));
    }
    // Whoever is behind has all of it to read before the words that say why.
    let linger = match outbox.closed() {
        Some(SLOW_CONSUMER | REPLACED) => FAREWELL_MAX,
        _ => LINGER,
    };
    outbox.close("closed");
    let farewell = async {
        outbox.drain().await?;
        rustix::net::shutdown(outbox.socket(), rustix::net::Shutdown::Write)?;
        // Not in the task itself, where it would take room as long as the connection lasts.
        let mut scratch = vec![0; 4_096];
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
    let _ = timeout(linger, farewell).await;
}
