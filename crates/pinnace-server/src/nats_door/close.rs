//! Why a connection ends: the words for its client, if any, and those for the roster and the log.

use pinnace_nats::{ConnectError, DecodeError};

/// The connection is to be closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Close {
    /// Words for the client, sent as `-ERR`.
    pub(super) error: Option<String>,
    /// Words for the roster and the log.
    pub(super) reason: String,
}

impl Close {
    pub(super) fn with(error: &str) -> Self {
        Self {
            error: Some(error.to_owned()),
            reason: error.to_owned(),
        }
    }

    pub(super) fn silently(reason: &str) -> Self {
        Self {
            error: None,
            reason: reason.to_owned(),
        }
    }
}

impl From<DecodeError> for Close {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::BadArguments => Self::silently(&error.to_string()),
            _ => Self::with(&error.to_string()),
        }
    }
}

impl From<ConnectError> for Close {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::BadJson => Self::silently(&error.to_string()),
            _ => Self::with(&error.to_string()),
        }
    }
}
