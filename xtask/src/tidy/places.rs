//! Nothing in the tree knows the machine it was written on: no absolute paths of somebody's
//! folders, no addresses of a registry.

use super::{File, Finding};

/// Beginnings of machine paths, in two parts so that this file does not find itself.
const PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

/// Words that only a particular registry or mirror needs.
const REGISTRIES: &[&str] = &[
    concat!("sparse", "+http"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("replace", "-with"),
    concat!("artifact", "ory"),
];

/// Checks one file; the lock file holds addresses by nature.
pub(super) fn check(file: &File) -> Vec<Finding> {
    if file.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (place, line) in file.text.lines().enumerate() {
        let path = PATHS.iter().find(|path| begins_path(line, path));
        let registry = REGISTRIES.iter().find(|word| line.contains(*word));
        if let Some(found) = path.or(registry) {
            let text =
                format!("`{found}` belongs to one machine; take it out or make it an argument");
            findings.push(Finding::new(&file.path, place + 1, text));
        }
    }
    findings
}

/// Whether `path` stands in `line` as the beginning of an absolute path, not inside a longer one.
fn begins_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-~}>*".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_registries_are_found_and_relatives_are_not() {
        for (text, findings) in [
            ("see /wo~rk/a", 1),
            ("\"/ho~me/me/x\"", 1),
            ("path=/ro~ot/.x", 1),
            ("src/ro~ot/x.rs", 0),
            ("~/wo~rk/x", 0),
            ("network/ho~me/x", 0),
            ("registry = \"sparse~+https://a\"", 1),
            ("/srv/bench/a", 0),
        ] {
            // The last tilde of a text is a gap to be closed; a leading one is meant.
            let text = match text.rsplit_once('~') {
                Some((before, after)) => format!("{before}{after}"),
                None => text.to_owned(),
            };
            assert_eq!(
                check(&File::of("docs/a.md", &text)).len(),
                findings,
                "{text}"
            );
            assert_eq!(check(&File::of("Cargo.lock", &text)), []);
        }
    }
}
