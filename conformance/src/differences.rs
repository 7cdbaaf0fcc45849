//! Where Pinnace means to answer otherwise than the reference: a list of pinned differences, each with
//! its reason.
//!
//! ```text
//! ## name of the script
//! Why.
//! - a line of the reference
//! + a line of Pinnace
//! ```
//!
//! Invariant: an entry excuses exactly the lines it holds. A difference that is gone has to leave the
//! list, so that the list is always the whole truth.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// The list, by script.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Intended(BTreeMap<String, Entry>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    reason: String,
    lines: Vec<String>,
}

impl Intended {
    /// Reads the list.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut current: Option<String> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                let before = entries.insert(name.to_owned(), Entry::default());
                if before.is_some() {
                    bail!("{name} is listed twice");
                }
                current = Some(name.to_owned());
            } else if let Some(name) = &current {
                let entry = entries.entry(name.clone()).or_default();
                if line.starts_with("- ") || line.starts_with("+ ") {
                    entry.lines.push(line.to_owned());
                } else if !line.trim().is_empty() {
                    entry.reason.push_str(line.trim());
                    entry.reason.push(' ');
                }
            }
        }
        for (name, entry) in &entries {
            if entry.reason.is_empty() || entry.lines.is_empty() {
                bail!("{name} has no reason or no lines");
            }
        }
        Ok(Self(entries))
    }

    /// What is wrong with a script's difference: neither equal nor as listed.
    pub(crate) fn judge(&self, name: &str, reference: &[String], ours: &[String]) -> Verdict {
        let found = difference(reference, ours);
        match (self.0.get(name), found.is_empty()) {
            (None, true) => Verdict::Same,
            (Some(entry), _) if entry.lines == found => Verdict::Intended,
            (Some(_), true) => Verdict::Gone,
            (_, false) => Verdict::Differs(found),
        }
    }

    /// The scripts that are listed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What a comparison found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Intended,
    /// It is listed, and there is no difference any more.
    Gone,
    /// Lines with `- ` are the reference's, with `+ ` ours.
    Differs(Vec<String>),
}

/// The lines that are not common to both, in order, by the longest common subsequence.
fn difference(reference: &[String], ours: &[String]) -> Vec<String> {
    let start = common(reference.iter(), ours.iter());
    let (reference, ours) = (&reference[start..], &ours[start..]);
    let end = common(reference.iter().rev(), ours.iter().rev());
    let reference = &reference[..reference.len() - end];
    let ours = &ours[..ours.len() - end];
    let mut lengths = vec![vec![0_u32; ours.len() + 1]; reference.len() + 1];
    for a in (0..reference.len()).rev() {
        for b in (0..ours.len()).rev() {
            lengths[a][b] = if reference[a] == ours[b] {
                lengths[a + 1][b + 1] + 1
            } else {
                lengths[a + 1][b].max(lengths[a][b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut lines = Vec::new();
    while a < reference.len() || b < ours.len() {
        if a < reference.len() && b < ours.len() && reference[a] == ours[b] {
            (a, b) = (a + 1, b + 1);
        } else if b == ours.len() || (a < reference.len() && lengths[a + 1][b] >= lengths[a][b + 1])
        {
            lines.push(format!("- {}", reference[a]));
            a += 1;
        } else {
            lines.push(format!("+ {}", ours[b]));
            b += 1;
        }
    }
    lines
}

fn common<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// Reads the list from its file.
pub(crate) fn read(path: &std::path::Path) -> Result<Intended> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Intended::parse(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn only_the_listed_lines_are_excused() {
        let list = "# head\n## s\nWe say more.\n- b\n+ c\n";
        let intended = Intended::parse(list).unwrap();
        for (name, reference, ours, verdict) in [
            ("t", "a|b", "a|b", Verdict::Same),
            ("s", "a|b|d", "a|c|d", Verdict::Intended),
            ("s", "a|b", "a|b", Verdict::Gone),
            (
                "s",
                "a|b",
                "a|x",
                Verdict::Differs(vec!["- b".into(), "+ x".into()]),
            ),
            (
                "t",
                "a|b|c|d",
                "b|c|x|d",
                Verdict::Differs(vec!["- a".into(), "+ x".into()]),
            ),
            ("t", "a", "a|b", Verdict::Differs(vec!["+ b".into()])),
        ] {
            let found = intended.judge(name, &lines(reference), &lines(ours));
            assert_eq!(found, verdict, "{name} {reference} {ours}");
        }
    }

    #[test]
    fn an_entry_needs_a_reason_and_lines() {
        for text in ["## s\n- a\n", "## s\nwhy\n", "## s\nw\n- a\n## s\nw\n- a\n"] {
            assert!(Intended::parse(text).is_err(), "{text}");
        }
    }
}
