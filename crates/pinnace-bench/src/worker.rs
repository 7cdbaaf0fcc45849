//! One data-writing thread: fills file after file, times every write, keeps the newest files.
//!
//! Invariant: between the two clock reads of a write there is the write and nothing else; per write
//! there is no allocation, no lock and no atomic read-modify-write. The worker looks at the clock,
//! at the stop and at its questions before each chunk, so it is at most one write behind.
//!
//! Left to others: asking (`controller`), the bytes (`payload`), the system calls (`device`).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pinnace_proto::event::{self, Activity, Rollover, StopReason};

use crate::clock::{micros, nanos};
use crate::device::Device;
use crate::error::is_disk_full;
use crate::figures::Figures;
use crate::ledger::Ledger;
use crate::limits::FINISHED_FILES_KEPT;
use crate::link::{Ended, Link, Mail, Message};
use crate::pace::Pace;
use crate::payload::Payload;
use crate::plan::Plan;
use crate::resources;
use crate::stop::Stop;

/// What a worker is made of.
pub(crate) struct Worker {
    pub(crate) index: u32,
    pub(crate) plan: Arc<Plan>,
    pub(crate) device: Box<dyn Device>,
    pub(crate) payload: Payload,
    pub(crate) link: Arc<Link>,
    pub(crate) mail: Mail,
    pub(crate) stop: Stop,
    pub(crate) ledger: Arc<Ledger>,
}

/// Why a worker ends before its time.
enum End {
    /// The run time is over or a stop was requested.
    Done,
    /// A system call failed; told already.
    Failed,
}

/// The state of a worker at work.
struct Work<'a> {
    worker: &'a mut Worker,
    figures: Box<Figures>,
    pace: Option<Pace>,
    deadline: Instant,
    /// When the last thing ended: the clock that deadlines are held against.
    now: Instant,
    alive_answered: u64,
    figures_answered: u64,
    finished: VecDeque<PathBuf>,
}

impl Worker {
    /// Works from `start` until `deadline` or a stop; returns the final word.
    pub(crate) fn run(mut self, start: Instant, deadline: Instant) -> Ended {
        let rate = self.plan.job.rate_bytes_per_second;
        let worker = self.index as usize;
        let figures = self.link.take_spare();
        let mut work = Work {
            pace: rate.map(|rate| Pace::new(rate, start)),
            figures,
            deadline,
            now: start,
            alive_answered: 0,
            figures_answered: 0,
            finished: VecDeque::with_capacity(FINISHED_FILES_KEPT + 1),
            worker: &mut self,
        };
        let end = work.fill_files();
        let figures = work.figures;
        self.device.close();
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        Ended {
            worker,
            figures,
            at: Instant::now(),
            failed: matches!(end, End::Failed),
            task: resources::task(thread.unsigned_abs()),
        }
    }
}

