//! Small programs in four languages, each with the client library of its language, against Pinnace.
//!
//! Invariant: every program makes the same checks, by name, or the step fails; in the middle of each the server is
//! killed and started again on the same address. A language whose tools are missing is named, the others run.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::NotRun;
use crate::reference::run as run_to_end;
use crate::servers::Pinnace;

/// What every program says it did, in order.
const CHECKS: &[&str] = &[
    "connect",
    "publish",
    "request",
    "no_responders",
    "headers",
    "queue_group",
    "reconnect",
    "drain",
];

/// No check takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The versions of the libraries, for the report; `package.json` names that of JavaScript.
const NATS_PY: &str = "nats-py==2.16.0";

/// Makes a language's program ready: the command that runs it, to which the URL is added.
type Prepare = fn(&Places) -> Result<Command>;

const LANGUAGES: &[(&str, Prepare)] = &[
    ("Rust, async-nats", rust),
    ("Python, nats-py", python),
    ("JavaScript, @nats-io/transport-node", javascript),
    ("C, libnats", c),
];

struct Places {
    own: PathBuf,
    target: PathBuf,
}

/// Runs all of them.
pub(crate) fn run(own: &Path, target: &Path, pinnace: &Path) -> Result<()> {
    let places = Places {
        own: own.to_owned(),
        target: target.join("clients"),
    };
    std::fs::create_dir_all(&places.target)?;
    let mut missing = Vec::new();
    for (language, prepare) in LANGUAGES {
        match prepare(&places) {
            Ok(command) => {
                converse(command, pinnace).with_context(|| (*language).to_owned())?;
                println!("{language}: {}", CHECKS.join(", "));
            }
            Err(error) if error.is::<NotRun>() => {
                println!("{language}: not run: {error}");
                missing.push(format!("{language}: {error}"));
            }
            Err(error) => return Err(error.context((*language).to_owned())),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(NotRun::new(missing.join("; ")).into())
}

/// One program against a server of its own.
fn converse(mut command: Command, pinnace: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = Pinnace::start(pinnace, folder.path(), "")?;
    let address = server.address;
    let mut process = command
        .arg(format!("nats://{address}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let said = listen(&mut process)?;
    let done = checks(&said, &mut process, || {
        server.restart(pinnace, folder.path())
    });
    // It may hang after what it said last.
    if done.is_err() {
        let _ = process.kill();
    }
    let status = process.wait()?;
    let done = done?;
    if !status.success() || done != CHECKS {
        bail!("it ended with {status} after: {}", done.join(", "));
    }
    Ok(())
}

fn listen(process: &mut Child) -> Result<Receiver<String>> {
    let output = BufReader::new(process.stdout.take().context("no stdout")?);
    let (tell, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    Ok(said)
}

/// The checks a program says it did, until it ends.
fn checks(
    said: &Receiver<String>,
    process: &mut Child,
    mut restart: impl FnMut() -> Result<()>,
) -> Result<Vec<String>> {
    let mut done = Vec::new();
    loop {
        match said.recv_timeout(PATIENCE) {
            Ok(line) if line == "RESTART" => {
                restart()?;
                let input = process.stdin.as_mut().context("no stdin")?;
                input.write_all(b"restarted\n")?;
            }
            Ok(line) => match line.strip_prefix("ok ") {
                Some(name) => done.push(name.to_owned()),
                None => bail!("it said `{line}`"),
            },
            Err(RecvTimeoutError::Disconnected) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                bail!("it says nothing more after: {}", done.join(", "))
            }
        }
    }
}

fn rust(places: &Places) -> Result<Command> {
    let built = crate::executable(
        &places.own,
        &["--package", "conformance", "--example", "smoke"],
        "smoke",
    )?;
    Ok(Command::new(built))
}

fn python(places: &Places) -> Result<Command> {
    let folder = places.target.join("python");
    let python = folder.join("bin/python");
    let is_ready = |python: &Path| {
        let mut import = Command::new(python);
        import.args(["-c", "import nats"]);
        succeeds(&mut import)
    };
    if !is_ready(&python) {
        let mut venv = Command::new("python3");
        venv.args(["-c", "import venv, ensurepip"]);
        if !succeeds(&mut venv) {
            return Err(NotRun::new("needs python3 with venv (python3-venv)").into());
        }
        run_to_end(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )?;
        run_to_end(
            Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .arg(NATS_PY),
        )
        .context("nats-py is fetched from the Python registry, which needs a network")?;
    }
    let mut command = Command::new(python);
    command.arg(places.own.join("clients/smoke.py"));
    Ok(command)
}

fn javascript(places: &Places) -> Result<Command> {
    if !succeeds(Command::new("node").arg("--version"))
        || !succeeds(Command::new("npm").arg("--version"))
    {
        return Err(NotRun::new("needs node and npm").into());
    }
    let folder = places.target.join("javascript");
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "smoke.mjs"] {
        std::fs::copy(places.own.join("clients").join(file), folder.join(file))?;
    }
    if !folder.join("node_modules/@nats-io/transport-node").exists() {
        let mut install = Command::new("npm");
        install
            .args([
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
            ])
            .current_dir(&folder);
        run_to_end(&mut install)
            .context("the library is fetched from the npm registry, which needs a network")?;
    }
    let mut command = Command::new("node");
    command.arg(folder.join("smoke.mjs"));
    Ok(command)
}

fn c(places: &Places) -> Result<Command> {
    let header = "#include <nats/nats.h>\n";
    let probe = places.target.join("probe.c");
    std::fs::write(&probe, header)?;
    if !succeeds(Command::new("cc").arg("-fsyntax-only").arg(&probe)) {
        return Err(NotRun::new("needs cc and libnats (libnats-dev)").into());
    }
    let program = places.target.join("smoke-c");
    run_to_end(
        Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
            .arg(&program)
            .arg(places.own.join("clients/smoke.c"))
            .args(["-lnats", "-lpthread"]),
    )?;
    Ok(Command::new(program))
}

fn succeeds(command: &mut Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
