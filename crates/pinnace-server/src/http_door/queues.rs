//! `/<topic>/<subscriber>`: subscribe with limits, unsubscribe; acknowledge, extend and give back leases.
//!
//! Left to others: fetching (`fetch`), what dead letters become (`dead_letters`).

use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use pinnace_topics::{LeaseId, Overflow, QueueOptions, Start};

use super::answer::{self, Answer, Failure};
use super::request::{Parameters, Payload};
use super::topics::{no_such_subscription, permit, queue_failure, synced, told_once_synced};
use super::{Context, request};
use crate::caller::{Action, Caller};
use crate::dead_letters;
use crate::harbour::Harbour;
use crate::limits::{LEASE_MAX, LEASE_MIN, TICK};

/// `POST /<topic>/<subscriber>`: 200, also when it was subscribed already; or a lease lasts longer.
pub(super) async fn subscribe(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context, Action::Subscribe)?;
    if let Some(lease) = request::parameter(request.uri(), "lease") {
        return extend_by(context, topic, subscriber, &lease, request);
    }
    let parameters = request::parameters(request.uri(), &SUBSCRIPTION)?;
    let wanted = subscription(topic, parameters)?;
    create(&context.harbour, &context.caller, topic, subscriber, wanted).await?;
    Ok(answer::empty())
}

/// Makes a queue, or gives one that exists these options; true when it is new. Durable on return.
pub(crate) async fn create(
    harbour: &Harbour,
    caller: &Caller,
    topic: &str,
    subscriber: &str,
    (start, options): (Start, Option<QueueOptions>),
) -> Result<bool, Failure> {
    if let Some(dead_letter) = options
        .as_ref()
        .and_then(|options| options.dead_letter.as_ref())
    {
        let may_use = caller.may(Action::PublishTo(dead_letter))
            && caller.may(Action::SubscribeTo(dead_letter, None));
        if !may_use {
            return Err(Failure::forbidden());
        }
        // Dead letters that nobody keeps would be lost; they wait for whom they were meant.
        let (done, stored) = told_once_synced();
        harbour
            .broker
            .create_queue(dead_letter, subscriber, Start::New, done)
            .map_err(queue_failure)?;
        synced(stored).await?;
    }
    let (done, stored) = told_once_synced();
    let is_new = harbour
        .broker
        .create_queue_with(topic.as_bytes(), subscriber, start, options, done)
        .map_err(queue_failure)?;
    synced(stored).await?;
    Ok(is_new)
}

/// What a subscription may ask for.
pub(crate) const SUBSCRIPTION: [&str; 7] = [
    "from",
    "max_messages",
    "max_bytes",
    "max_age",
    "overflow",
    "max_deliveries",
    "dead_letter",
];

/// What a subscription asks for.
pub(crate) fn subscription(
    topic: &str,
    parameters: Parameters,
) -> Result<(Start, Option<QueueOptions>), Failure> {
    let mut start = Start::New;
    let mut options = QueueOptions::default();
    let mut any = false;
    for (name, value) in parameters {
        any |= name != "from";
        match name.as_str() {
            "from" => start = from(&value)?,
            "max_messages" => options.messages_max = Some(request::number(&name, &value)?.max(1)),
            "max_bytes" => options.bytes_max = Some(request::size(&name, &value)?),
            "max_age" => {
                let age = request::duration(&name, &value, Duration::MAX)?;
                options.age_max_us = Some(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
            }
            "overflow" => options.overflow = overflow(&value)?,
            "max_deliveries" => {
                let count = request::number(&name, &value)?.max(1);
                options.deliveries_max = Some(u32::try_from(count).unwrap_or(u32::MAX));
            }
            _ => options.dead_letter = Some(value.into_bytes().into()),
        }
    }
    if options.deliveries_max.is_some() != options.dead_letter.is_some() {
        let detail = format!(
            "max_deliveries and dead_letter go together, as in ?max_deliveries=5&dead_letter={topic}.dead"
        );
        return Err(Failure::bad_request("bad-parameter", detail));
    }
    Ok((start, any.then_some(options)))
}

fn from(value: &str) -> Result<Start, Failure> {
    match value {
        "first" => Ok(Start::First),
        "new" => Ok(Start::New),
        other => {
            let detail = format!("from is `first` or `new`, not `{other}`");
            Err(Failure::bad_request("bad-parameter", detail))
        }
    }
}

fn overflow(value: &str) -> Result<Overflow, Failure> {
    let all = [Overflow::Refuse, Overflow::DropOldest, Overflow::Expire];
    let named = all
        .into_iter()
        .find(|overflow| overflow_name(*overflow) == value);
    named.ok_or_else(|| {
        let detail = format!("overflow is `refuse`, `drop-oldest` or `expire`, not `{value}`");
        Failure::bad_request("bad-parameter", detail)
    })
}

pub(super) fn overflow_name(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Refuse => "refuse",
        Overflow::DropOldest => "drop-oldest",
        Overflow::Expire => "expire",
    }
}

