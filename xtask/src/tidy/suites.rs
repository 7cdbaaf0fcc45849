//! No test is forgotten: integration tests are one binary per crate, and each of its files is named
//! in its `main.rs`.

use super::{File, Finding};

/// Checks all files together, because a file that is named nowhere cannot say so itself.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((owner, inside)) = file.path.split_once("/tests/") else {
            continue;
        };
        let Some(module) = inside.strip_prefix("it/") else {
            let text = "integration tests are one binary; move the file into tests/it and name it \
                        in tests/it/main.rs";
            findings.push(Finding::new(&file.path, 1, text));
            continue;
        };
        let (folder, name) = module.rsplit_once('/').unwrap_or(("", module));
        let stem = name.trim_end_matches(".rs");
        let (folder, stem) = match (folder.rsplit_once('/'), stem) {
            (_, "main") if folder.is_empty() => continue,
            (Some((above, own)), "mod") => (above, own),
            (None, "mod") => ("", folder),
            (_, stem) => (folder, stem),
        };
        let parents = match folder {
            "" => vec![format!("{owner}/tests/it/main.rs")],
            folder => vec![
                format!("{owner}/tests/it/{folder}/mod.rs"),
                format!("{owner}/tests/it/{folder}.rs"),
            ],
        };
        let named = files
            .iter()
            .filter(|other| parents.contains(&other.path))
            .any(|parent| {
                let line = format!("mod {stem};");
                parent
                    .text
                    .lines()
                    .any(|l| l.trim_start().trim_start_matches("pub(crate) ") == line)
            });
        if !named {
            let text = format!("no test in it runs; write `mod {stem};` in {}", parents[0]);
            findings.push(Finding::new(&file.path, 1, text));
        }
    }
    findings.extend(manifests(files));
    findings
}

/// A crate with integration tests names their one binary.
fn manifests(files: &[File]) -> Vec<Finding> {
    let mains = files
        .iter()
        .filter_map(|file| file.path.strip_suffix("/tests/it/main.rs"));
    mains
        .filter_map(|owner| {
            let path = format!("{owner}/Cargo.toml");
            let manifest = files.iter().find(|file| file.path == path)?;
            let wanted = ["autotests = false", "path = \"tests/it/main.rs\""];
            let missing = wanted.iter().find(|line| !manifest.text.contains(*line))?;
            let text = format!("the crate has integration tests; write `{missing}`");
            Some(Finding::new(&path, 1, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "autotests = false\npath = \"tests/it/main.rs\"\n";

    fn found(files: &[(&str, &str)]) -> usize {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File::of(path, text))
            .collect();
        check(&files).len()
    }

    #[test]
    fn a_file_that_is_named_nowhere_is_found() {
        let main = ("c/a/tests/it/main.rs", "//! x\nmod named;\nmod deep;\n");
        for (path, findings) in [
            ("c/a/tests/it/named.rs", 0),
            ("c/a/tests/it/other.rs", 1),
            ("c/a/tests/it/deep/mod.rs", 0),
            ("c/a/tests/it/deep/lost.rs", 1),
            ("c/a/tests/loose.rs", 1),
            ("c/a/src/lib.rs", 0),
        ] {
            let files = [main, ("c/a/Cargo.toml", MANIFEST), (path, "mod x;\n")];
            assert_eq!(found(&files), findings, "{path}");
        }
        let nested = [
            ("c/a/tests/it/main.rs", "mod deep;\n"),
            ("c/a/tests/it/deep/mod.rs", "pub(crate) mod inner;\n"),
            ("c/a/tests/it/deep/inner.rs", ""),
            ("c/a/Cargo.toml", MANIFEST),
        ];
        assert_eq!(found(&nested), 0);
    }

    #[test]
    fn a_manifest_that_lets_cargo_guess_is_found() {
        let main = ("c/a/tests/it/main.rs", "//! x\n");
        for (manifest, findings) in [(MANIFEST, 0), ("autotests = false\n", 1), ("", 1)] {
            assert_eq!(
                found(&[main, ("c/a/Cargo.toml", manifest)]),
                findings,
                "{manifest}"
            );
        }
    }
}
