//! The controller's side of the workers: their threads, and what each has told so far.
//!
//! Invariant: what a worker told is added up as it comes, so the totals of one that hangs are those
//! of its last answer; and a worker that ended, failed or panicked has told so exactly once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use pinnace_proto::event::{
    Activity, Error, WorkerHeartbeat, WorkerResources, WorkerSample, WorkerTotals,
};

use crate::clock::Clock;
use crate::device::Devices;
use crate::figures::Figures;
use crate::ledger::Ledger;
use crate::link::{Ended, Link, Mail, Message};
use crate::payload::Payload;
use crate::plan::{Plan, buffer_bytes};
use crate::resources::{self, TaskFigures};
use crate::stop::Stop;
use crate::worker::Worker;

/// What a worker needs besides its own things; the same for all.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) plan: Arc<Plan>,
    pub(crate) devices: Arc<dyn Devices>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) mail: Mail,
    pub(crate) stop: Stop,
    pub(crate) instance: String,
}

/// Start and deadline, sent to every worker at once.
type StartSignal = (Instant, Instant);

/// One worker, seen from the controller.
pub(crate) struct Member {
    pub(crate) index: u32,
    link: Arc<Link>,
    starts: Option<Sender<StartSignal>>,
    thread: u32,
    ready: bool,
    alive_number: u64,
    /// When it answered the current heartbeat question.
    answered_at: Option<Instant>,
    last_heard: Instant,
    figures_asked: u64,
    figures_waiting: bool,
    pending: Figures,
    totals: Figures,
    pub(crate) rollovers: u64,
    pub(crate) ended_at: Option<Instant>,
    pub(crate) failed: bool,
    task: Option<TaskFigures>,
    buffer_bytes: u64,
}

impl Member {
    /// Starts the thread of worker `index`; it prepares its buffers and waits. An error means there
    /// is no thread, and the member counts as failed.
    pub(crate) fn enlist(index: u32, common: &Common) -> (Self, Option<Error>) {
        let link = Arc::new(Link::new());
        let (starts, start) = channel();
        let spawned = thread::Builder::new()
            .name(format!("pn-worker-{index}"))
            .spawn({
                let (common, link) = (common.clone(), Arc::clone(&link));
                move || work(index, common, link, &start)
            });
        let chunk = common
            .plan
            .job
            .workers
            .get(index as usize)
            .map_or(0, |w| w.chunk_bytes);
        let mut member = Self {
            index,
            link,
            starts: Some(starts),
            thread: 0,
            ready: false,
            alive_number: 0,
            answered_at: None,
            last_heard: Instant::now(),
            figures_asked: 0,
            figures_waiting: false,
            pending: Figures::new(),
            totals: Figures::new(),
            rollovers: 0,
            ended_at: None,
            failed: false,
            task: None,
            buffer_bytes: buffer_bytes(chunk),
        };
        let error = spawned
            .err()
            .map(|error| start_error(index, &error.to_string()));
        if error.is_some() {
            member.give_up();
        }
        (member, error)
    }

    /// True when it waits for the start, or will never.
    pub(crate) fn is_settled(&self) -> bool {
        self.ready || self.ended_at.is_some()
    }