/// `DELETE /<topic>/<subscriber>`: 200, or 404 when there was no such subscription; with a lease,
/// acknowledges it or gives it back.
pub(super) async fn unsubscribe(
    context: &Context,
    topic: &str,
    subscriber: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    permit(context, Action::Subscribe)?;
    let mut lease = None;
    let (mut gives_back, mut only) = (false, None);
    for (name, value) in request::parameters(request.uri(), &["lease", "return", "seq"])? {
        match name.as_str() {
            "lease" => lease = Some(lease_id(&value)?),
            "return" => gives_back = true,
            _ => only = Some(seqs(&value)?),
        }
    }
    let harbour = &context.harbour;
    let Some(lease) = lease else {
        if gives_back || only.is_some() {
            let detail = "return and seq are about a lease: say which with lease=TOKEN";
            return Err(Failure::bad_request("bad-parameter", detail));
        }
        delete(harbour, topic, subscriber).await?;
        return Ok(answer::empty());
    };
    if gives_back {
        if only.is_some() {
            let detail = "a lease is given back whole: acknowledge with seq first, then return";
            return Err(Failure::bad_request("bad-parameter", detail));
        }
        give_back(harbour, topic, subscriber, lease)?;
        return Ok(answer::empty());
    }
    acknowledge(harbour, topic, subscriber, lease, only.as_deref()).await?;
    Ok(answer::empty())
}

/// Ends a queue with all that waits in it; durable on return.
pub(crate) async fn delete(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
) -> Result<(), Failure> {
    let (done, stored) = told_once_synced();
    let existed = harbour
        .broker
        .delete_queue(topic.as_bytes(), subscriber, done)
        .map_err(queue_failure)?;
    if !existed {
        return Err(no_such_subscription(topic, subscriber));
    }
    synced(stored).await.map(drop)
}

/// Lets the messages of a lease wait again.
pub(crate) fn give_back(
    harbour: &Arc<Harbour>,
    topic: &str,
    subscriber: &str,
    lease: LeaseId,
) -> Result<(), Failure> {
    let now = std::time::Instant::now();
    let dead = harbour
        .broker
        .give_back(topic.as_bytes(), subscriber, lease, now)
        .map_err(queue_failure)?;
    dead_letters::bury(harbour, dead);
    Ok(())
}

/// Gives the messages of a lease away for good, or those in `only`; durable on return.
pub(crate) async fn acknowledge(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
    lease: LeaseId,
    only: Option<&[u64]>,
) -> Result<(), Failure> {
    let (done, stored) = told_once_synced();
    harbour
        .broker
        .acknowledge(topic.as_bytes(), subscriber, lease, only, done)
        .map_err(queue_failure)?;
    synced(stored).await.map(drop)
}

/// `POST /<topic>/<subscriber>?lease=TOKEN&extend=30s`: the lease lasts from now so long.
fn extend_by(
    context: &Context,
    topic: &str,
    subscriber: &str,
    lease: &str,
    request: &Request<Payload>,
) -> Result<Answer, Failure> {
    let lease = lease_id(lease)?;
    let mut hold = None;
    for (name, value) in request::parameters(request.uri(), &["lease", "extend"])? {
        if name == "extend" {
            hold = Some(lease_time(&name, &value)?);
        }
    }
    let Some(hold) = hold else {
        let detail = "say for how long from now, as in extend=30s";
        return Err(Failure::bad_request("bad-parameter", detail));
    };
    extend(&context.harbour, topic, subscriber, lease, hold)?;
    Ok(answer::empty())
}

/// Lets a lease last `hold` from now.
pub(crate) fn extend(
    harbour: &Harbour,
    topic: &str,
    subscriber: &str,
    lease: LeaseId,
    hold: Duration,
) -> Result<(), Failure> {
    let until = std::time::Instant::now() + hold;
    harbour
        .broker
        .extend(topic.as_bytes(), subscriber, lease, until)
        .map_err(queue_failure)?;
    note_lease_end(harbour, hold);
    Ok(())
}

/// Leases are looked after every second; one that is over sooner says so.
pub(super) fn note_lease_end(harbour: &Harbour, hold: Duration) {
    if hold < TICK {
        harbour.lease_ends.notify_one();
    }
}

pub(crate) fn lease_id(text: &str) -> Result<LeaseId, Failure> {
    text.parse().map_err(|_| {
        let detail = format!(
            "`{}` is no lease; it is what a fetch said (header Pinnace-Lease, or `lease`)",
            text.escape_debug()
        );
        Failure::bad_request("bad-parameter", detail)
    })
}

pub(crate) fn lease_time(name: &str, text: &str) -> Result<Duration, Failure> {
    Ok(request::duration(name, text, LEASE_MAX)?.max(LEASE_MIN))
}

pub(crate) fn seqs(text: &str) -> Result<Vec<u64>, Failure> {
    text.split(',')
        .map(|seq| request::number("seq", seq))
        .collect()
}
