//! What a user may do with topics: patterns that are allowed and denied.
//!
//! Invariant: a rule that cannot be read is an error when the server starts, never a rule that does
//! nothing. Checks here are plain scans; a connection remembers their answers.

use std::sync::Arc;

use pinnace_topics::topic;

use crate::settings::{PermissionSettings, RuleSettings};

/// The rules of one user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permissions {
    publish: Rules,
    subscribe: Rules,
}

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    /// Everything, when there is no list.
    allow: Option<Vec<Rule>>,
    deny: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    pattern: Box<[u8]>,
    /// It is about this queue group only, a pattern itself.
    group: Option<Box<[u8]>>,
}

/// Patterns whose messages a subscription must not get although it matches them.
pub(crate) type Withheld = Arc<[Box<[u8]>]>;

impl Permissions {
    /// Reads rules as they are written.
    pub(crate) fn of(settings: &PermissionSettings) -> Result<Self, String> {
        Ok(Self {
            publish: Rules::of(&settings.publish, false)?,
            subscribe: Rules::of(&settings.subscribe, true)?,
        })
    }

    pub(crate) fn may_publish(&self, subject: &[u8]) -> bool {
        let hits = |rule: &Rule| topic::matches(&rule.pattern, subject);
        let allowed = self.publish.allow.as_ref();
        allowed.is_none_or(|allow| allow.iter().any(hits)) && !self.publish.deny.iter().any(hits)
    }

    /// Whether all of `pattern` may be subscribed to; what is denied of it is withheld.
    pub(crate) fn may_subscribe(&self, pattern: &[u8], group: Option<&[u8]>) -> bool {
        let covers = |rule: &Rule| rule.is_about(group) && topic::covers(&rule.pattern, pattern);
        let allowed = self.subscribe.allow.as_ref();
        allowed.is_none_or(|allow| allow.iter().any(covers))
            && !self.subscribe.deny.iter().any(covers)
    }

    /// What of `pattern` is denied.
    pub(crate) fn withheld(&self, pattern: &[u8], group: Option<&[u8]>) -> Option<Withheld> {
        let denied = self
            .subscribe
            .deny
            .iter()
            .filter(|rule| rule.is_about(group) && topic::overlaps(&rule.pattern, pattern));
        let patterns: Vec<Box<[u8]>> = denied.map(|rule| rule.pattern.clone()).collect();
        (!patterns.is_empty()).then(|| patterns.into())
    }
}

impl Rules {
    fn of(settings: &RuleSettings, with_groups: bool) -> Result<Self, String> {
        let read = |texts: &[String]| -> Result<Vec<Rule>, String> {
            texts
                .iter()
                .map(|text| Rule::of(text, with_groups))
                .collect()
        };
        Ok(Self {
            allow: settings.allow.as_deref().map(read).transpose()?,
            deny: read(&settings.deny)?,
        })
    }
}

impl Rule {
    fn of(text: &str, with_group: bool) -> Result<Self, String> {
        let (pattern, group) = match text.split_once(char::is_whitespace) {
            Some((pattern, group)) if with_group => (pattern, Some(group.trim())),
            _ => (text, None),
        };
        let valid = |part: &str| topic::is_valid_pattern(part.as_bytes());
        if !valid(pattern) || group.is_some_and(|group| !valid(group)) {
            return Err(format!(
                "`{text}` is no pattern of topics; write tokens parted by dots, `*` for one token, \
                 `>` for the rest{}",
                if with_group {
                    ", and a queue group after a blank"
                } else {
                    ""
                }
            ));
        }
        Ok(Self {
            pattern: pattern.as_bytes().into(),
            group: group.map(|group| group.as_bytes().into()),
        })
    }

    /// A rule without a group is about all subscriptions, one with a group about those of that group.
    fn is_about(&self, group: Option<&[u8]>) -> bool {
        match (&self.group, group) {
            (None, _) => true,
            (Some(rule), Some(group)) => topic::matches(rule, group),
            (Some(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> RuleSettings {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        RuleSettings {
            allow: allow.map(texts),
            deny: texts(deny),
        }
    }

    fn permissions(allow: Option<&[&str]>, deny: &[&str]) -> Permissions {
        let both = PermissionSettings {
            publish: RuleSettings::default(),
            subscribe: rules(allow, deny),
        };
        Permissions::of(&both).unwrap()
    }

    #[test]
    fn publishing_needs_an_allowance_and_no_denial() {
        let narrow = Permissions::of(&PermissionSettings {
            publish: rules(Some(&["ok.>", "one"]), &["ok.no", "ok.deep.>"]),
            subscribe: RuleSettings::default(),
        })
        .unwrap();
        for (subject, may) in [
            ("ok.a", true),
            ("one", true),
            ("ok", false),
            ("ok.no", false),
            ("ok.deep.x", false),
            ("ok.deep", true),
            ("other", false),
        ] {
            assert_eq!(narrow.may_publish(subject.as_bytes()), may, "{subject}");
        }
    }

    #[test]
    fn subscribing_is_allowed_for_the_whole_pattern_or_not_at_all() {
        let narrow = permissions(Some(&["ok.*", "work only"]), &["ok.no", "ok.a bad"]);
        for (pattern, group, may) in [
            ("ok.a", None, true),
            ("ok.*", None, true),
            ("ok.>", None, false),
            (">", None, false),
            ("ok.no", None, false),
            ("ok.no", Some("g"), false),
            ("work", None, false),
            ("work", Some("only"), true),
            ("work", Some("other"), false),
            ("ok.a", Some("bad"), false),
            ("ok.a", Some("good"), true),
        ] {
            let (bytes, group) = (pattern.as_bytes(), group.map(str::as_bytes));
            assert_eq!(
                narrow.may_subscribe(bytes, group),
                may,
                "{pattern} {group:?}"
            );
        }
    }

    #[test]
    fn what_is_denied_of_a_pattern_is_withheld() {
        let denied = permissions(None, &["no.>", "x.*.y"]);
        let withheld = |pattern: &str| {
            let patterns = denied.withheld(pattern.as_bytes(), None);
            patterns.map_or(0, |patterns| patterns.len())
        };
        assert_eq!([">", "x.a.*", "no", "a"].map(withheld), [2, 1, 0, 0]);
        assert!(!denied.may_subscribe(b"no.>", None) && denied.may_subscribe(b">", None));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["a..b", "", "a.>.b", "a g..x"] {
            let settings = PermissionSettings {
                publish: RuleSettings::default(),
                subscribe: rules(None, &[text]),
            };
            let error = Permissions::of(&settings).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
