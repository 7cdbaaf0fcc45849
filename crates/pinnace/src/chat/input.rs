//! Where lines come from and where they are shown: a terminal with an editor, or plain streams.
//!
//! Invariant: the next line is read only when the one before was answered, so answers stand beneath
//! what they answer; what comes by itself is shown above the line that is being typed.

use std::io::BufRead as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use super::command::COMMANDS;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// A line, or the end of them.
pub(super) type Lines = Box<dyn FnMut(&str) -> Option<String> + Send>;

/// What may be completed: names and channels, kept by the chat.
pub(super) type Words = Arc<Mutex<Vec<String>>>;

/// Where text is shown.
pub(super) enum Screen {
    Terminal(Box<dyn FnMut(String) + Send>),
    Plain(Output),
}

impl Screen {
    pub(super) fn show(&mut self, text: &str) {
        match self {
            Self::Terminal(print) => print(format!("{text}\n")),
            Self::Plain(output) => output.line(text),
        }
    }
}

/// Lines of a terminal, edited, with history and completion.
pub(super) fn terminal(words: Words) -> Result<(Lines, Screen)> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Completion, MemHistory> =
        Editor::with_history(config, MemHistory::new()).map_err(unusable)?;
    editor.set_helper(Some(Completion { words }));
    let mut printer = editor.create_external_printer().map_err(unusable)?;
    let print = move |text| {
        // A terminal that is gone ends the lines as well.
        let _ = printer.print(text);
    };
    let lines = move |prompt: &str| loop {
        match editor.readline(prompt) {
            Ok(line) => return Some(line),
            Err(ReadlineError::Signal(_)) => {}
            Err(_) => return None,
        }
    };
    Ok((Box::new(lines), Screen::Terminal(Box::new(print))))
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::failed(format!("the terminal cannot be used: {error}"))
        .hint("lines from a pipe are taken too")
}

/// Lines as they come from stdin.
pub(super) fn plain(output: &Output) -> (Lines, Screen) {
    let read = |_: &str| std::io::stdin().lock().lines().next()?.ok();
    (Box::new(read), Screen::Plain(output.clone()))
}

struct Completion {
    words: Words,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(candidates(line, position, &words))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

/// Where the word at the cursor begins, and what it may become.
fn candidates(line: &str, position: usize, words: &[String]) -> (usize, Vec<String>) {
    let before = line.get(..position).unwrap_or(line);
    let start = before.rfind(char::is_whitespace).map_or(0, |at| {
        at + before[at..].chars().next().map_or(1, char::len_utf8)
    });
    let word = &before[start..];
    let commands = COMMANDS.iter().map(|(name, ..)| *name);
    let all: Vec<&str> = if start == 0 && word.starts_with('/') {
        commands.collect()
    } else {
        words.iter().map(String::as_str).collect()
    };
    let fitting = all.into_iter().filter(|known| known.starts_with(word));
    (start, fitting.map(|known| format!("{known} ")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_names_and_channels_are_completed() {
        let words = ["alice", "alfred", "lobby"].map(str::to_owned);
        for (line, start, expected) in [
            ("/jo", 0, &["/join "][..]),
            ("/c", 0, &["/channels ", "/create "]),
            ("/join lo", 6, &["lobby "]),
            ("/to al", 4, &["alice ", "alfred "]),
            ("hi ali", 3, &["alice "]),
            ("ü al", 3, &["alice ", "alfred "]),
            ("hi zz", 3, &[]),
        ] {
            let (at, found) = candidates(line, line.len(), &words);
            assert_eq!(
                (at, &found[..]),
                (
                    start,
                    &expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]
                ),
                "{line}"
            );
        }
    }
}
