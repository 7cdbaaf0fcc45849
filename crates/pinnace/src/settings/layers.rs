//! The four places put together, each value with its origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{self, AuthEntry, File, WorkerEntry};
use crate::failure::{Failure, Result};

const DEFAULTS: &str = include_str!("defaults.yaml");

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag of this invocation.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// A configuration file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// The lower, the nearer to this invocation.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 0,
            Self::Environment(_) => 1,
            Self::File(_) => 2,
            Self::Default => 3,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// All settings of one invocation.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    flags: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    file: File,
    defaults: File,
}

impl Layers {
    /// Reads the environment, the file (`config`, or the first found in the usual places) and the
    /// defaults.
    pub(crate) fn load(config: Option<&Path>) -> Result<Self> {
        let file = match config.map(Path::to_owned).or_else(usual_file) {
            Some(path) => file::read(&path)?,
            None => File::default(),
        };
        Self::of(file, std::env::vars().collect())
    }

    fn of(file: File, environment: BTreeMap<String, String>) -> Result<Self> {
        let defaults = file::parse(Path::new("defaults.yaml"), DEFAULTS)?;
        Ok(Self {
            flags: BTreeMap::new(),
            environment,
            file,
            defaults,
        })
    }

    /// A job file goes before the configuration file.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<()> {
        let job = file::read(path)?;
        let mut values = std::mem::take(&mut self.file.values);
        values.extend(job.values);
        let workers = if job.workers.is_empty() {
            std::mem::take(&mut self.file.workers)
        } else {
            job.workers
        };
        self.file = File {
            path: job.path,
            values,
            workers,
            auth: std::mem::take(&mut self.file.auth),
        };
        Ok(())
    }

    /// A flag was given.
    pub(crate) fn flag(&mut self, key: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.flags.insert(key.to_owned(), value.to_string());
        }
        self
    }

    /// A flag without a value was given.
    pub(crate) fn switch(&mut self, key: &str, given: bool) -> &mut Self {
        self.flag(key, given.then_some(true))
    }

    /// Value and origin of a key, if anybody says anything.
    pub(crate) fn get(&self, key: &str) -> Option<(String, Origin)> {
        if let Some(value) = self.flags.get(key) {
            return Some((value.clone(), Origin::Flag(flag_name(key))));
        }
        let variable = variable_name(key);
        if let Some(value) = self
            .environment
            .get(&variable)
            .filter(|value| !value.is_empty())
        {
            return Some((value.clone(), Origin::Environment(variable)));
        }
        if let Some(value) = self.file.values.get(key) {
            return Some((value.clone(), Origin::File(self.file.path.clone())));
        }
        self.defaults
            .values
            .get(key)
            .map(|value| (value.clone(), Origin::Default))
    }

    /// The workers of the job in the file.
    pub(crate) fn workers(&self) -> &[WorkerEntry] {
        &self.file.workers
    }

    /// Who may come in, as the file says, and which file that is.
    pub(crate) fn auth(&self) -> (&AuthEntry, &Path) {
        (&self.file.auth, &self.file.path)
    }

    /// Every key that has a value, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
        keys.retain(|key| self.get(key).is_some());
        keys
    }

    /// A complaint about a value that names where it came from.
    pub(crate) fn wrong(&self, key: &str, problem: impl std::fmt::Display) -> Failure {
        match self.get(key) {
            Some((_, Origin::Flag(flag))) => Failure::usage(format!("{flag}: {problem}")),
            Some((_, origin)) => Failure::usage(format!("{key} from {origin}: {problem}")),
            None => Failure::usage(format!("{key}: {problem}")),
        }
    }
}

