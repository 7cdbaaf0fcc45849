//! `docs/schemas/`: the JSON Schema of every published document, written from its type; and
//! `docs/openapi.json`, the description of the HTTP door, written from its table.
//!
//! Invariant: the committed files equal what the types say; a test compares them, so a change of
//! the contract shows up in the diff of a commit.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Files by path and the text they should have.
fn generated(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (name, schema) in pinnace_proto::schema::all() {
        let text = serde_json::to_string_pretty(&schema).context(name)?;
        files.push((folder(root).join(name), text + "\n"));
    }
    let api = format!("{:#}\n", pinnace_proto::openapi::document());
    files.push((root.join("docs").join("openapi.json"), api));
    Ok(files)
}

fn folder(root: &Path) -> PathBuf {
    root.join("docs").join("schemas")
}

/// `cargo xtask schemas`: writes the files and removes those of documents that are gone.
pub(crate) fn write(root: &Path) -> Result<()> {
    let files = generated(root)?;
    fs::create_dir_all(folder(root))?;
    for entry in fs::read_dir(folder(root))? {
        let path = entry?.path();
        let stale = path.extension().is_some_and(|e| e == "json")
            && !files.iter().any(|(wanted, _)| *wanted == path);
        if stale {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    for (path, text) in &files {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("{} documents written to docs", files.len());
    Ok(())
}

/// What is wrong with the committed files, one sentence each.
#[cfg(test)]
fn stale(root: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let files = generated(root)?;
    for (path, text) in &files {
        if fs::read_to_string(path).ok().as_ref() != Some(text) {
            wrong.push(format!("{} is not what the types say", path.display()));
        }
    }
    for entry in fs::read_dir(folder(root))? {
        let path = entry?.path();
        if !files.iter().any(|(wanted, _)| *wanted == path) {
            wrong.push(format!("{} belongs to no document", path.display()));
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let wrong = stale(&crate::root()).unwrap();
        assert_eq!(
            wrong,
            Vec::<String>::new(),
            "run `cargo xtask schemas` and commit"
        );
    }

    #[test]
    fn a_missing_and_a_foreign_file_are_noticed() {
        let root = std::env::temp_dir().join(format!("xtask-schemas-{}", std::process::id()));
        write(&root).unwrap();
        assert_eq!(stale(&root).unwrap(), Vec::<String>::new());
        fs::remove_file(folder(&root).join("event.json")).unwrap();
        fs::write(folder(&root).join("gone.json"), "{}").unwrap();
        assert_eq!(stale(&root).unwrap().len(), 2);
        write(&root).unwrap();
        assert_eq!(stale(&root).unwrap(), Vec::<String>::new());
        fs::remove_dir_all(root).unwrap();
    }
}
