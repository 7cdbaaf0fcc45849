//! Publishers and subscribers at once: flood, fan-out, pairs, a fixed rate, one stuck reader, and the
//! floor without a server.
//!
//! Invariant: the measured phase follows a short one of the same kind that is not counted, on the
//! same connections, and both end with everything delivered.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::Figures;
use super::line::{Line, Target};
use super::publisher::{Pace, Publisher, Stamp};
use super::receiver::{Latencies, Progress, Receiver, Subscriber};
use super::spent::Meter;
use crate::limits::{STUCK_RECEIVE_BYTES, WARM_UP, WARM_UP_PACED};

/// Who publishes what to whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Topics, each with one publisher.
    pub topics: usize,
    /// Subscribers of each topic that read.
    pub subscribers: usize,
    /// Whether one more subscriber of the first topic never reads.
    pub stuck: bool,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// When messages are sent.
    pub pace: Pace,
    /// Length of the measured phase, its draining not included.
    pub duration: Duration,
}

/// Runs it once.
///
/// # Errors
/// When a message is lost, repeated or out of order, or the server gives up on somebody.
pub fn run(target: &Target<'_>, meter: &Meter, plan: &Plan) -> Result<Figures> {
    let stamped = plan.pace != Pace::Flood;
    ensure!(
        !stamped || plan.payload_bytes >= Stamp::BYTES,
        "a stamped payload has at least {} bytes",
        Stamp::BYTES
    );
    let mut ends = if target.address.is_some() {
        connect(target, plan)?
    } else {
        wire_together(target, plan)?
    };
    let progress = Progress::new(&vec![plan.subscribers as u64; plan.topics]);
    let warm_up = if stamped { WARM_UP_PACED } else { WARM_UP };
    ends.phase(plan.pace, warm_up, &progress)?;
    let sent_before = ends.sent();
    progress.begin();
    let cpu_before = meter.cpu()?;
    let began = Instant::now();
    let (ended, latencies) = ends.phase(plan.pace, plan.duration, &progress)?;
    let cpu = meter.cpu()? - cpu_before;
    let published = ends.sent() - sent_before;
    let figures = Figures {
        published,
        delivered: published * plan.subscribers as u64,
        seconds: (ended - began).as_secs_f64(),
        server_cpu_s: cpu.server.as_secs_f64(),
        generator_cpu_s: cpu.generator.as_secs_f64(),
        peak_rss_bytes: meter.memory()?.peak_rss_bytes,
        ..Figures::default()
    };
    Ok(figures.with_latencies(latencies.from_send_ns, latencies.from_due_ns))
}

struct Ends<'a> {
    publishers: Vec<Publisher<'a>>,
    receiver: Receiver<'a>,
    /// Subscribers that never read; their connections stay open.
    _stuck: Vec<TcpStream>,
}

impl Ends<'_> {
    fn sent(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.sent).sum()
    }

    /// All publishers and the receiver, until everything is delivered.
    fn phase(
        &mut self,
        pace: Pace,
        duration: Duration,
        progress: &Progress,
    ) -> Result<(Instant, Latencies)> {
        let duration_ns = u64::try_from(duration.as_nanos())?;
        let (publishers, receiver) = (&mut self.publishers, &mut self.receiver);
        std::thread::scope(|scope| {
            let publishing: Vec<_> = publishers
                .iter_mut()
                .map(|publisher| {
                    scope.spawn(|| {
                        let done = publisher.phase(pace, duration_ns, progress);
                        if done.is_err() {
                            progress.fail();
                        }
                        done.map(|()| Instant::now())
                    })
                })
                .collect();
            let received = receiver.phase(progress, pace != Pace::Flood);
            if received.is_err() {
                progress.fail();
            }
            let mut ended = None;
            for thread in publishing {
                let joined = thread.join().ok().context("a publisher panicked")?;
                ended = ended.max(Some(joined?));
            }
            let (last, latencies) = received?;
            Ok((ended.map_or(last, |ended| ended.max(last)), latencies))
        })
    }
}

fn topic_name(index: usize) -> String {
    format!("bench.{index}")
}

fn connect<'a>(target: &Target<'a>, plan: &Plan) -> Result<Ends<'a>> {
    let mut subscribers = Vec::new();
    let mut publishers = Vec::new();
    let mut stuck = Vec::new();
    let mut number = 0;
    for index in 0..plan.topics {
        let topic = topic_name(index);
        for _ in 0..plan.subscribers {
            number += 1;
            let stream = Line::open(target, number, &[&topic])?.into_stream()?;
            let expected = target.wire.delivery(&topic, 1, None, plan.payload_bytes);
            subscribers.push(Subscriber::new(stream, index, expected));
        }
        if plan.stuck && index == 0 {
            number += 1;
            let stream = Line::open(target, number, &[&topic])?.into_stream()?;
            set_socket_recv_buffer_size(&stream, STUCK_RECEIVE_BYTES)?;
            stuck.push(stream);
        }
        number += 1;
        let stream = Line::open(target, number, &[])?.into_stream()?;
        let frame = target.wire.publish(&topic, None, plan.payload_bytes);
        let window = target.window.filter(|_| plan.subscribers > 0);
        publishers.push(Publisher::new(
            target.wire,
            stream,
            &frame,
            index,
            window,
            true,
        )?);
    }
    Ok(Ends {
        publishers,
        receiver: Receiver::new(target.wire, subscribers)?,
        _stuck: stuck,
    })
}

/// The floor: each publisher writes straight to its subscriber what a server would have delivered.
fn wire_together<'a>(target: &Target<'a>, plan: &Plan) -> Result<Ends<'a>> {
    ensure!(plan.subscribers == 1, "the floor is one to one");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut subscribers = Vec::new();
    let mut publishers = Vec::new();
    for index in 0..plan.topics {
        let near = TcpStream::connect(listener.local_addr()?)?;
        let far = listener.accept()?.0;
        near.set_nodelay(true)?;
        let delivery = target
            .wire
            .delivery(&topic_name(index), 1, None, plan.payload_bytes);
        publishers.push(Publisher::new(
            target.wire,
            near,
            &delivery,
            index,
            None,
            false,
        )?);
        subscribers.push(Subscriber::new(far, index, delivery));
    }
    Ok(Ends {
        publishers,
        receiver: Receiver::new(target.wire, subscribers)?,
        _stuck: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::wire::nats::Nats;
    use super::*;

    #[test]
    fn the_floor_delivers_everything() {
        let target = Target {
            wire: &Nats,
            address: None,
            window: None,
        };
        for pace in [Pace::Flood, Pace::Open(2_000.0)] {
            let plan = Plan {
                topics: 2,
                subscribers: 1,
                stuck: false,
                payload_bytes: 128,
                pace,
                duration: Duration::from_millis(20),
            };
            let figures = run(&target, &Meter::default(), &plan).unwrap();
            assert_eq!(figures.published, figures.delivered);
            match pace {
                Pace::Flood => assert!(figures.published > 0),
                Pace::Open(_) => {
                    assert_eq!(figures.published, 80);
                    assert_eq!(figures.from_due.unwrap().samples, 80);
                }
            }
        }
    }
}
