//! The thread that runs a job: starts the workers together, asks and listens, reports, ends it.
//!
//! One loop owns all state. It sleeps in the mailbox until a message comes or something is due, so
//! it costs next to nothing and a stop is seen at once. A question (heartbeat, sample) stays open
//! until all have answered or its time is over; a worker stuck in the kernel is reported as such.
//!
//! Invariant: nothing in the loop blocks on storage (asking for free space and removing files have
//! threads of their own), so heartbeats keep coming whatever the file systems do. The sums of all
//! samples are the totals.
//!
//! Left to others: the sink must be quick, for the loop waits while it is called.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pinnace_proto::event::{
    Body, Error, Heartbeat, Resources, Sample, StopReason, Stopped, WorkerTotals,
};

use crate::clock::Clock;
use crate::device::Devices;
use crate::ledger::{CLEANUP_THREAD, CleanUp, Guard, Ledger};
use crate::limits::{
    CLEANUP_LIMIT_US, HEARTBEAT_ANSWER_US, MAILBOX_MESSAGES, ROLLOVERS_PROMISED, SAMPLE_ANSWER_US,
    SPACE_CHECK_US,
};
use crate::link::{Mail, Message};
use crate::plan::Plan;
use crate::resources;
use crate::roster::{Common, Member};
use crate::space::Watched;
use crate::stop::Stop;

/// One event of a run, still to be numbered and dated by the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Microseconds since the workers started; 0 before that.
    pub elapsed_us: u64,
    /// What happened.
    pub body: Body,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The last event, once more.
    pub stopped: Stopped,
    /// Error events reported.
    pub errors: u64,
}

/// Runs `plan` with the engine its job names. `instance` makes the data unique; reports go to
/// `sink` in order, [`Stopped`] last. `stop` belongs to this run: it ends it, and it tells why.
pub fn run(plan: &Plan, instance: &str, sink: &mut dyn FnMut(Report), stop: &Stop) -> Outcome {
    run_on(plan, Arc::new(plan.job.engine), instance, sink, stop)
}

/// [`run`] on devices of the caller's choice.
pub fn run_on(
    plan: &Plan,
    devices: Arc<dyn Devices>,
    instance: &str,
    sink: &mut dyn FnMut(Report),
    stop: &Stop,
) -> Outcome {
    let (mail, mailbox) = sync_channel(MAILBOX_MESSAGES);
    // A full mailbox keeps the controller awake anyway.
    let _wake = stop.on_request({
        let mail = mail.clone();
        move || drop(mail.try_send(Message::Stop))
    });
    let common = Common {
        plan: Arc::new(plan.clone()),
        devices,
        ledger: Arc::new(Ledger::default()),
        mail,
        stop: stop.clone(),
        instance: instance.to_owned(),
    };
    let mut guard = Guard {
        ledger: Arc::clone(&common.ledger),
        stop: stop.clone(),
        keep_files: plan.job.keep_files,
        armed: true,
    };
    let mut controller = Controller::new(plan, common, mailbox, sink);
    controller.start();
    controller.work();
    let outcome = controller.finish();
    guard.armed = false;
    outcome
}

/// Something done again and again.
#[derive(Clone, Copy, Debug)]
struct Tick {
    every_us: u64,
    next_us: u64,
}

impl Tick {
    fn new(every_us: u64) -> Self {
        Self {
            every_us,
            next_us: 0,
        }
    }

    /// True once per period; periods that were missed are left out.
    fn is_due(&mut self, now_us: u64) -> bool {
        if now_us < self.next_us {
            return false;
        }
        let missed = (now_us - self.next_us) / self.every_us;
        self.next_us = self
            .next_us
            .saturating_add((missed + 1).saturating_mul(self.every_us));
        true
    }
}

/// A question to all workers that is still open.
#[derive(Clone, Copy, Debug)]
struct Question {
    asked_us: u64,
    until_us: u64,
}

