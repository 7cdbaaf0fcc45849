//! `/-/shares`: what is mirrored here, questions about it, and the connections of mirrors.
//!
//! Invariant: a connection that became a mirror's is read and written by a thread of its own, and counts among the
//! server's connections until it ends. Left to others: everything about mirroring (`pinnace-sync`).

use std::io::{self, BufWriter, Cursor, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::Waited;
use pinnace_sync::archive::PackError;
use pinnace_sync::server::{DeskError, Link, Shares};
use serde::Serialize;
use tokio::sync::mpsc;

use super::answer::{self, Answer, Failure};
use super::line::Socket;
use super::request::Payload;
use super::{Context, Next, request, socket, system};
use crate::caller::Action;
use crate::limits::{
    ARCHIVE_PIECE_BYTES, ARCHIVE_PIECES_AHEAD, MIRROR_READ_SILENCE_MAX, MIRROR_WRITE_SILENCE_MAX,
};

/// What a connection becomes that wants to mirror.
const PROTOCOL: &str = "pinnace-sync/1";

/// Everything under `/-/shares`.
pub(super) async fn handle(
    context: &Context,
    rest: &[&str],
    request: Request<Payload>,
) -> Result<Answer, Failure> {
    if let [share, ..] = rest {
        pinnace_proto::name::check(share)
            .map_err(|error| Failure::bad_request("bad-name", error.to_string()))?;
    }
    match rest {
        [] => {
            look(&request)?;
            ask(context, |shares| shares.list()).await
        }
        [share] => {
            look(&request)?;
            let share = (*share).to_owned();
            ask(context, move |shares| shares.info(&share)).await
        }
        [share, "trash"] => {
            look(&request)?;
            let share = (*share).to_owned();
            ask(context, move |shares| shares.trash(&share)).await
        }
        [share, "trash", id] => {
            permit(context, &request, "GET")?;
            let inside = request::parameters(request.uri(), &["path"])?.pop();
            let inside = inside.map(|(_, path)| path).unwrap_or_default();
            let id = id.parse().map_err(|_| no_thing(share))?;
            let share = (*share).to_owned();
            let shares = context.harbour.shares.clone();
            restore(shares, share, id, inside).await
        }
        [share, "wait"] => {
            permit(context, &request, "POST")?;
            request::parameters(request.uri(), &[])?;
            let share = (*share).to_owned();
            let waited = move |shares: &Shares| {
                let seq = shares.wait(&share)?;
                let v = DOCUMENT_VERSION;
                Ok(Waited { v, seq })
            };
            ask(context, waited).await
        }
        [share, "verify"] => {
            permit(context, &request, "POST")?;
            let deep = !request::parameters(request.uri(), &["deep"])?.is_empty();
            let share = (*share).to_owned();
            ask(context, move |shares| shares.verify(&share, deep)).await
        }
        [share, "session"] => {
            permit(context, &request, "GET")?;
            request::parameters(request.uri(), &[])?;
            board(context, share, request)
        }
        _ => Err(Failure::not_found(
            "no-such-path",
            "a share has trash, wait, verify and session",
        )),
    }
}

fn look(request: &Request<Payload>) -> Result<(), Failure> {
    system::only_get(request)?;
    request::parameters(request.uri(), &[]).map(|_| ())
}

/// Only those may do it who may do everything.
fn permit(
    context: &Context,
    request: &Request<Payload>,
    method: &'static str,
) -> Result<(), Failure> {
    if request.method() != method {
        return Err(Failure::method_not_allowed(method));
    }
    if context.caller.may(Action::Maintain) {
        Ok(())
    } else {
        Err(Failure::forbidden())
    }
}

/// Asks on a thread that may wait.
async fn ask<T: Serialize + Send + 'static>(
    context: &Context,
    question: impl FnOnce(&Shares) -> Result<T, DeskError> + Send + 'static,
) -> Result<Answer, Failure> {
    let shares = context.harbour.shares.clone();
    let answered = tokio::task::spawn_blocking(move || question(&shares)).await;
    match answered {
        Ok(Ok(document)) => answer::json(&document),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(Failure::internal("a question about a share ended badly")),
    }
}