    pub(crate) fn take_ready(&mut self, thread: u32, ok: bool) {
        self.thread = thread;
        self.ready = true;
        self.last_heard = Instant::now();
        if !ok {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.ended_at = Some(Instant::now());
        self.failed = true;
        self.link.told.set_activity(Activity::Ended);
    }

    /// Lets it begin.
    pub(crate) fn start(&mut self, start: Instant, deadline: Instant) {
        self.last_heard = start;
        if let Some(starts) = self.starts.take() {
            let _ = starts.send((start, deadline));
        }
    }

    /// Asks for a sign of life.
    pub(crate) fn ask_alive(&mut self) {
        self.alive_number += 1;
        self.answered_at = None;
        self.link.asked.ask_alive(self.alive_number);
        self.link.wake();
    }

    pub(crate) fn take_alive(&mut self, number: u64, at: Instant) {
        self.last_heard = self.last_heard.max(at);
        if number == self.alive_number {
            self.answered_at = Some(at);
        }
    }

    /// False while the current heartbeat question may still be answered.
    pub(crate) fn alive_is_settled(&self) -> bool {
        self.answered_at.is_some() || self.ended_at.is_some()
    }

    pub(crate) fn heartbeat(&self, asked: Instant, now: Instant) -> WorkerHeartbeat {
        let (answered, after) = match (self.answered_at, self.ended_at) {
            (Some(at), _) => (true, at.saturating_duration_since(asked)),
            // Its final word is an answer, unless that was that it failed.
            (None, Some(ended)) => (!self.failed, now.saturating_duration_since(ended)),
            (None, None) => (false, now.saturating_duration_since(self.last_heard)),
        };
        WorkerHeartbeat {
            worker: self.index,
            answered,
            after_us: crate::clock::micros(after),
            activity: self.link.told.activity(),
        }
    }

    /// Asks for the figures, unless it still owes the last ones: then it would not answer anyway,
    /// and what it sends when it can counts for the interval it arrives in.
    pub(crate) fn ask_figures(&mut self) {
        if self.figures_waiting || self.ended_at.is_some() {
            return;
        }
        self.figures_asked += 1;
        self.figures_waiting = true;
        self.link.asked.ask_figures(self.figures_asked);
        self.link.wake();
    }

    pub(crate) fn figures_are_settled(&self) -> bool {
        !self.figures_waiting || self.ended_at.is_some()
    }

    pub(crate) fn take_figures(&mut self, figures: Box<Figures>) {
        self.last_heard = Instant::now();
        self.figures_waiting = false;
        self.pending.merge(&figures);
        self.link.give_spare(figures);
    }

    /// The figures since the last sample; they are added to the totals.
    pub(crate) fn take_sample(&mut self) -> WorkerSample {
        self.totals.merge(&self.pending);
        let sample = self.pending.sample(self.index);
        self.pending.clear();
        sample
    }

    pub(crate) fn take_ended(&mut self, ended: Ended) {
        self.pending.merge(&ended.figures);
        self.figures_waiting = false;
        self.last_heard = ended.at;
        self.ended_at = Some(ended.at);
        self.failed = ended.failed;
        self.task = ended
            .task
            .map(|task| TaskFigures { state: 'Z', ..task })
            .or(self.task.take());
    }

    /// CPU and state over the last `interval_us`.
    pub(crate) fn resources(&mut self, interval_us: u64) -> WorkerResources {
        // The first look has nothing before it to compare with.
        let before = self.task.as_ref().map_or(u64::MAX, |task| task.cpu_us);
        if self.ended_at.is_none()
            && let Some(task) = resources::task(self.thread)
        {
            self.task = Some(task);
        }
        self.resources_since(before, interval_us)
    }

    fn resources_since(&self, cpu_before_us: u64, interval_us: u64) -> WorkerResources {
        let task = self.task.as_ref();
        let used_us = task
            .map_or(0, |task| task.cpu_us)
            .saturating_sub(cpu_before_us);
        WorkerResources {
            worker: self.index,
            thread: self.thread,
            state: task.map_or('Z', |task| task.state).to_string(),
            user_us: task.map_or(0, |task| task.user_us),
            system_us: task.map_or(0, |task| task.system_us),
            cpu_share: (used_us as f64 / interval_us.max(1) as f64).min(1.0),
            buffer_bytes: self.buffer_bytes,
            voluntary_switches: task.map_or(0, |task| task.voluntary_switches),
            involuntary_switches: task.map_or(0, |task| task.involuntary_switches),
        }
    }

    /// Its totals; those of its last answer if it never gave its final word.
    pub(crate) fn totals(&self) -> WorkerTotals {
        WorkerTotals {
            worker: self.index,
            answered: self.ended_at.is_some(),
            bytes: self.totals.bytes,
            rollovers: self.rollovers,
            busy_us: self.totals.busy_us(),
            cpu_us: self.task.as_ref().map_or(0, |task| task.cpu_us),
            writes: self.totals.writes.clone(),
            syncs: self.totals.syncs.clone(),
        }
    }

    pub(crate) fn buffer_bytes(&self) -> u64 {
        self.buffer_bytes
    }

    /// When it ended, microseconds since the start.
    pub(crate) fn ended_us(&self, clock: &Clock) -> Option<u64> {
        self.ended_at.map(|at| clock.us_at(at))
    }
}

/// The body of a worker's thread.
fn work(index: u32, common: Common, link: Arc<Link>, start: &Receiver<StartSignal>) {
    let current = thread::current();
    link.set_thread(current.clone());
    let _wake = common.stop.on_request(move || current.unpark());
    let thread = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let Common {
        plan,
        devices,
        ledger,
        mail,
        stop,
        instance,
    } = common;
    let (chunk_bytes, direct) = (
        plan.job
            .workers
            .get(index as usize)
            .map_or(0, |w| w.chunk_bytes),
        plan.job.direct,
    );
    let payload = Payload::new(
        &instance,
        index,
        usize::try_from(chunk_bytes).unwrap_or(usize::MAX),
    );
    let result = match &payload {
        Some(_) => Ok(()),
        None => Err(start_error(index, "there is no memory for its buffer")),
    };
    let _ = mail.send(Message::Ready {
        worker: index as usize,
        thread,
        result,
    });
    let Some((payload, area)) = payload else {
        return;
    };
    let told = Arc::clone(&link);
    // A defect in one worker must not leave the controller waiting for its final word.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let device = devices.device(index, area, direct);
        let (start, deadline) = start.recv().ok()?;
        let worker = Worker {
            index,
            plan,
            device,
            payload,
            link,
            mail: mail.clone(),
            stop,
            ledger,
        };
        Some(worker.run(start, deadline))
    }));
    let ended = match ended {
        Ok(Some(ended)) => ended,
        // Nobody is there to start it, so nobody waits for its word.
        Ok(None) => return,
        Err(_) => {
            let message = "the worker panicked, which is a defect; please report it";
            let _ = mail.send(Message::Error(start_error(index, message)));
            lost(index, thread)
        }
    };
    told.told.set_activity(Activity::Ended);
    let _ = mail.send(Message::Ended(Box::new(ended)));
}

/// The final word for a worker that cannot give it.
fn lost(index: u32, thread: u32) -> Ended {
    Ended {
        worker: index as usize,
        figures: Box::new(Figures::new()),
        at: Instant::now(),
        failed: true,
        task: resources::task(thread),
    }
}

fn start_error(worker: u32, message: &str) -> Error {
    Error {
        worker: Some(worker),
        operation: "run".to_owned(),
        path: None,
        message: message.to_owned(),
    }
}