struct Controller<'a> {
    plan: &'a Plan,
    common: Common,
    mailbox: Receiver<Message>,
    sink: &'a mut dyn FnMut(Report),
    clock: Clock,
    members: Vec<Member>,
    disks: Vec<Watched>,
    heartbeat: Tick,
    heartbeat_open: Option<Question>,
    sample: Tick,
    sample_open: Option<Question>,
    sampled_to_us: u64,
    monitor: Tick,
    monitored_at_us: u64,
    space: Tick,
    /// When the end began: the deadline, or the first look at a stop.
    closing_us: Option<u64>,
    cleaned: Option<CleanUp>,
    errors: u64,
}

impl<'a> Controller<'a> {
    fn new(
        plan: &'a Plan,
        common: Common,
        mailbox: Receiver<Message>,
        sink: &'a mut dyn FnMut(Report),
    ) -> Self {
        let job = &plan.job;
        let mut sample = Tick::new(job.sample_us);
        sample.next_us = job.sample_us;
        Self {
            plan,
            common,
            mailbox,
            sink,
            clock: Clock::start(),
            members: Vec::with_capacity(job.workers.len()),
            disks: Vec::new(),
            heartbeat: Tick::new(job.heartbeat_us),
            heartbeat_open: None,
            sample,
            sample_open: None,
            sampled_to_us: 0,
            monitor: Tick::new(job.monitor_us),
            monitored_at_us: 0,
            space: Tick::new(SPACE_CHECK_US.min(job.sample_us)),
            closing_us: None,
            cleaned: None,
            errors: 0,
        }
    }

