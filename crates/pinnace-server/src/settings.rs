//! What a server is started with, resolved: no defaults left open.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::MessageLogSettings;

/// Settings of one server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data folder; made when it is not there.
    pub data: PathBuf,
    /// HTTP door; port 0 picks a free one.
    pub http: SocketAddr,
    /// NATS door; port 0 picks a free one.
    pub nats: SocketAddr,
    /// End after this long without clients.
    pub exit_when_idle: Option<Duration>,
    /// Write the report of the session's runs here whenever one finishes, and at the end.
    pub report: Option<PathBuf>,
    /// Log messages of these topics.
    pub message_log: Option<MessageLogSettings>,
    /// Bind addresses other hosts can reach although nobody is authenticated.
    pub expose_without_authentication: bool,
}
