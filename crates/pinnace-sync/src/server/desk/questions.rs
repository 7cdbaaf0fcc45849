//! What is asked about shares.
//!
//! Invariant: a question about a share that does not exist makes none. Left to others: sessions, who may ask.

use pinnace_proto::DOCUMENT_VERSION;
use pinnace_proto::sync::{Question, ShareInfo, Shares as SharesInfo, Trash, Verdict, Writer};

use super::{DeskError, Shares, held};
use crate::path;
use crate::server::session::Session;
use crate::server::trash::{TRASH_KEPT, Thing};
use crate::server::verify;

impl Shares {
    /// All shares.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(&self) -> Result<SharesInfo, DeskError> {
        let mut shares = Vec::new();
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            entries => Some(entries?),
        };
        for entry in entries.into_iter().flatten() {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_name(name)) {
                shares.push(self.info(name).unwrap_or_else(|error| broken(name, &error)));
            }
        }
        shares.sort_by(|a, b| a.share.cmp(&b.share));
        Ok(SharesInfo {
            v: DOCUMENT_VERSION,
            shares,
        })
    }

    /// One share.
    ///
    /// # Errors
    /// It is not there or cannot be used.
    pub fn info(&self, name: &str) -> Result<ShareInfo, DeskError> {
        let (share, session) = self.known(name)?;
        let (seq, durable) = share.progress();
        let (entries, bytes, trash, problem) = share.figures();
        Ok(ShareInfo {
            v: DOCUMENT_VERSION,
            share: name.to_owned(),
            seq,
            durable,
            entries,
            bytes,
            trash,
            writer: session.map(|session| Writer {
                name: session.hello.name.clone(),
                address: session.address.clone(),
                since_us: session.since_us,
                state: held(&session.client).clone(),
            }),
            problem,
        })
    }

    /// What is in a share's trash.
    ///
    /// # Errors
    /// The share is not there or cannot be used.
    pub fn trash(&self, name: &str) -> Result<Trash, DeskError> {
        let (share, _) = self.known(name)?;
        let items = share.lock().trash.items();
        Ok(Trash {
            v: DOCUMENT_VERSION,
            kept_s: TRASH_KEPT.as_secs(),
            items,
        })
    }

    /// Something in a share's trash: a thing by its number, or what is at a path inside it.
    ///
    /// # Errors
    /// There is no such thing, or it cannot be read.
    pub fn thing(&self, name: &str, id: u64, inside: &[u8]) -> Result<Thing, DeskError> {
        let (share, _) = self.known(name)?;
        let missing = || DeskError::NoThing(name.to_owned());
        path::check(inside).map_err(|_| missing())?;
        let found = share.lock().trash.find(id, inside);
        found.map_err(std::io::Error::from)?.ok_or_else(missing)
    }

    /// Waits until everything that has happened in the source is durable in the share. Returns the last change.
    ///
    /// # Errors
    /// Nobody mirrors into it, or the client cannot say.
    pub fn wait(&self, name: &str) -> Result<u64, DeskError> {
        let (_, session) = self.known(name)?;
        let session = session.ok_or_else(|| DeskError::NoWriter(name.to_owned()))?;
        Ok(ask(&session, name, Question::Wait)?.seq)
    }

    /// Compares a share with its source: by what is known of both, or by reading all files of both again. What is not as
    /// it should be in the share is told to the client, which sends it anew.
    ///
    /// # Errors
    /// Nobody mirrors into it, or one of the two cannot be read.
    pub fn verify(&self, name: &str, deep: bool) -> Result<Verdict, DeskError> {
        let (share, session) = self.known(name)?;
        let session = session.ok_or_else(|| DeskError::NoWriter(name.to_owned()))?;
        let repaired = verify::check(&share, &session, deep)?;
        let question = if deep {
            Question::DeepDigest
        } else {
            Question::Digest
        };
        let answer = ask(&session, name, question)?;
        let (digest, entries) = share.digest();
        let source = answer.digest.unwrap_or_default();
        let own = crate::server::hex(&digest);
        Ok(Verdict {
            v: DOCUMENT_VERSION,
            equal: source == own && repaired.is_empty(),
            seq: answer.seq,
            source,
            share: own,
            entries,
            deep,
            repaired,
        })
    }
}

fn ask(
    session: &Session,
    name: &str,
    what: Question,
) -> Result<pinnace_proto::sync::Answer, DeskError> {
    let gone = || DeskError::Gone(name.to_owned());
    let answer = session.ask(what).map_err(|_| gone())?;
    let answer = answer.recv().map_err(|_| gone())?;
    match answer.error {
        Some(error) => Err(DeskError::Client(error)),
        None => Ok(answer),
    }
}

fn is_name(name: &str) -> bool {
    pinnace_proto::name::check(name).is_ok()
}

fn broken(name: &str, error: &DeskError) -> ShareInfo {
    ShareInfo {
        v: DOCUMENT_VERSION,
        share: name.to_owned(),
        seq: 0,
        durable: 0,
        entries: 0,
        bytes: 0,
        trash: 0,
        writer: None,
        problem: Some(error.to_string()),
    }
}
