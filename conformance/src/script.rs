//! The scripts: what to send on which connection and what to wait for, as data.
//!
//! Invariant: a script never waits for time; each wait is for bytes or for the end of a connection.
//! The format is described in the README beside this crate.

use anyhow::{Context, Result, bail};

/// The server configuration of a script that names none.
const PLAIN: &str = "plain";

/// A script that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Path below the folder of scripts, without its ending.
    pub(crate) name: String,
    /// File name of the server configuration, without its ending.
    pub(crate) server: String,
    /// Runs on a server nobody used before.
    pub(crate) fresh: bool,
    pub(crate) steps: Vec<Step>,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Opens connections and records what the server says first.
    Open(Vec<String>),
    /// Opens connections, greets as a modern client does, and records nothing.
    Client(Vec<String>),
    /// Opens a connection and records nothing: the server may say anything.
    Knock(String),
    /// Sends bytes; in pieces, one run for each place to cut, if `split`.
    Send {
        to: String,
        bytes: Vec<Piece>,
        split: bool,
    },
    /// Sends a PING to each and records everything up to its PONG.
    Fence(Vec<String>),
    /// Records everything up to the line that holds the text.
    Until { from: String, text: String },
    /// Records everything up to the end of the connection.
    Closed(String),
    /// Ends the client's half, waits for the server's, records what came.
    End(String),
    /// Fences each and records, instead of the messages, how many there were in all and whether each
    /// count lies in its range.
    Share(Vec<(String, usize, usize)>),
    /// Asks the server to send its clients away and stop.
    Drain,
}

/// A part of what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// The number of the run, always as long, so that subjects of each run are its own.
    Run,
    /// Signature of the connection's nonce by this seed.
    Signature(String),
}

impl Script {
    /// Reads the text of a script.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut script = Self {
            name: name.to_owned(),
            server: PLAIN.to_owned(),
            fresh: false,
            steps: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            script
                .line(line)
                .with_context(|| format!("{name}.txt line {}: `{line}`", number + 1))?;
        }
        let splits = script.steps.iter().filter(|step| step.splits()).count();
        if splits > 1 {
            bail!("{name}.txt: one send can be split, not {splits}");
        }
        Ok(script)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let names = || rest.split_whitespace().map(str::to_owned).collect();
        let step = match (first, rest) {
            ("server", name) => {
                self.server = name.trim().to_owned();
                return Ok(());
            }
            ("fresh", "") => {
                self.fresh = true;
                return Ok(());
            }
            ("open", _) => Step::Open(names()),
            ("client", _) => Step::Client(names()),
            ("knock", name) => Step::Knock(name.trim().to_owned()),
            ("fence", _) => Step::Fence(names()),
            ("closed", name) => Step::Closed(name.trim().to_owned()),
            ("end", name) => Step::End(name.trim().to_owned()),
            ("until", rest) => {
                let (from, text) = rest.split_once(' ').context("until NAME TEXT")?;
                Step::Until {
                    from: from.to_owned(),
                    text: text.to_owned(),
                }
            }
            ("drain", "") => Step::Drain,
            ("share", rest) => Step::Share(shares(rest)?),
            ("split", rest) => send(rest, true)?,
            _ => send(line, false)?,
        };
        self.steps.push(step);
        Ok(())
    }

    /// The number of places at which the send to be split can be cut; 0 when nothing is split.
    pub(crate) fn cuts(&self) -> usize {
        let split = self.steps.iter().find_map(|step| match step {
            Step::Send {
                bytes, split: true, ..
            } => Some(length(bytes)),
            _ => None,
        });
        split.map_or(0, |length| length.saturating_sub(1))
    }
}

impl Step {
    fn splits(&self) -> bool {
        matches!(self, Self::Send { split: true, .. })
    }
}

/// `NAME> text` sends the text and a line end, `NAME>> text` exactly the text.
fn send(line: &str, split: bool) -> Result<Step> {
    let (to, text) = line
        .split_once('>')
        .filter(|(to, _)| !to.is_empty() && to.bytes().all(|b| b.is_ascii_alphanumeric()))
        .context("no such step; sends are NAME> TEXT or NAME>> TEXT")?;
    let (exact, text) = match text.strip_prefix('>') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let text = text.strip_prefix(' ').unwrap_or(text);
    let mut bytes = unescape(text)?;
    if !exact {
        bytes.push(Piece::Bytes(b"\r\n".to_vec()));
    }
    Ok(Step::Send {
        to: to.to_owned(),
        bytes: joined(bytes),
        split,
    })
}

