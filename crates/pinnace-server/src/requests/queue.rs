//! `$PN.queue.…`: durable queues over NATS, by the same functions as over HTTP.

use serde_json::{Value, json};

use super::ask::Ask;
use super::{Answer, Asker, permit};
use crate::caller::{Action, Caller};
use crate::http_door::envelope::Envelope;
use crate::http_door::fetch::{self, Wish};
use crate::http_door::{Failure, path, queues};

pub(super) async fn answer(
    asker: &Asker,
    caller: &Caller,
    mut ask: Ask,
    is_answered: bool,
) -> Result<Answer, Failure> {
    let harbour = &asker.harbour;
    let verb = ask.verb();
    let topic = path::checked_pattern(ask.topic()?)?;
    let name = path::checked_subscriber(ask.text("name")?)?;
    // A queue is not sifted: what its pattern matches must be permitted as a whole.
    permit(caller, Action::SubscribeTo(topic.as_bytes(), None))?;
    if caller.withheld(topic.as_bytes(), None).is_some() {
        return Err(Failure::forbidden());
    }
    let document = match verb {
        "queue.subscribe" => {
            let wanted = queues::subscription(&topic, ask.parameters(&queues::SUBSCRIPTION)?)?;
            let is_new = queues::create(harbour, caller, &topic, &name, wanted).await?;
            json!({ "topic": topic, "name": name, "created": is_new })
        }
        "queue.unsubscribe" => {
            ask.done()?;
            queues::delete(harbour, &topic, &name).await?;
            json!({ "ok": true })
        }
        "queue.next" => {
            let wish = Wish::of(ask.parameters(&Wish::KNOWN)?)?;
            if !is_answered {
                let detail = "messages go to the reply subject, and there is none";
                return Err(Failure::bad_request("bad-parameter", detail));
            }
            return next(asker, &topic, &name, &wish).await;
        }
        "queue.ack" => {
            let lease = queues::lease_id(&ask.text("lease")?)?;
            let only = ask.numbers("seq")?;
            ask.done()?;
            queues::acknowledge(harbour, &topic, &name, lease, only.as_deref()).await?;
            json!({ "ok": true })
        }
        "queue.return" => {
            let lease = queues::lease_id(&ask.text("lease")?)?;
            ask.done()?;
            queues::give_back(harbour, &topic, &name, lease)?;
            json!({ "ok": true })
        }
        _ => extend(asker, &topic, &name, ask)?,
    };
    Ok(document.into())
}

/// `$PN.queue.extend`, by the field `extend` or `extend_ms`.
fn extend(asker: &Asker, topic: &str, name: &str, mut ask: Ask) -> Result<Value, Failure> {
    let lease = queues::lease_id(&ask.text("lease")?)?;
    let hold = ask.parameters(&["extend"])?.pop();
    let Some((field, hold)) = hold else {
        let detail = "say for how long from now, as in \"extend_ms\": 30000";
        return Err(Failure::bad_request("bad-parameter", detail));
    };
    let hold = queues::lease_time(&field, &hold)?;
    queues::extend(&asker.harbour, topic, name, lease, hold)?;
    Ok(json!({ "ok": true }))
}

async fn next(asker: &Asker, topic: &str, name: &str, wish: &Wish) -> Result<Answer, Failure> {
    let harbour = &asker.harbour;
    let (fetched, receipt) = tokio::select! {
        fetched = fetch::next(harbour, topic, name, wish) => fetched?,
        () = asker.gone() => return Err(Failure::unavailable("the connection ended")),
    };
    let messages = fetched.messages.iter().map(|leased| {
        let envelope = Envelope {
            deliveries: leased.deliveries,
            ..Envelope::stored(&leased.message)
        };
        envelope.object()
    });
    let mut document = json!({ "messages": messages.collect::<Vec<Value>>() });
    if let Some(lease) = fetched.lease {
        document["lease"] = lease.to_string().into();
    }
    Ok(Answer { document, receipt })
}