    /// Starts every thread, waits until all buffers are filled, then lets all begin at once.
    fn start(&mut self) {
        let mut errors = Vec::new();
        for (number, known) in self.plan.file_systems.iter().enumerate() {
            let (disk, error) = Watched::start(number, known.clone(), self.common.mail.clone());
            self.disks.push(disk);
            errors.extend(error);
        }
        for index in 0..self.plan.job.workers.len() {
            let (member, error) = Member::enlist(index as u32, &self.common);
            self.members.push(member);
            errors.extend(error);
        }
        errors.into_iter().for_each(|error| self.tell_error(error));
        while !self.members.iter().all(Member::is_settled) {
            match self.mailbox.recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
        self.clock = Clock::start();
        let (start, deadline) = (
            self.clock.instant_at(0),
            self.clock.instant_at(self.plan.job.run_time_us),
        );
        self.members
            .iter_mut()
            .for_each(|member| member.start(start, deadline));
    }

    /// Until every worker has given its final word, or those that hang have had their grace.
    fn work(&mut self) {
        loop {
            let now = self.clock.elapsed_us();
            if self.common.stop.is_requested() || now >= self.plan.job.run_time_us {
                self.closing_us.get_or_insert(now);
            }
            let give_up_us = match self.closing_us {
                Some(since) => since.saturating_add(self.plan.stuck_grace_us),
                None => self.plan.job.run_time_us,
            };
            let all_ended = self.members.iter().all(|member| member.ended_at.is_some());
            if all_ended || self.closing_us.is_some() && now >= give_up_us {
                return;
            }
            self.turn(now, give_up_us);
        }
    }

    /// One turn of the loop: what is due, then at most one wait.
    fn turn(&mut self, now: u64, until_us: u64) {
        self.on_time(now);
        let open = [self.heartbeat_open, self.sample_open]
            .into_iter()
            .flatten()
            .map(|q| q.until_us);
        let ticks = [&self.heartbeat, &self.sample, &self.monitor, &self.space].map(|t| t.next_us);
        let next = open.chain(ticks).fold(until_us, u64::min);
        let wait = Duration::from_micros(next.saturating_sub(self.clock.elapsed_us()));
        match self.mailbox.recv_timeout(wait) {
            Ok(message) => self.take(message),
            // Senders cannot all be gone: the controller holds one.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn on_time(&mut self, now: u64) {
        if self.space.is_due(now) {
            self.disks.iter_mut().for_each(Watched::ask);
        }
        if let Some(question) = self.heartbeat_open
            && (now >= question.until_us || self.members.iter().all(Member::alive_is_settled))
        {
            self.tell_heartbeat(question);
        }
        if self.heartbeat_open.is_none() && self.heartbeat.is_due(now) {
            let allowed = HEARTBEAT_ANSWER_US.min(self.heartbeat.every_us / 2);
            self.heartbeat_open = Some(Question {
                asked_us: now,
                until_us: now + allowed,
            });
            self.members.iter_mut().for_each(Member::ask_alive);
        }
        if let Some(question) = self.sample_open
            && (now >= question.until_us || self.members.iter().all(Member::figures_are_settled))
        {
            self.sample_open = None;
            self.tell_sample(question.asked_us);
        }
        if self.sample_open.is_none() && self.sample.is_due(now) {
            let allowed = SAMPLE_ANSWER_US.min(self.sample.every_us / 2);
            self.sample_open = Some(Question {
                asked_us: now,
                until_us: now + allowed,
            });
            self.members.iter_mut().for_each(Member::ask_figures);
        }
        if self.monitor.is_due(now) {
            self.tell_resources();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ready {
                worker,
                thread,
                result,
            } => {
                self.members[worker].take_ready(thread, result.is_ok());
                if let Err(error) = result {
                    self.tell_error(error);
                }
            }
            Message::Alive { worker, number, at } => self.members[worker].take_alive(number, at),
            Message::Figures { worker, figures } => self.members[worker].take_figures(figures),
            Message::Rollover { at, rollover } => {
                self.members[rollover.worker as usize].rollovers += 1;
                let elapsed_us = self.clock.us_at(at);
                (self.sink)(Report {
                    elapsed_us,
                    body: Body::Rollover(rollover),
                });
            }
            Message::Error(error) => self.tell_error(error),
            Message::Ended(ended) => self.members[ended.worker].take_ended(*ended),
            Message::Space {
                file_system,
                reading,
            } => match self.disks[file_system].take(reading) {
                Ok(true) if !self.common.stop.is_requested() => {
                    self.common.stop.request(StopReason::DiskFull);
                    let error = self.disks[file_system].floor_error();
                    self.tell_error(error);
                }
                Ok(_) | Err(None) => {}
                Err(Some(error)) => self.tell_error(error),
            },
            Message::CleanedUp(outcome) => self.cleaned = Some(outcome),
            Message::Stop => {}
        }
    }

    fn tell(&mut self, body: Body) {
        let elapsed_us = self.clock.elapsed_us();
        (self.sink)(Report { elapsed_us, body });
    }

    fn tell_error(&mut self, error: Error) {
        self.errors += 1;
        self.tell(Body::Error(error));
    }

    fn tell_heartbeat(&mut self, question: Question) {
        self.heartbeat_open = None;
        let now_us = self.clock.elapsed_us();
        let (asked, now) = (
            self.clock.instant_at(question.asked_us),
            self.clock.instant_at(now_us),
        );
        let heartbeat = Heartbeat {
            workers: self
                .members
                .iter()
                .map(|member| member.heartbeat(asked, now))
                .collect(),
            disks: self.disks.iter().map(Watched::free).collect(),
            next_us: self.heartbeat.next_us.saturating_sub(now_us),
        };
        self.tell(Body::Heartbeat(heartbeat));
    }

    fn tell_sample(&mut self, to_us: u64) {
        let workers = self.members.iter_mut().map(Member::take_sample).collect();
        let sample = Sample {
            from_us: self.sampled_to_us,
            to_us,
            workers,
        };
        self.sampled_to_us = to_us;
        self.tell(Body::Sample(sample));
    }

    fn tell_resources(&mut self) {
        let now_us = self.clock.elapsed_us();
        let interval_us = now_us - self.monitored_at_us;
        self.monitored_at_us = now_us;
        let workers = self
            .members
            .iter_mut()
            .map(|member| member.resources(interval_us))
            .collect();
        let resources = Resources {
            interval_us,
            rss_bytes: resources::memory_bytes().0,
            buffer_bytes: self.members.iter().map(Member::buffer_bytes).sum(),
            process_cpu_us: resources::process_cpu_us(),
            workers,
        };
        self.tell(Body::Resources(resources));
    }

    /// The last sample, the last look at the threads, the clean-up, and the last word.
    fn finish(mut self) -> Outcome {
        let reason = self.reason();
        let now_us = self.clock.elapsed_us();
        let last = |member: &Member| member.ended_us(&self.clock).unwrap_or(now_us);
        let elapsed_us = self.members.iter().map(last).max().unwrap_or(now_us);
        self.sample_open = None;
        self.tell_sample(elapsed_us.max(self.sampled_to_us));
        self.sample.next_us = u64::MAX;
        self.tell_resources();
        let (files_removed, files_left) = self.clean_up();
        let workers: Vec<WorkerTotals> = self.members.iter().map(Member::totals).collect();
        let stopped = Stopped {
            reason,
            ran_us: elapsed_us,
            promise_held: workers
                .iter()
                .all(|w| w.rollovers as f64 >= ROLLOVERS_PROMISED),
            workers,
            files_removed,
            files_left,
            process_cpu_us: resources::process_cpu_us(),
            peak_rss_bytes: resources::memory_bytes().1,
        };
        self.tell(Body::Stopped(stopped.clone()));
        Outcome {
            stopped,
            errors: self.errors,
        }
    }

    fn reason(&self) -> StopReason {
        let all_failed = self.members.iter().all(|member| member.failed);
        match self.common.stop.reason() {
            Some(reason) => reason,
            None if all_failed => StopReason::Failed,
            None => StopReason::Completed,
        }
    }

    /// Removes the run's files while heartbeats go on; returns how many are gone and how many left.
    fn clean_up(&mut self) -> (u64, u64) {
        let ledger = Arc::clone(&self.common.ledger);
        if self.plan.job.keep_files {
            let left = ledger.close().iter().filter(|path| path.exists()).count();
            return (0, left as u64);
        }
        let spawned = thread::Builder::new()
            .name(CLEANUP_THREAD.to_owned())
            .spawn({
                let (ledger, mail) = (Arc::clone(&ledger), self.common.mail.clone());
                move || clean(&ledger, &mail)
            });
        if spawned.is_err() {
            self.cleaned = Some(ledger.clean_up());
        }
        let until_us = self.clock.elapsed_us().saturating_add(CLEANUP_LIMIT_US);
        let outcome = loop {
            let now = self.clock.elapsed_us();
            match self.cleaned.take() {
                Some(outcome) => break outcome,
                None if now >= until_us => break unfinished(ledger.close()),
                None => self.turn(now, until_us),
            }
        };
        let left = outcome.left.len() as u64;
        for (path, error) in outcome.left {
            self.tell_error(Error {
                worker: None,
                operation: "remove".to_owned(),
                path: Some(path.to_string_lossy().into_owned()),
                message: error.to_string(),
            });
        }
        (outcome.removed, left)
    }
}

fn clean(ledger: &Ledger, mail: &Mail) {
    let _ = mail.send(Message::CleanedUp(ledger.clean_up()));
}

/// What to say of files whose removal did not come back.
fn unfinished(files: Vec<PathBuf>) -> CleanUp {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    CleanUp {
        removed: 0,
        left: files.into_iter().map(|path| (path, timed_out())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_comes_once_per_period_and_leaves_missed_ones_out() {
        let mut tick = Tick::new(10);
        let due: Vec<u64> = (0..50).filter(|now| tick.is_due(*now)).collect();
        assert_eq!(due, [0, 10, 20, 30, 40]);
        assert!(tick.is_due(95));
        assert!(!tick.is_due(99));
        assert!(tick.is_due(100));
    }
}