impl Work<'_> {
    fn fill_files(&mut self) -> End {
        let mut number = 1;
        loop {
            if let Err(end) = self.fill_file(number) {
                return end;
            }
            number += 1;
        }
    }

    fn fill_file(&mut self, number: u64) -> Result<(), End> {
        let index = self.worker.index;
        let path = self.worker.plan.data_file(index, number);
        let (chunk_bytes, file_bytes) = self.sizes();
        self.answer();
        self.create(&path)?;
        let mut offset = 0;
        let mut began = None;
        while offset < file_bytes {
            self.before_chunk()?;
            let bytes = chunk_bytes.min(file_bytes - offset);
            let ended = self.write_chunk(number, offset, bytes as usize, &path)?;
            began.get_or_insert(ended.began);
            offset += bytes;
        }
        self.roll_over(number, path, file_bytes, began.unwrap_or(self.now))
    }

    fn sizes(&self) -> (u64, u64) {
        let job = &self.worker.plan.job.workers[self.worker.index as usize];
        (job.chunk_bytes, job.file_bytes)
    }

    fn create(&mut self, path: &Path) -> Result<(), End> {
        let worker = &mut *self.worker;
        worker.link.told.set_activity(Activity::Preparing);
        if !worker.ledger.add(path) {
            return Err(End::Done);
        }
        let created = worker.device.create(path);
        created.map_err(|error| self.fail("open", path, &error))?;
        if !self.worker.ledger.still_open(path) {
            return Err(End::Done);
        }
        self.now = Instant::now();
        Ok(())
    }

    /// What is looked at before every chunk: the end, the questions, the pace.
    #[inline]
    fn before_chunk(&mut self) -> Result<(), End> {
        self.check_end()?;
        if self.is_asked() {
            self.answer();
        }
        if self.pace.is_some() {
            self.wait_for_pace()
        } else {
            Ok(())
        }
    }

    #[inline]
    fn check_end(&self) -> Result<(), End> {
        if self.now >= self.deadline || self.worker.stop.is_requested() {
            return Err(End::Done);
        }
        Ok(())
    }

    #[inline]
    fn is_asked(&self) -> bool {
        let asked = &self.worker.link.asked;
        asked.alive() != self.alive_answered || asked.figures() != self.figures_answered
    }

    #[cold]
    fn answer(&mut self) {
        let worker = &*self.worker;
        let index = worker.index as usize;
        let number = worker.link.asked.alive();
        if number != self.alive_answered {
            self.alive_answered = number;
            let _ = worker.mail.send(Message::Alive {
                worker: index,
                number,
                at: Instant::now(),
            });
        }
        let number = worker.link.asked.figures();
        if number != self.figures_answered {
            self.figures_answered = number;
            let figures = std::mem::replace(&mut self.figures, worker.link.take_spare());
            let _ = worker.mail.send(Message::Figures {
                worker: index,
                figures,
            });
        }
    }

    #[cold]
    fn wait_for_pace(&mut self) -> Result<(), End> {
        let mut now = Instant::now();
        let Some(due) = self.pace.as_mut().map(|pace| pace.due(now)) else {
            return Ok(());
        };
        while now < due {
            self.worker.link.told.set_activity(Activity::Pacing);
            // A stop and a question both unpark; a wake-up for nothing only goes round again.
            thread::park_timeout(due.min(self.deadline).saturating_duration_since(now));
            now = Instant::now();
            self.now = now;
            self.check_end()?;
            if self.is_asked() {
                self.answer();
            }
        }
        Ok(())
    }

    /// Writes one chunk, going on where a short write ended; it counts as one write.
    #[inline]
    fn write_chunk(
        &mut self,
        file: u64,
        offset: u64,
        bytes: usize,
        path: &Path,
    ) -> Result<Wrote, End> {
        let worker = &mut *self.worker;
        let window = worker
            .payload
            .prepare(worker.device.area(), file, offset, bytes);
        worker.link.told.set_activity(Activity::Writing);
        let (mut done, mut took) = (0, Duration::ZERO);
        let mut began = None;
        while done < bytes {
            let result = worker
                .device
                .submit(window.start + done..window.end, offset + done as u64)
                .and_then(|()| worker.device.reap())
                .and_then(|completion| match completion.bytes {
                    0 => Err(io::ErrorKind::WriteZero.into()),
                    _ => Ok(completion),
                });
            match result {
                Ok(completion) => {
                    done += completion.bytes;
                    took += completion.took;
                    self.now = completion.at;
                    began.get_or_insert(completion.at - completion.took);
                }
                Err(error) => return Err(self.fail("write", path, &error)),
            }
        }
        self.figures.bytes += bytes as u64;
        self.figures.writes.record(nanos(took));
        if let Some(pace) = &mut self.pace {
            pace.spend(bytes as u64);
        }
        Ok(Wrote {
            began: began.unwrap_or(self.now),
        })
    }

    fn roll_over(
        &mut self,
        number: u64,
        path: PathBuf,
        bytes: u64,
        began: Instant,
    ) -> Result<(), End> {
        self.worker.link.told.set_activity(Activity::Syncing);
        let sync_began = Instant::now();
        let synced = self.worker.device.sync();
        self.now = Instant::now();
        synced.map_err(|error| self.fail("sync", &path, &error))?;
        let sync_took = self.now - sync_began;
        self.figures.syncs.record(nanos(sync_took));
        self.worker.device.close();
        self.worker.link.told.set_activity(Activity::Preparing);
        let index = self.worker.index;
        let rollover = Rollover {
            worker: index,
            number,
            file: path.to_string_lossy().into_owned(),
            bytes,
            file_us: micros(self.now - began),
            sync_us: micros(sync_took),
            next_file: self
                .worker
                .plan
                .data_file(index, number + 1)
                .to_string_lossy()
                .into_owned(),
        };
        let _ = self.worker.mail.send(Message::Rollover {
            at: self.now,
            rollover,
        });
        self.finished.push_back(path);
        if self.finished.len() > FINISHED_FILES_KEPT
            && let Some(oldest) = self.finished.pop_front()
        {
            self.remove(&oldest);
        }
        self.check_end()
    }

    /// Removes a finished file. One that stays is told; the end of the run tries again.
    fn remove(&mut self, path: &Path) {
        if let Err(error) = self.worker.ledger.remove(path) {
            self.tell("remove", path, &error);
        }
    }

    /// Tells of an error that ends this worker; a full disk ends the whole run.
    #[cold]
    fn fail(&mut self, operation: &str, path: &Path, error: &io::Error) -> End {
        self.tell(operation, path, error);
        if is_disk_full(error) {
            self.worker.stop.request(StopReason::DiskFull);
        }
        End::Failed
    }

    fn tell(&self, operation: &str, path: &Path, error: &io::Error) {
        let _ = self.worker.mail.send(Message::Error(event::Error {
            worker: Some(self.worker.index),
            operation: operation.to_owned(),
            path: Some(path.to_string_lossy().into_owned()),
            message: error.to_string(),
        }));
    }
}

struct Wrote {
    began: Instant,
}