/// A thing of a trash as an archive, made while it is sent.
async fn restore(
    shares: Arc<Shares>,
    share: String,
    id: u64,
    inside: String,
) -> Result<Answer, Failure> {
    let (send, pieces) = mpsc::channel(ARCHIVE_PIECES_AHEAD);
    let (found, is_found) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let thing = shares.thing(&share, id, inside.as_bytes());
        let thing = match thing {
            Ok(thing) => thing,
            Err(error) => return drop(found.send(Err(failure(&error)))),
        };
        // One who did not wait does not want it.
        if found.send(Ok(())).is_err() {
            return;
        }
        let mut out = BufWriter::with_capacity(ARCHIVE_PIECE_BYTES, Pipe(&send));
        let packed = thing.pack(&mut out);
        let packed = packed.and_then(|()| out.flush().map_err(PackError::Write));
        if let Err(PackError::Read { path, error }) = packed {
            tracing::warn!(share, path, %error, "something in the trash cannot be read; its archive broke off");
            // Without its end nobody takes it for whole.
            let _ = send.blocking_send(Err(error));
        }
    });
    match is_found.await {
        Ok(Ok(())) => Ok(answer::piped("application/x-tar", pieces)),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::internal("a look into the trash ended badly")),
    }
}

/// Hands what is written to the connection.
struct Pipe<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn no_thing(share: &str) -> Failure {
    failure(&DeskError::NoThing(share.to_owned()))
}

fn failure(error: &DeskError) -> Failure {
    let detail = error.to_string();
    match error {
        DeskError::NoThing(_) => Failure::not_found("no-such-thing", detail),
        DeskError::Unknown(_) => Failure::not_found("no-such-share", detail),
        DeskError::NoWriter(_) | DeskError::Gone(_) => Failure::conflict("no-writer", detail),
        DeskError::Client(_) => Failure::conflict("client-refused", detail),
        DeskError::Share(_) | DeskError::Io(_) => Failure::unreadable(detail),
    }
}

/// A request that becomes a mirror's connection.
fn board(context: &Context, share: &str, mut request: Request<Payload>) -> Result<Answer, Failure> {
    if !socket::has_token(request.headers(), UPGRADE, PROTOCOL) {
        return Err(Failure::upgrade_required(PROTOCOL));
    }
    let boarding = Boarding {
        share: share.to_owned(),
        upgrade: hyper::upgrade::on(&mut request),
    };
    context.becomes(Next::Mirror(boarding));
    let mut answer = answer::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(answer)
}

/// A connection on its way from the door to the mirror.
pub(super) struct Boarding {
    share: String,
    upgrade: OnUpgrade,
}

impl Boarding {
    /// Hands the connection over, and returns when the mirror is done with it.
    pub(super) async fn run(self, context: &Context) {
        let Ok(upgraded) = self.upgrade.await else {
            return;
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else {
            return tracing::error!("a mirror's connection is none of this door");
        };
        let (stream, ahead) = parts.io.into_inner().into_parts();
        let read = [&parts.read_buf[..], &ahead].concat();
        let link = stream.into_std().and_then(|stream| {
            let address = context.caller.address.to_string();
            link(stream, read, address)
        });
        let link = match link {
            Ok(link) => link,
            Err(error) => return tracing::warn!(%error, "a mirror's connection cannot be used"),
        };
        let (done, over) = tokio::sync::oneshot::channel::<()>();
        let shares: Arc<Shares> = context.harbour.shares.clone();
        let started = std::thread::Builder::new()
            .name("pn-mirror".into())
            .spawn(move || {
                shares.serve(&self.share, link);
                drop(done);
            });
        match started {
            // Its end is all there is to hear.
            Ok(_) => drop(over.await),
            Err(error) => tracing::warn!(%error, "no thread for a mirror"),
        }
    }
}

fn link(stream: TcpStream, read: Vec<u8>, address: String) -> std::io::Result<Link> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(MIRROR_READ_SILENCE_MAX))?;
    stream.set_write_timeout(Some(MIRROR_WRITE_SILENCE_MAX))?;
    let (reader, close) = (stream.try_clone()?, stream.try_clone()?);
    Ok(Link {
        reader: Box::new(Cursor::new(read).chain(reader)),
        writer: Box::new(stream),
        close: Some(Box::new(move || {
            // One that is closed already is closed.
            let _ = close.shutdown(Shutdown::Both);
        })),
        address,
    })
}
