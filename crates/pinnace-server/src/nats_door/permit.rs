//! Whether a connection may publish to a topic, remembered.
//!
//! Invariant: an answer is that of [`Caller::may`] for the caller it was made for; a caller without rules
//! costs one comparison a message, others one more while the topic stays the same.

use std::collections::HashMap;

use crate::caller::{Action, Caller};
use crate::limits::PERMITTED_TOPICS_MAX;

pub(super) enum Permit {
    /// Nothing is refused.
    Everything,
    /// Answers given before, and the latest.
    ByRules {
        known: HashMap<Box<[u8]>, bool>,
        latest: (Box<[u8]>, bool),
    },
}

impl Permit {
    pub(super) fn of(caller: Option<&Caller>) -> Self {
        match caller {
            Some(caller) if caller.may_everything() => Self::Everything,
            _ => Self::ByRules {
                known: HashMap::new(),
                latest: (Box::default(), false),
            },
        }
    }

    #[inline]
    pub(super) fn may_publish(&mut self, caller: Option<&Caller>, topic: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::ByRules { known, latest } => {
                if *latest.0 != *topic {
                    *latest = (topic.into(), look_up(known, caller, topic));
                }
                latest.1
            }
        }
    }
}

fn look_up(known: &mut HashMap<Box<[u8]>, bool>, caller: Option<&Caller>, topic: &[u8]) -> bool {
    if let Some(answer) = known.get(topic) {
        return *answer;
    }
    let answer = caller.is_some_and(|caller| caller.may(Action::PublishTo(topic)));
    if known.len() >= PERMITTED_TOPICS_MAX {
        known.clear();
    }
    known.insert(topic.into(), answer);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::caller::User;
    use crate::permissions::Permissions;
    use crate::settings::{PermissionSettings, RuleSettings};

    #[test]
    fn answers_are_remembered_and_bounded() {
        let settings = PermissionSettings {
            publish: RuleSettings {
                allow: Some(vec!["ok.*".to_owned()]),
                deny: Vec::new(),
            },
            subscribe: RuleSettings::default(),
        };
        let user = User {
            name: "a".to_owned(),
            permissions: Some(Permissions::of(&settings).unwrap()),
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let caller = Caller::user(address, Arc::new(user));
        let mut permit = Permit::of(Some(&caller));
        for number in 0..PERMITTED_TOPICS_MAX + 9 {
            for (topic, may) in [
                (format!("ok.{number}"), true),
                (format!("no.{number}"), false),
            ] {
                for _ in 0..2 {
                    let answer = permit.may_publish(Some(&caller), topic.as_bytes());
                    assert_eq!(answer, may, "{topic}");
                }
            }
        }
        let Permit::ByRules { known, .. } = &permit else {
            panic!("a caller with rules");
        };
        assert!(known.len() <= PERMITTED_TOPICS_MAX);
    }

    #[test]
    fn nobody_may_nothing() {
        assert!(!Permit::of(None).may_publish(None, b""));
        assert!(!Permit::of(None).may_publish(None, b"a"));
    }
}
