//! What a server is started with, resolved: no defaults left open.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{MessageLogSettings, SlowConsumer, limits};

/// Settings of one server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data folder; made when it is not there.
    pub data: PathBuf,
    /// HTTP door; port 0 picks a free one.
    pub http: SocketAddr,
    /// NATS door; port 0 picks a free one.
    pub nats: SocketAddr,
    /// Addresses `host:port` under which others reach the NATS door; its clients are told them.
    pub nats_advertise: Vec<String>,
    /// What a NATS client may do.
    pub nats_limits: NatsLimits,
    /// What happens to live subscribers that are too far behind and chose nothing.
    pub slow_consumer: SlowConsumer,
    /// Who may come in; nobody is asked when nothing is set.
    pub auth: AuthSettings,
    /// End after this long without clients.
    pub exit_when_idle: Option<Duration>,
    /// Write the report of the session's runs here whenever one finishes, and at the end.
    pub report: Option<PathBuf>,
    /// Log messages of these topics.
    pub message_log: Option<MessageLogSettings>,
    /// Bind addresses other hosts can reach although nobody is authenticated.
    pub expose_without_authentication: bool,
}

/// Limits of the NATS door that differ from place to place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsLimits {
    /// Largest message, headers and payload together, bytes.
    pub payload_bytes_max: usize,
    /// Longest arguments of one operation, bytes.
    pub control_line_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Time between pings to a silent client.
    pub ping_interval: Duration,
    /// Unanswered pings after which a connection is stale.
    pub pings_unanswered_max: u32,
    /// A client that has to say who it is has this long to do so.
    pub auth_timeout: Duration,
}

impl Default for NatsLimits {
    fn default() -> Self {
        Self {
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            control_line_bytes_max: pinnace_nats::limits::CONTROL_LINE_BYTES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            subscriptions_max: limits::SUBSCRIPTIONS_MAX,
            ping_interval: limits::PING_INTERVAL,
            pings_unanswered_max: limits::PINGS_UNANSWERED_MAX,
            auth_timeout: limits::AUTH_TIMEOUT,
        }
    }
}

/// Who may come in, through both doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// Whoever has it may do everything. A bcrypt hash is taken as such.
    pub token: Option<Secret>,
    /// Users by password or key.
    pub users: Vec<UserSettings>,
    /// Rules of the users that have none of their own.
    pub default_permissions: Option<PermissionSettings>,
    /// Name of the user that everybody is who says nothing.
    pub no_auth_user: Option<String>,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSettings {
    /// How it proves who it is.
    pub identity: Identity,
    /// What it may do; everything, unless there are default permissions.
    pub permissions: Option<PermissionSettings>,
}

/// How a user proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By name and password. A bcrypt hash is taken as such.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// By a signature of this public key.
    Nkey(String),
}

/// What a user may do with topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSettings {
    /// Where it may publish.
    pub publish: RuleSettings,
    /// What it may subscribe to. `PATTERN GROUP` is about that queue group only.
    pub subscribe: RuleSettings,
}

/// Patterns that are allowed and denied; what is denied is denied although it is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSettings {
    /// Nothing but these; everything when there is no list.
    pub allow: Option<Vec<String>>,
    /// None of these.
    pub deny: Vec<String>,
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
