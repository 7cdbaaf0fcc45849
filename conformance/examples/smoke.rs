//! Smoke test of the NATS door with async-nats.
//!
//! Usage: smoke URL. Prints `ok NAME` for each check; prints `RESTART` when it wants the server killed and started
//! again on the same address, and reads a line when that is done. What is checked is the same in every language.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check that fails ends the program, which says how far it came"
)]

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, RequestErrorKind, Subscriber};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_stream::StreamExt;

const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    let url = std::env::args().nth(1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(5 * PATIENCE, checks(&url)).await.unwrap() });
}

async fn checks(url: &str) {
    let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
    let client = ConnectOptions::new()
        .name("smoke.rs")
        .event_callback(move |event| {
            let told = told.clone();
            async move { drop(told.send(event)) }
        })
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(url)
        .await
        .unwrap();
    seen(&mut events, &Event::Connected).await;
    println!("ok connect");
    publish(&client).await;
    println!("ok publish");
    request(&client).await;
    println!("ok request");
    let nobody = client.request("smoke.nobody", "".into()).await;
    assert_eq!(nobody.unwrap_err().kind(), RequestErrorKind::NoResponders);
    println!("ok no_responders");
    headers(&client).await;
    println!("ok headers");
    queue_group(&client).await;
    println!("ok queue_group");
    reconnect(&client, &mut events).await;
    println!("ok reconnect");
    drain(&client, url).await;
    println!("ok drain");
}

async fn seen(events: &mut UnboundedReceiver<Event>, wanted: &Event) {
    while events.recv().await.unwrap() != *wanted {}
}

async fn next(subscriber: &mut Subscriber) -> async_nats::Message {
    timeout(PATIENCE, subscriber.next()).await.unwrap().unwrap()
}

/// Returns once the server has done everything this client sent: an answer is later than all of it.
async fn settled(client: &Client) {
    let nobody = client.request("smoke.settled", "".into()).await;
    assert_eq!(nobody.unwrap_err().kind(), RequestErrorKind::NoResponders);
}

async fn publish(client: &Client) {
    let mut subscriber = client.subscribe("smoke.rs.*").await.unwrap();
    let sent = [vec![], b"a\r\n\0b".to_vec(), vec![b'x'; 500_000]];
    for (number, payload) in sent.iter().enumerate() {
        let subject = format!("smoke.rs.{number}");
        client
            .publish(subject, payload.clone().into())
            .await
            .unwrap();
    }
    for (number, payload) in sent.iter().enumerate() {
        let message = next(&mut subscriber).await;
        assert_eq!(message.subject.as_str(), format!("smoke.rs.{number}"));
        assert_eq!(message.payload, payload.as_slice());
    }
}

async fn request(client: &Client) {
    let mut service = client.subscribe("smoke.echo").await.unwrap();
    let answering = client.clone();
    tokio::spawn(async move {
        while let Some(message) = service.next().await {
            let reply = message.reply.unwrap();
            answering.publish(reply, message.payload).await.unwrap();
        }
    });
    for number in 0..50 {
        let word = format!("word-{number}");
        let answer = client.request("smoke.echo", word.clone().into()).await;
        assert_eq!(answer.unwrap().payload, word.as_bytes());
    }
}

async fn headers(client: &Client) {
    let mut subscriber = client.subscribe("smoke.headers").await.unwrap();
    let mut sent = HeaderMap::new();
    sent.append("Trace", "abc");
    sent.append("Trace", "def");
    let publish = client.publish_with_headers("smoke.headers", sent.clone(), "body".into());
    publish.await.unwrap();
    let message = next(&mut subscriber).await;
    assert_eq!(message.headers.unwrap(), sent);
    assert_eq!(&message.payload[..], b"body");
}

async fn queue_group(client: &Client) {
    const TOTAL: usize = 300;
    let (took, mut taken) = tokio::sync::mpsc::unbounded_channel();
    for member in 0..3 {
        let subject = "smoke.work";
        let mut subscriber = client
            .queue_subscribe(subject, "workers".into())
            .await
            .unwrap();
        let took = took.clone();
        tokio::spawn(async move {
            while subscriber.next().await.is_some() {
                took.send(member).unwrap();
            }
        });
    }
    for _ in 0..TOTAL {
        client.publish("smoke.work", "x".into()).await.unwrap();
    }
    let mut counts = [0; 3];
    for _ in 0..TOTAL {
        counts[timeout(PATIENCE, taken.recv()).await.unwrap().unwrap()] += 1;
    }
    settled(client).await;
    assert!(taken.try_recv().is_err(), "delivered twice");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

async fn reconnect(client: &Client, events: &mut UnboundedReceiver<Event>) {
    let mut subscriber = client.subscribe("smoke.again").await.unwrap();
    settled(client).await;
    println!("RESTART");
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    assert!(told.await.unwrap().unwrap() > 0);
    seen(events, &Event::Connected).await;
    client.publish("smoke.again", "back".into()).await.unwrap();
    assert_eq!(&next(&mut subscriber).await.payload[..], b"back");
}

async fn drain(client: &Client, url: &str) {
    let other = async_nats::connect(url).await.unwrap();
    let mut subscriber = client.subscribe("smoke.drain").await.unwrap();
    settled(client).await;
    for number in 0..200 {
        let text = number.to_string();
        other.publish("smoke.drain", text.into()).await.unwrap();
    }
    settled(&other).await;
    client.drain().await.unwrap();
    let mut got = 0;
    while let Some(message) = timeout(PATIENCE, subscriber.next()).await.unwrap() {
        assert_eq!(message.payload, got.to_string().as_bytes());
        got += 1;
    }
    assert_eq!(got, 200);
}