fn shares(text: &str) -> Result<Vec<(String, usize, usize)>> {
    let share = |word: &str| {
        let (name, range) = word.split_once(':')?;
        let (low, high) = range.split_once('-')?;
        Some((name.to_owned(), low.parse().ok()?, high.parse().ok()?))
    };
    text.split_whitespace()
        .map(share)
        .collect::<Option<_>>()
        .context("share NAME:LOW-HIGH …")
}

/// `\r \n \t \0 \\ \xHH`, `<text*N>` repeats, `<run>`, `<sig:SEED>`.
fn unescape(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        if character == '\\' {
            let (byte, used) = escape(after)?;
            bytes.push(byte);
            rest = &after[used..];
        } else if let Some((piece, used)) = placeholder(rest)? {
            pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
            pieces.push(piece);
            rest = &rest[used..];
        } else {
            bytes.extend_from_slice(&rest.as_bytes()[..character.len_utf8()]);
            rest = after;
        }
    }
    pieces.push(Piece::Bytes(bytes));
    Ok(pieces)
}

fn escape(after: &str) -> Result<(u8, usize)> {
    let byte = match after.bytes().next() {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digits = after.get(1..3).context("\\x needs two digits")?;
            return Ok((u8::from_str_radix(digits, 16)?, 3));
        }
        _ => bail!("unknown escape \\{after}"),
    };
    Ok((byte, 1))
}

fn placeholder(rest: &str) -> Result<Option<(Piece, usize)>> {
    let Some(inner) = rest
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .map(|(inner, _)| inner)
    else {
        return Ok(None);
    };
    let used = inner.len() + 2;
    let piece = if inner == "run" {
        Piece::Run
    } else if let Some(seed) = inner.strip_prefix("sig:") {
        Piece::Signature(seed.to_owned())
    } else if let Some((text, count)) = inner.rsplit_once('*') {
        let [Piece::Bytes(bytes)] = &joined(unescape(text)?)[..] else {
            bail!("only bytes can be repeated: <{inner}>");
        };
        Piece::Bytes(bytes.repeat(count.parse()?))
    } else {
        bail!("unknown placeholder <{inner}>");
    };
    Ok(Some((piece, used)))
}

/// Neighbouring bytes become one piece.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Bytes(before)), Piece::Bytes(bytes)) => before.extend(bytes),
            (_, piece) => joined.push(piece),
        }
    }
    joined.retain(|piece| *piece != Piece::Bytes(Vec::new()));
    joined
}

/// Length of what is sent, bytes; a signature counts as 86, its length in base64.
fn length(pieces: &[Piece]) -> usize {
    let length = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => bytes.len(),
        Piece::Run => RUN_BYTES,
        Piece::Signature(_) => 86,
    };
    pieces.iter().map(length).sum()
}

/// Length of a run's number as it is sent, bytes.
pub(crate) const RUN_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Piece {
        Piece::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_become_steps() {
        let script = Script::parse(
            "a/b",
            "# title\nserver limits\nfresh\nopen a b\n\na> PING\nsplit b>> PUB <run> <x*3>\\r\\n\n\
             share a:1-2 b:0-9\nuntil a -ERR 'x'\nclosed a\n",
        )
        .unwrap();
        assert_eq!((script.server.as_str(), script.fresh), ("limits", true));
        assert_eq!(script.cuts(), 4 + RUN_BYTES + 1 + 3 + 2 - 1);
        assert_eq!(
            script.steps[1..4],
            [
                Step::Send {
                    to: "a".into(),
                    bytes: vec![bytes("PING\r\n")],
                    split: false
                },
                Step::Send {
                    to: "b".into(),
                    bytes: vec![bytes("PUB "), Piece::Run, bytes(" xxx\r\n")],
                    split: true
                },
                Step::Share(vec![("a".into(), 1, 2), ("b".into(), 0, 9)]),
            ]
        );
        assert_eq!(script.steps.len(), 6);
    }

    #[test]
    fn what_is_no_step_is_refused_with_its_line() {
        for (text, part) in [
            ("opne a\n", "line 1"),
            ("\na> \\q\n", "line 2"),
            ("a> <nonsense>\n", "<nonsense>"),
            ("share a\n", "share NAME"),
            ("split a> x\nsplit a> y\n", "one send can be split"),
        ] {
            let error = format!("{:#}", Script::parse("s", text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
