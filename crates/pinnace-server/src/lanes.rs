//! Where connections are served: lanes of one thread each, and one that has all CPUs.
//!
//! A connection that is always served by the same thread costs less than one that goes to whichever
//! worker is free: its wake-ups, buffers and socket stay on one core (`peers/README.md`). That suits HTTP,
//! whose requests are alike. A NATS publisher does the work of all its receivers, so those share a lane
//! whose threads take work from each other. All lanes are runtimes of the kind that lets a task give its
//! place away while it blocks, as one has to for a full disk or a password. Left to others: what is done
//! on a lane, and ending it in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::mail::{self, Mail};

pub(crate) struct Lanes {
    /// Those of one thread, and behind them the shared one.
    all: Vec<Lane>,
    next: AtomicUsize,
}

struct Lane {
    runtime: Runtime,
    mail: Arc<Mail>,
}

impl Lane {
    fn start(name: &str, threads: usize) -> io::Result<Self> {
        let mail = Arc::new(Mail::default());
        let received = mail.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .on_thread_start(move || mail::receive_here(received.clone()))
            .enable_all()
            .build()?;
        Ok(Self { runtime, mail })
    }
}

impl Lanes {
    /// Starts a lane for each CPU this process may use, and the shared one.
    pub(crate) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let single = (0..count).map(|number| Lane::start(&format!("pn-lane-{number}"), 1));
        let mut all = single.collect::<io::Result<Vec<_>>>()?;
        all.push(Lane::start("pn-shared", count)?);
        Ok(Self {
            all,
            next: AtomicUsize::new(0),
        })
    }

    /// Begins to deliver letters; `after` is called on a lane when a number of them were opened there.
    pub(crate) fn deliver_mail(&self, after: impl Fn() + Clone + Send + 'static) {
        for lane in &self.all {
            let (mail, after) = (lane.mail.clone(), after.clone());
            lane.runtime.spawn(async move { mail.deliver(after).await });
        }
    }

    /// Has all letters delivered that were left since the last time.
    pub(crate) fn send_out(&self) {
        for lane in &self.all {
            lane.mail.send_out();
        }
    }

    /// The lane of the next connection whose work is alike: each in its turn.
    pub(crate) fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.all[turn % (self.all.len() - 1)].runtime.handle()
    }

    /// The lane of connections of which one may do the work of many.
    pub(crate) fn shared(&self) -> &Handle {
        self.all[self.all.len() - 1].runtime.handle()
    }
}

impl Drop for Lanes {
    /// Connections have ended or are cut here; this may be a lane's own thread, so nobody waits.
    fn drop(&mut self) {
        for lane in self.all.drain(..) {
            lane.runtime.shutdown_background();
        }
    }
}

/// A connection on its way from the runtime that accepted it to its lane.
pub(crate) struct Arriving(std::net::TcpStream);

impl Arriving {
    /// Takes it from the runtime that accepted it.
    pub(crate) fn of(stream: TcpStream) -> io::Result<Self> {
        stream.into_std().map(Self)
    }

    /// Gives it to the runtime this is called on.
    pub(crate) fn land(self) -> io::Result<TcpStream> {
        TcpStream::from_std(self.0)
    }
}
