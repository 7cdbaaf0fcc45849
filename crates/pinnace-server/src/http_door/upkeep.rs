//! `/-/topics/check` and `/-/topics/backup`: looking after what is stored, for administrators.
//!
//! Invariant: one at a time, each on a thread of its own, which ends when its client goes away.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Request};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::answer::{self, Answer, Failure};
use super::request::Payload;
use super::{Context, request, system};
use crate::backup;
use crate::caller::Action;
use crate::clock::now_us;
use crate::harbour::Harbour;
use crate::limits::BACKUP_FRAMES_AHEAD;
use crate::upkeep::{Pace, apart, check_own};

/// The way of a backup to its connection.
type Frames = mpsc::Sender<io::Result<Bytes>>;

/// `POST /-/topics/check`: the whole log, record by record.
pub(super) async fn check(
    context: &Context,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    if request.method() != Method::POST {
        return Err(Failure::method_not_allowed("POST"));
    }
    request::parameters(request.uri(), &[])?;
    let _turn = turn(context)?;
    match check_own(&context.harbour).await {
        Some(Ok(document)) => answer::json(&document),
        Some(Err(error)) => Err(Failure::unreadable(format!(
            "the log cannot be read: {error}"
        ))),
        None => Err(Failure::stopping()),
    }
}

/// `GET /-/topics/backup`: everything that is stored, of one moment.
pub(super) fn backup(context: &Context, request: &Request<Payload>) -> Result<Answer, Failure> {
    system::only_get(request)?;
    request::parameters(request.uri(), &[])?;
    let turn = turn(context)?;
    let (send, frames) = mpsc::channel(BACKUP_FRAMES_AHEAD);
    tokio::spawn(make(context.harbour.clone(), turn, send));
    Ok(answer::piped("application/octet-stream", frames))
}

/// One check or backup at a time, and only for those who may do everything.
fn turn(context: &Context) -> Result<OwnedSemaphorePermit, Failure> {
    if !context.caller.may(Action::Maintain) {
        return Err(Failure::forbidden());
    }
    let turn = context.harbour.upkeep.clone().try_acquire_owned();
    turn.map_err(|_| {
        let detail = "a check or a backup is under way; try again when it has ended";
        Failure::conflict("busy", detail)
    })
}

/// Makes the backup, for as long as its client takes it.
async fn make(harbour: Arc<Harbour>, turn: OwnedSemaphorePermit, frames: Frames) {
    let theirs = harbour.clone();
    let made = apart(move |_| {
        let pace = Pace::new();
        let snapshot = theirs.broker.snapshot();
        let channels = theirs.channels.to_bytes();
        let sent = backup::send(&snapshot, &channels, now_us(), &mut |frame| {
            pace.step();
            frames.blocking_send(Ok(frame)).is_ok()
        });
        // Before the last byte: a client that has it finds the server free for the next.
        drop((snapshot, turn));
        if let Err(error) = sent {
            tracing::error!(%error, "a backup broke off: the log cannot be read");
            // Without its end nobody takes it for whole.
            let _ = frames.blocking_send(Err(error));
        }
    });
    if made.await.is_none() {
        tracing::error!("a backup broke off");
    }
}
