//! What can go wrong, for people and for scripts: a sentence, a hint, an exit code.
//!
//! The exit codes are an interface; scripts rely on them.

use std::fmt::Display;

use pinnace_client::{ApiError, CourierError, MessagesError};

/// Done.
pub(crate) const DONE: u8 = 0;
/// Failed.
pub(crate) const FAILED: u8 = 1;
/// Usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// Done in part: a client was lost, a file could not be read, the run was interrupted.
pub(crate) const PARTIAL: u8 = 3;
/// The job cannot roll over twice in its run time.
pub(crate) const INFEASIBLE: u8 = 5;
/// Not authorised.
pub(crate) const UNAUTHORISED: u8 = 6;
/// What was read back was not what was written.
pub(crate) const INTEGRITY: u8 = 7;
/// Refused for safety.
pub(crate) const UNSAFE: u8 = 8;

/// How to say who one is.
const LOG_IN: &str = "set PINNACE_USER and PINNACE_PASSWORD, or PINNACE_TOKEN; or client.user and client.password, \
                      or client.token, in the configuration";

const ANOTHER_LOGIN: &str = "log in as somebody who may";

/// Why a command ends early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// With one of the exit codes above.
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            hint: None,
        }
    }

    pub(crate) fn failed(message: impl Display) -> Self {
        Self::new(FAILED, message)
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(USAGE, message)
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match &error {
            ApiError::BadUrl(_) => Self::usage(&error),
            ApiError::Refused(problem) if problem.status == 401 => {
                Self::new(UNAUTHORISED, &error).hint(LOG_IN)
            }
            ApiError::Refused(problem) if problem.status == 403 => {
                Self::new(UNAUTHORISED, &error).hint(ANOTHER_LOGIN)
            }
            _ => Self::failed(&error),
        }
    }
}

impl From<MessagesError> for Failure {
    fn from(error: MessagesError) -> Self {
        match error {
            MessagesError::Unauthorised { .. } => Self::new(UNAUTHORISED, error).hint(LOG_IN),
            MessagesError::Forbidden(_) => Self::new(UNAUTHORISED, error).hint(ANOTHER_LOGIN),
            MessagesError::Denied { ref code, .. } if code == "forbidden" => {
                Self::new(UNAUTHORISED, error).hint(ANOTHER_LOGIN)
            }
            other => Self::failed(other),
        }
    }
}

impl From<CourierError> for Failure {
    fn from(error: CourierError) -> Self {
        match error {
            CourierError::Api(error) => error.into(),
            CourierError::Messages(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

/// The word of `known` that is nearest to `word`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
