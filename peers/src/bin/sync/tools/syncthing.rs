//! syncthing: two instances that know each other and nobody else.
//!
//! Invariant: `fsWatcherDelayS` is 1, the shortest it has; discovery, relays and everything that calls
//! out are off; it runs at normal priority.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use peers::servers::{Served, bound_to_us, free_port, start_on, version_of};

use super::{Following, Live};

const PROGRAM: &str = "syncthing";

/// syncthing with its shortest delay.
#[derive(Debug)]
pub(crate) struct Syncthing;

impl Live for Syncthing {
    fn name(&self) -> String {
        PROGRAM.to_owned()
    }

    fn version(&self) -> Result<String> {
        let version = version_of(Path::new(PROGRAM), "--version", "apt-get install syncthing")?;
        let version = version.split(" \"").next().unwrap_or("unknown").to_owned();
        Ok(format!(
            "{version}; `fsWatcherDelayS` 1, TLS, syncs what it writes"
        ))
    }

    fn mirror(&self, root: &Path) -> PathBuf {
        root.join("mirror")
    }

    fn start(&self, root: &Path, source: &Path) -> Result<Following> {
        let mirror = self.mirror(root);
        for folder in [source, &mirror] {
            // Without its marker it takes a folder for one that is not mounted.
            std::fs::create_dir_all(folder.join(".stfolder"))?;
        }
        let [sending, receiving] = [root.join("sending"), root.join("receiving")];
        let ids = [generate(&sending)?, generate(&receiving)?];
        let ports = [free_port()?, free_port()?];
        let doors = [free_port()?, free_port()?];
        let write = |home: &Path, own: usize, folder: &Path, kind: &str| {
            let text = config(&ids, &ports, (own, doors[own]), folder, kind);
            std::fs::write(home.join("config.xml"), text)
        };
        write(&sending, 0, source, "sendonly")?;
        write(&receiving, 1, &mirror, "receiveonly")?;
        let server = serve(&receiving, doors[1])?;
        let client = serve(&sending, doors[0])?;
        Ok(Following {
            client,
            server,
            settled: None,
        })
    }

    fn oracle(&self) -> &'static [&'static str] {
        // Neither owners nor the times of folders are its business.
        &[
            "-rlpn",
            "--exclude=/.stfolder",
            "--delete",
            "--itemize-changes",
            "--checksum",
        ]
    }
}

/// Makes keys in a new home; returns the device they are.
fn generate(home: &Path) -> Result<String> {
    std::fs::create_dir_all(home)?;
    let ran = Command::new(PROGRAM)
        .env("HOME", home)
        .arg("generate")
        .arg(format!("--home={}", home.display()))
        .args(["--no-default-folder", "--skip-port-probing"])
        .stdin(Stdio::null())
        .output()
        .context("syncthing generate")?;
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    let id = device_id(&said).map(str::to_owned);
    ensure!(ran.status.success(), "syncthing generate: {said}");
    id.with_context(|| format!("syncthing generate names no device: {said}"))
}

fn device_id(said: &str) -> Option<&str> {
    let line = said.lines().find_map(|line| line.split_once("Device ID: "));
    Some(line?.1.trim()).filter(|id| !id.is_empty())
}

fn serve(home: &Path, door: u16) -> Result<Served> {
    let mut command = bound_to_us(Path::new(PROGRAM));
    command
        .env("HOME", home)
        .env("STNORESTART", "1")
        .arg("serve");
    command.arg(format!("--home={}", home.display()));
    command.args(["--no-browser", "--no-restart", "--no-upgrade"]);
    start_on(door, &mut command, home)
}

fn config(
    ids: &[String; 2],
    ports: &[u16; 2],
    (own, door): (usize, u16),
    folder: &Path,
    kind: &str,
) -> String {
    let devices = [0, 1].map(|which| {
        format!(
            "<device id=\"{}\" name=\"d{which}\" compression=\"metadata\">\
             <address>tcp://127.0.0.1:{}</address></device>\n",
            ids[which], ports[which]
        )
    });
    let members = ids.each_ref().map(|id| format!("<device id=\"{id}\"/>"));
    format!(
        "<configuration version=\"36\">\n\
         <folder id=\"f\" label=\"f\" path=\"{}\" type=\"{kind}\" rescanIntervalS=\"3600\" \
         fsWatcherEnabled=\"true\" fsWatcherDelayS=\"1\">{}</folder>\n{}\
         <gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:{door}</address><apikey>peers</apikey></gui>\n\
         <options><listenAddress>tcp://127.0.0.1:{}</listenAddress>\
         <globalAnnounceEnabled>false</globalAnnounceEnabled>\
         <localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled>\
         <natEnabled>false</natEnabled><urAccepted>-1</urAccepted>\
         <autoUpgradeIntervalH>0</autoUpgradeIntervalH><startBrowser>false</startBrowser>\
         <crashReportingEnabled>false</crashReportingEnabled><setLowPriority>false</setLowPriority>\
         <reconnectionIntervalS>1</reconnectionIntervalS></options>\n</configuration>\n",
        folder.display(),
        members.concat(),
        devices.concat(),
        ports[own],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_in_what_it_says() {
        assert_eq!(
            device_id("INFO: keys\nDevice ID: AB-CD\nmore"),
            Some("AB-CD")
        );
        assert_eq!(device_id("06:21 INFO: Device ID: AB-CD"), Some("AB-CD"));
        assert_eq!(device_id("Device ID: "), None);
        assert_eq!(device_id("nothing"), None);
    }

    #[test]
    fn each_side_listens_on_its_own_ports() {
        let ids = ["A".to_owned(), "B".to_owned()];
        let text = config(&ids, &[1, 2], (1, 9), Path::new("to"), "receiveonly");
        assert!(text.contains("<listenAddress>tcp://127.0.0.1:2</listenAddress>"));
        assert!(text.contains("<address>127.0.0.1:9</address>"));
        assert!(text.contains("fsWatcherDelayS=\"1\""));
    }
}
