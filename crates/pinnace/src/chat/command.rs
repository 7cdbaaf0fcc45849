//! What a line typed into the chat means.

use crate::failure::nearest;

/// The commands, each with what it takes and does.
pub(super) const COMMANDS: [(&str, &str, &str); 10] = [
    ("/name", "NAME", "be called NAME"),
    ("/channels", "", "list channels"),
    ("/create", "CHANNEL", "make a channel and join it"),
    ("/join", "CHANNEL", "listen to a channel and talk there"),
    ("/leave", "[CHANNEL]", "listen to it no more"),
    ("/who", "", "who is connected"),
    ("/history", "[CHANNEL]", "what was said while you were here"),
    ("/to", "CLIENT TEXT", "say something to one client"),
    ("/help", "", "this list"),
    ("/quit", "", "leave; what is said meanwhile waits for you"),
];

/// A line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Name(String),
    Channels,
    Create(String),
    Join(String),
    Leave(Option<String>),
    Who,
    History(Option<String>),
    To(String, String),
    Help,
    Quit,
    /// Text to the current channel.
    Say(String),
}

/// Reads a line; what it should have been, when it is no command.
pub(super) fn read(line: &str) -> Result<Command, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Command::Nothing);
    }
    // Two slashes are a text that begins with one.
    if let Some(text) = line.strip_prefix("//") {
        return Ok(Command::Say(format!("/{text}")));
    }
    if !line.starts_with('/') {
        return Ok(Command::Say(line.to_owned()));
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let one = |make: fn(String) -> Command| match rest {
        "" => Err(usage(word)),
        rest if rest.contains(char::is_whitespace) => Err(usage(word)),
        rest => Ok(make(rest.to_owned())),
    };
    let maybe = |make: fn(Option<String>) -> Command| match rest {
        "" => Ok(make(None)),
        rest if rest.contains(char::is_whitespace) => Err(usage(word)),
        rest => Ok(make(Some(rest.to_owned()))),
    };
    let none = |command: Command| match rest {
        "" => Ok(command),
        _ => Err(usage(word)),
    };
    match word {
        "/name" => one(Command::Name),
        "/channels" => none(Command::Channels),
        "/create" => one(Command::Create),
        "/join" => one(Command::Join),
        "/leave" => maybe(Command::Leave),
        "/who" => none(Command::Who),
        "/history" => maybe(Command::History),
        "/to" => match rest.split_once(char::is_whitespace) {
            Some((client, text)) => Ok(Command::To(client.to_owned(), text.trim().to_owned())),
            None => Err(usage(word)),
        },
        "/help" => none(Command::Help),
        "/quit" => none(Command::Quit),
        _ => Err(match nearest(word, COMMANDS.map(|(name, ..)| name)) {
            Some(near) => format!("there is no {word}; did you mean {near}?"),
            None => format!("there is no {word}; /help lists what there is"),
        }),
    }
}

fn usage(word: &str) -> String {
    let known = COMMANDS.iter().find(|(name, ..)| *name == word);
    known.map_or_else(String::new, |(name, takes, does)| {
        format!("write it so: {name} {takes}").trim_end().to_owned() + &format!(" ({does})")
    })
}

/// The commands for `/help`.
pub(super) fn help() -> String {
    let mut lines = vec!["anything else is said in the current channel".to_owned()];
    for (name, takes, does) in COMMANDS {
        lines.push(format!("  {:<20} {does}", format!("{name} {takes}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_text() {
        let text = |text: &str| text.to_owned();
        for (line, expected) in [
            ("", Command::Nothing),
            ("  hi there ", Command::Say(text("hi there"))),
            ("//etc/hosts", Command::Say(text("/etc/hosts"))),
            ("/name bob", Command::Name(text("bob"))),
            ("/join  lobby ", Command::Join(text("lobby"))),
            ("/leave", Command::Leave(None)),
            ("/leave a", Command::Leave(Some(text("a")))),
            (
                "/to bob how are  you",
                Command::To(text("bob"), text("how are  you")),
            ),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(read(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_answered_with_what_would_be_right() {
        for (line, part) in [
            ("/jion lobby", "did you mean /join?"),
            ("/xyzzy", "/help"),
            ("/join", "/join CHANNEL"),
            ("/join a b", "/join CHANNEL"),
            ("/to bob", "/to CLIENT TEXT"),
            ("/who is", "/who"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert!(COMMANDS.iter().all(|(name, ..)| help().contains(name)));
    }
}
