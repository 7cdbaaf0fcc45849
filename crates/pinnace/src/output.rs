//! Everything a person or a script reads: results on stdout, progress and errors on stderr.
//!
//! With `--json` stdout holds JSON and nothing else. A reader that goes away (a closed pipe) is no
//! error. The only room that prints.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where printing happens"
)]

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::commands::Global;
use crate::failure::Failure;
use crate::payload::Reader;

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How this invocation speaks.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// JSON on stdout.
    pub(crate) json: bool,
    quiet: bool,
    color: bool,
    /// Progress may redraw its line.
    live: bool,
    /// Results go to somebody at a terminal.
    terminal: bool,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && !dumb && std::io::stdout().is_terminal(),
        };
        let live = std::io::stderr().is_terminal() && !dumb;
        Self {
            json: global.json,
            quiet: global.quiet,
            color,
            live,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Colour may be used on stdout.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// Who reads the results.
    pub(crate) fn reader(&self) -> Reader {
        match self.terminal {
            true => Reader::Person { color: self.color },
            false => Reader::Program,
        }
    }

    /// Columns of the terminal; 80 when it is none.
    pub(crate) fn columns(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        size.map_or(80, |size| usize::from(size.ws_col))
            .clamp(60, 160)
    }

    /// A result for people; nothing with `--json`.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            write_line(text.as_ref());
        }
    }

    /// A result for programs, on one line or many.
    pub(crate) fn document<T: Serialize>(&self, document: &T) {
        match serde_json::to_string_pretty(document) {
            Ok(text) => write_line(&text),
            Err(error) => eprintln!("error: the result has no JSON form: {error}"),
        }
    }

    /// One of a stream of results for programs.
    pub(crate) fn json_line<T: Serialize>(&self, document: &T) {
        match serde_json::to_string(document) {
            Ok(text) => write_line(&text),
            Err(error) => eprintln!("error: the result has no JSON form: {error}"),
        }
    }

    /// Bytes as they are, such as an exported file.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        // A reader that went away does not want to hear of it.
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// Something worth knowing while it goes on; silent with `--quiet`.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!(
                "{}{}",
                if self.live { "\r\x1b[K" } else { "" },
                text.as_ref()
            );
        }
    }

    /// A line that the next one replaces; only on a terminal.
    pub(crate) fn progress(&self, text: &str) {
        if self.live && !self.quiet {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
        }
    }

    /// Takes the progress line away.
    pub(crate) fn end_progress(&self) {
        self.progress("");
    }

    /// True when progress is redrawn rather than noted from time to time.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Why the command ends early.
    pub(crate) fn failure(&self, failure: &Failure) {
        let reset = if self.live { "\r\x1b[K" } else { "" };
        eprintln!("{reset}error: {}", failure.message());
        if let Some(advice) = failure.advice() {
            eprintln!("  hint: {advice}");
        }
    }
}

fn write_line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that went away does not want to hear of it.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Rows under their heads, columns aligned, numbers (`right`) to the right.
pub(crate) fn table(heads: &[(&str, bool)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|(head, _)| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &[String]| {
        let mut line = String::new();
        for ((cell, width), (_, right)) in cells.iter().zip(&widths).zip(heads) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if *right {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            line += &format!("{before}{cell}{after}  ");
        }
        line.trim_end().to_owned()
    };
    let heads: Vec<String> = heads.iter().map(|(head, _)| (*head).to_owned()).collect();
    let mut lines = vec![render(&heads)];
    lines.extend(rows.iter().map(|row| render(row)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let rows = [
            vec!["a".to_owned(), "1000".to_owned()],
            vec!["long".to_owned(), "2".to_owned()],
        ];
        let text = table(&[("name", false), ("n", true)], &rows);
        assert_eq!(text, "name     n\na     1000\nlong     2");
    }
}
