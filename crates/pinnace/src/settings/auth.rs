//! The users of a server, the limits of its NATS door and what it does with slow consumers, from the
//! texts of a file.
//!
//! Secrets come from the file alone: a flag would be seen by everybody on the host.

use pinnace_server::{
    AuthSettings, Identity, NatsLimits, PermissionSettings, RuleSettings, Secret, SlowConsumer,
    SlowPolicy, UserSettings,
};

use super::Layers;
use super::file::{PermissionsEntry, RulesEntry, Scalar, UserEntry};
use crate::failure::{Failure, Result, nearest};

impl Layers {
    /// Who may come in.
    pub(crate) fn auth_settings(&self) -> Result<AuthSettings> {
        let (entry, path) = self.auth();
        let text = |scalar: &Scalar| scalar.text().to_owned();
        let users = entry.users.iter().enumerate().map(|(place, user)| {
            self::user(user).map_err(|problem| {
                let place = place + 1;
                Failure::usage(format!(
                    "{}: server.auth.users, user {place}: {problem}",
                    path.display()
                ))
            })
        });
        Ok(AuthSettings {
            token: entry.token.as_ref().map(text).map(Secret),
            users: users.collect::<Result<_>>()?,
            default_permissions: entry.default_permissions.as_ref().map(permissions),
            no_auth_user: entry.no_auth_user.as_ref().map(text),
        })
    }

    /// Limits of the NATS door: those that are set, and the usual ones.
    pub(crate) fn nats_limits(&self) -> Result<NatsLimits> {
        let mut limits = NatsLimits::default();
        let key = |name: &str| format!("server.nats_limits.{name}");
        let ceiling = pinnace_server::limits::PAYLOAD_BYTES_CEILING as u64;
        if let Some(bytes) = self.bounded_size(&key("max_payload"), ceiling)? {
            limits.payload_bytes_max = bytes;
        }
        if let Some(bytes) = self.bounded_size(&key("max_control_line"), 1 << 20)? {
            limits.control_line_bytes_max = bytes;
        }
        if let Some(count) = self.count(&key("max_connections"))? {
            limits.connections_max = count as usize;
        }
        if let Some(count) = self.count(&key("max_subscriptions"))? {
            limits.subscriptions_max = count as usize;
        }
        if let Some(count) = self.count(&key("pings_unanswered_max"))? {
            limits.pings_unanswered_max = count;
        }
        if let Some(interval) = self.duration(&key("ping_interval"))? {
            if interval.is_zero() {
                return Err(self.wrong(&key("ping_interval"), "pings without a pause help nobody"));
            }
            limits.ping_interval = interval;
        }
        if let Some(timeout) = self.duration(&key("auth_timeout"))? {
            limits.auth_timeout = timeout;
        }
        Ok(limits)
    }

    /// What happens to live subscribers that are too far behind.
    pub(crate) fn slow_consumer(&self) -> Result<SlowConsumer> {
        let key = |name: &str| format!("server.slow_consumer.{name}");
        let policy = |text: &str| {
            let choices = SlowPolicy::ALL.map(SlowPolicy::name);
            match text.parse() {
                Ok(SlowPolicy::Spill) => Err(
                    "spill needs a queue's name, so each subscription asks for it itself:                      ?spill=NAME, $PN.slow, sub --spill NAME"
                        .to_owned(),
                ),
                Ok(policy) => Ok(policy),
                Err(problem) => Err(match nearest(text, choices) {
                    Some(known) => format!("{problem}; did you mean `{known}`?"),
                    None => problem,
                }),
            }
        };
        let ceiling = pinnace_server::limits::PENDING_BYTES_MAX as u64;
        Ok(SlowConsumer {
            policy: self.parsed(&key("policy"), policy)?.unwrap_or_default(),
            pending_bytes_max: self.bounded_size(&key("pending"), ceiling)?,
        })
    }

    fn bounded_size(&self, key: &str, max: u64) -> Result<Option<usize>> {
        match self.size(key)? {
            Some(bytes) if bytes == 0 || bytes > max => {
                Err(self.wrong(key, format!("takes 1 to {max} bytes")))
            }
            bytes => Ok(bytes.map(|bytes| bytes as usize)),
        }
    }

    fn count(&self, key: &str) -> Result<Option<u32>> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(self.wrong(key, format!("`{text}` is no number from 1"))),
        }
    }
}

fn user(entry: &UserEntry) -> std::result::Result<UserSettings, &'static str> {
    let text = |scalar: &Option<Scalar>| scalar.as_ref().map(|scalar| scalar.text().to_owned());
    let identity = match (text(&entry.user), text(&entry.password), text(&entry.nkey)) {
        (Some(user), Some(password), None) => Identity::Password {
            user,
            password: Secret(password),
        },
        (None, None, Some(key)) => Identity::Nkey(key),
        _ => return Err("needs `user` and `password`, or `nkey`"),
    };
    Ok(UserSettings {
        identity,
        permissions: entry.permissions.as_ref().map(permissions),
    })
}

fn permissions(entry: &PermissionsEntry) -> PermissionSettings {
    PermissionSettings {
        publish: rules(&entry.publish),
        subscribe: rules(&entry.subscribe),
    }
}

fn rules(entry: &RulesEntry) -> RuleSettings {
    let texts = |list: &[Scalar]| list.iter().map(|text| text.text().to_owned()).collect();
    RuleSettings {
        allow: entry.allow.as_deref().map(texts),
        deny: texts(&entry.deny),
    }
}
