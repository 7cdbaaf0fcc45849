//! Watches the free space of one file system from a thread of its own, because asking a network
//! file system that is gone does not return, and the controller must.
//!
//! Invariant: the watcher asks once per question and never holds anything the run waits for; it
//! ends when its questions end.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use pinnace_proto::event::{DiskFree, Error};

use crate::facts;
use crate::link::{Mail, Message};
use crate::plan::FileSystem;

/// One watched file system and what is known of it.
#[derive(Debug)]
pub(crate) struct Watched {
    questions: Option<SyncSender<()>>,
    known: FileSystem,
    failed: bool,
}

impl Watched {
    /// Starts the watcher; without a thread the file system goes unwatched and the error says so.
    pub(crate) fn start(number: usize, known: FileSystem, mail: Mail) -> (Self, Option<Error>) {
        let (questions, asked) = sync_channel::<()>(1);
        let path = PathBuf::from(&known.path);
        let spawned = thread::Builder::new()
            .name(format!("pn-space-{number}"))
            .spawn(move || {
                while asked.recv().is_ok() {
                    let reading = facts::space(&path)
                        .map_err(|error| space_error(&path.to_string_lossy(), &error.to_string()));
                    if mail
                        .send(Message::Space {
                            file_system: number,
                            reading,
                        })
                        .is_err()
                    {
                        return;
                    }
                }
            });
        let error = spawned
            .err()
            .map(|error| space_error(&known.path, &error.to_string()));
        let questions = error.is_none().then_some(questions);
        (
            Self {
                questions,
                known,
                failed: false,
            },
            error,
        )
    }

    /// Asks, unless the last question is still unanswered.
    pub(crate) fn ask(&mut self) {
        let Some(questions) = &self.questions else {
            return;
        };
        if let Err(TrySendError::Disconnected(())) = questions.try_send(()) {
            self.questions = None;
        }
    }

    /// Takes an answer in. True means the floor is reached; an error is passed on the first time.
    pub(crate) fn take(
        &mut self,
        reading: Result<(u64, u64), Error>,
    ) -> Result<bool, Option<Error>> {
        match reading {
            Ok((free_bytes, total_bytes)) => {
                (self.known.free_bytes, self.known.total_bytes) = (free_bytes, total_bytes);
                self.failed = false;
                Ok(free_bytes < self.known.floor_bytes)
            }
            Err(error) => Err((!std::mem::replace(&mut self.failed, true)).then_some(error)),
        }
    }

    /// What is free, as last known.
    pub(crate) fn free(&self) -> DiskFree {
        DiskFree {
            path: self.known.path.clone(),
            free_bytes: self.known.free_bytes,
            total_bytes: self.known.total_bytes,
        }
    }

    /// What to tell when the floor is reached.
    pub(crate) fn floor_error(&self) -> Error {
        let (free, floor) = (self.known.free_bytes, self.known.floor_bytes);
        let message =
            format!("{free} bytes free are less than the floor of {floor}; the run stops");
        space_error(&self.known.path, &message)
    }
}

fn space_error(path: &str, message: &str) -> Error {
    Error {
        worker: None,
        operation: "statvfs".to_owned(),
        path: Some(path.to_owned()),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_questions_and_judges_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let known = FileSystem {
            path: dir.path().to_string_lossy().into_owned(),
            floor_bytes: u64::MAX,
            free_bytes: 0,
            total_bytes: 0,
        };
        let (mail, mailbox) = sync_channel(4);
        let (mut watched, error) = Watched::start(0, known, mail);
        assert_eq!(error, None);
        watched.ask();
        let Message::Space {
            file_system: 0,
            reading,
        } = mailbox.recv().unwrap()
        else {
            panic!("another message");
        };
        assert_eq!(watched.take(reading), Ok(true));
        assert!(watched.free().free_bytes > 0 && watched.free().total_bytes > 0);
        assert!(
            watched
                .floor_error()
                .message
                .contains("less than the floor")
        );
        let trouble = || Err(space_error("/p", "gone"));
        assert_eq!(
            watched.take(trouble()),
            Err(Some(space_error("/p", "gone")))
        );
        assert_eq!(watched.take(trouble()), Err(None), "told once");
        watched.known.floor_bytes = 0;
        assert_eq!(watched.take(Ok((5, 9))), Ok(false));
    }
}
