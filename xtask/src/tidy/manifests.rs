//! Versions stand in the root manifest and only there.

use super::{File, Finding};

/// Every dependency of a member is taken from the workspace.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for (place, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_dependencies = section.ends_with("dependencies");
            if section.contains("dependencies.") {
                let text = "write the dependency on one line: `name.workspace = true`";
                findings.push(Finding::new(&file.path, place + 1, text));
            }
            continue;
        }
        let empty = line.is_empty() || line.starts_with('#');
        if in_dependencies && !empty && !line.contains("workspace = true") {
            let text = format!(
                "`{line}`: put the version into the root Cargo.toml with the reason for the \
                 dependency, and write `workspace = true` here"
            );
            findings.push(Finding::new(&file.path, place + 1, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_a_member_is_found() {
        for (text, findings) in [
            ("[dependencies]\nserde.workspace = true\n", 0),
            (
                "[dependencies]\nserde = { workspace = true, features = [\"rc\"] }\n",
                0,
            ),
            ("[dependencies]\n# why\n\nserde = \"1\"\n", 1),
            ("[dev-dependencies]\na = { path = \"../a\" }\n", 1),
            ("[target.'cfg(unix)'.dependencies]\na = \"1\"\n", 1),
            ("[dependencies.serde]\nversion = \"1\"\n", 1),
            (
                "[package]\nname = \"a\"\n[dependencies]\n[lints]\nx = 1\n",
                0,
            ),
        ] {
            assert_eq!(
                check(&File::of("c/Cargo.toml", text)).len(),
                findings,
                "{text}"
            );
        }
    }
}