/// Every setting there is.
const KEYS: [&str; 42] = [
    "client.heartbeat",
    "client.id",
    "client.monitor",
    "client.password",
    "client.server",
    "client.token",
    "client.user",
    "job.chunk_size",
    "job.direct",
    "job.engine",
    "job.file_size",
    "job.force",
    "job.keep_files",
    "job.min_free",
    "job.name",
    "job.rate",
    "job.run_time",
    "job.solution",
    "server.data",
    "server.exit_when_idle",
    "server.expose_without_authentication",
    "server.http",
    "server.log_file",
    "server.log_format",
    "server.message_log.file",
    "server.message_log.keep",
    "server.message_log.patterns",
    "server.message_log.payload",
    "server.message_log.size",
    "server.nats",
    "server.nats_advertise",
    "server.nats_limits.auth_timeout",
    "server.nats_limits.max_connections",
    "server.nats_limits.max_control_line",
    "server.nats_limits.max_payload",
    "server.nats_limits.max_subscriptions",
    "server.nats_limits.ping_interval",
    "server.nats_limits.pings_unanswered_max",
    "server.ready_file",
    "server.report",
    "server.slow_consumer.pending",
    "server.slow_consumer.policy",
];

/// `client.server` is `PINNACE_SERVER`, `job.run_time` is `PINNACE_RUN_TIME`, but settings of the
/// server keep their section: `server.http` is `PINNACE_SERVER_HTTP`.
fn variable_name(key: &str) -> String {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let name = name.replace('.', "_").to_ascii_uppercase();
    if section == "server" {
        format!("PINNACE_SERVER_{name}")
    } else {
        format!("PINNACE_{name}")
    }
}

fn flag_name(key: &str) -> String {
    let name = key.split_once('.').map_or(key, |(_, name)| name);
    format!("--{}", name.replace(['_', '.'], "-"))
}

/// `./pinnace.yaml`, then the user's and the system's configuration folders.
fn usual_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or(home);
    let candidates = [
        Some(PathBuf::from("pinnace.yaml")),
        user.map(|folder| folder.join("pinnace/pinnace.yaml")),
        Some(PathBuf::from("/etc/pinnace/pinnace.yaml")),
    ];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::settings) fn layers(file: &str, environment: &[(&str, &str)]) -> Layers {
        let file = file::parse(Path::new("p.yaml"), file).unwrap();
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        Layers::of(file, environment).unwrap()
    }

    #[test]
    fn flag_goes_before_environment_before_file_before_default() {
        let mut layers = layers(
            "server: {nats: a, http: b}\njob: {run_time: 9s}",
            &[
                ("PINNACE_SERVER_HTTP", "c"),
                ("PINNACE_SERVER", "d"),
                ("PINNACE_RUN_TIME", ""),
                ("PINNACE_SERVER_MESSAGE_LOG_PAYLOAD", "head"),
            ],
        );
        layers
            .flag("client.server", Some("e"))
            .flag("server.message_log.keep", Some(3))
            .flag("job.name", None::<&str>);
        let check = |key: &str, value: &str, origin: &str| {
            let (got, from) = layers.get(key).unwrap();
            assert_eq!(
                (got.as_str(), from.to_string().as_str()),
                (value, origin),
                "{key}"
            );
        };
        check("client.server", "e", "--server");
        check("server.http", "c", "PINNACE_SERVER_HTTP");
        check("server.nats", "a", "p.yaml");
        check("server.message_log.keep", "3", "--message-log-keep");
        check(
            "server.message_log.payload",
            "head",
            "PINNACE_SERVER_MESSAGE_LOG_PAYLOAD",
        );
        check("job.run_time", "9s", "p.yaml");
        check("job.file_size", "64M", "default");
        assert_eq!(layers.get("job.name"), None);
        let failure = layers.wrong("server.http", "no address");
        assert_eq!(
            failure.message(),
            "server.http from PINNACE_SERVER_HTTP: no address"
        );
    }

    #[test]
    fn every_default_is_a_known_key() {
        let layers = layers("", &[]);
        for key in layers.defaults.values.keys() {
            assert!(KEYS.contains(&key.as_str()), "{key}");
        }
    }
}
