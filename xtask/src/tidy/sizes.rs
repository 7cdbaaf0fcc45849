//! Small by ratchet: files aim below 400 lines and end at 800, functions end at 70, both without
//! tests. What is larger is listed here with its reason and its size, and that size can only fall.

use super::{File, Finding};

/// Lines of a file above which it has to be in [`FILES`].
const FILE_LINES: usize = 400;
/// Lines of a file that no reason excuses.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, signature and closing brace included, above which it has to be in
/// [`FUNCTIONS`].
const FUNCTION_LINES: usize = 70;

/// Something larger than it should be.
struct Exception {
    file: &'static str,
    /// Empty for the file itself.
    function: &'static str,
    lines: usize,
    /// Why it is not split, for whoever wants to.
    reason: &'static str,
}

/// Files above 400 lines.
const FILES: &[Exception] = &[
    Exception {
        file: "crates/pinnace-server/src/server.rs",
        function: "",
        lines: 411,
        reason: "start and stop of every part, in order",
    },
    Exception {
        file: "crates/pinnace-server/src/nats_door/session.rs",
        function: "",
        lines: 429,
        reason: "every operation of the protocol, each with what it answers",
    },
    Exception {
        file: "crates/pinnace-bench/src/controller.rs",
        function: "",
        lines: 478,
        reason: "the one loop that owns a run's state; its steps share all of it",
    },
    Exception {
        file: "crates/pinnace-log/src/log.rs",
        function: "",
        lines: 478,
        reason: "the log's whole public face with its options and states",
    },
    Exception {
        file: "crates/pinnace-log/src/recovery.rs",
        function: "",
        lines: 415,
        reason: "recovery is one argument about what was durable; it reads in one go",
    },
    Exception {
        file: "crates/pinnace-log/src/twin.rs",
        function: "",
        lines: 458,
        reason: "the twin disk: every operation with its faults and crashes",
    },
];

/// Functions above 70 lines.
const FUNCTIONS: &[Exception] = &[
    Exception {
        file: "crates/pinnace-server/src/nats_door/connection.rs",
        function: "converse",
        lines: 72,
        reason: "one select over everything that can happen to a connection",
    },
    Exception {
        file: "crates/pinnace-sync/src/client/content.rs",
        function: "compare_large",
        lines: 88,
        reason: "one file from its opening to its last piece; to be split with its file",
    },
    Exception {
        file: "crates/pinnace-sync/src/client/session.rs",
        function: "run",
        lines: 94,
        reason: "puts a session together; to be split with its file",
    },
    Exception {
        file: "crates/pinnace-sync/src/wire/op/write.rs",
        function: "write",
        lines: 86,
        reason: "the bytes of each kind of change, one after the other",
    },
];

/// Checks all Rust files that are shipped.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let shipped: Vec<&File> = files
        .iter()
        .filter(|f| f.is_rust() && !f.is_test())
        .collect();
    compare(&shipped, FILES, FUNCTIONS)
}

fn compare(
    files: &[&File],
    file_table: &[Exception],
    function_table: &[Exception],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for exception in file_table.iter().chain(function_table) {
        let stale = !files.iter().any(|file| file.path == exception.file);
        if stale || exception.reason.is_empty() {
            let text = "an exception in xtask/src/tidy/sizes.rs is for a file that is gone or has \
                        no reason; remove it or give one";
            findings.push(Finding::new(exception.file, 1, text));
        }
    }
    for file in files {
        let lines = file.production_lines();
        let listed = file_table.iter().find(|e| e.file == file.path);
        if lines > FILE_LINES_MAX {
            let text =
                format!("{lines} lines without tests; {FILE_LINES_MAX} is the end, split it");
            findings.push(Finding::new(&file.path, 1, text));
        } else {
            findings.extend(judge(file, 1, "the file", lines, FILE_LINES, listed));
        }
        for function in functions(file) {
            let listed = function_table
                .iter()
                .find(|e| e.file == file.path && e.function == function.name);
            let what = format!("`{}`", function.name);
            let (line, lines) = (function.line, function.lines);
            findings.extend(judge(file, line, &what, lines, FUNCTION_LINES, listed));
        }
    }
    findings
}

fn judge(
    file: &File,
    line: usize,
    what: &str,
    lines: usize,
    most: usize,
    listed: Option<&Exception>,
) -> Option<Finding> {
    let text = match listed {
        None if lines > most => format!(
            "{what} has {lines} lines, more than {most}; split it, or list it with a reason in \
             xtask/src/tidy/sizes.rs"
        ),
        Some(exception) if lines > exception.lines => format!(
            "{what} has grown from {} to {lines} lines; it was to shrink",
            exception.lines
        ),
        Some(exception) if lines <= most => format!(
            "{what} has {lines} lines now, not {}; well done, remove its exception",
            exception.lines
        ),
        Some(exception) if lines < exception.lines => format!(
            "{what} has {lines} lines now, not {}; lower the number in its exception",
            exception.lines
        ),
        _ => return None,
    };
    Some(Finding::new(&file.path, line, text))
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions of a file that rustfmt has formatted: a body ends with a brace on its own that is
/// indented as its `fn`.
fn functions(file: &File) -> Vec<Function> {
    let production = file.production_lines();
    let lines: Vec<&str> = file.text.lines().take(production).collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        // The signature ends at its body's brace, or at a semicolon if there is no body.
        let signature_end = lines[start..]
            .iter()
            .position(|line| line.ends_with(['{', ';', '}']))
            .map(|offset| start + offset);
        let Some(opening) = signature_end.filter(|end| lines[*end].ends_with('{')) else {
            continue;
        };
        let closes = |line: &&str| line.trim_end() == format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[opening..].iter().position(closes) {
            found.push(Function {
                name: name.to_owned(),
                line: start + 1,
                lines: opening + length - start + 1,
            });
        }
    }
    found
}

/// The name, if the line begins a function.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub") {
        rest = match after.strip_prefix('(') {
            Some(scope) => scope.split_once(')')?.1.trim_start(),
            None => after.strip_prefix(' ')?,
        };
    }
    for word in ["const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    Some(&name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(lines: usize) -> File {
        let body = "    work();\n".repeat(lines - 2);
        File::of("a.rs", &format!("fn long() {{\n{body}}}\n"))
    }

    fn exception(function: &'static str, lines: usize) -> Exception {
        Exception {
            file: "a.rs",
            function,
            lines,
            reason: "a table",
        }
    }

    fn texts(file: &File, files: &[Exception], functions: &[Exception]) -> Vec<String> {
        let findings = compare(&[file], files, functions);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn functions_stop_at_70_lines_and_exceptions_only_shrink() {
        assert_eq!(texts(&long(70), &[], &[]), [""; 0]);
        for (lines, listed, expected) in [
            (71, None, "more than 70"),
            (90, Some(80), "has grown"),
            (75, Some(80), "lower the number"),
            (60, Some(80), "remove its exception"),
        ] {
            let table: Vec<Exception> = listed
                .map(|lines| exception("long", lines))
                .into_iter()
                .collect();
            let found = texts(&long(lines), &[], &table);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{lines}: {found:?}"
            );
        }
        assert_eq!(texts(&long(80), &[], &[exception("long", 80)]), [""; 0]);
    }

    #[test]
    fn files_aim_at_400_lines_and_stop_at_800() {
        let file = |lines: usize| File::of("a.rs", &"x();\n".repeat(lines));
        assert_eq!(texts(&file(400), &[], &[]), [""; 0]);
        assert!(texts(&file(401), &[], &[])[0].contains("more than 400"));
        assert_eq!(texts(&file(500), &[exception("", 500)], &[]), [""; 0]);
        assert!(texts(&file(501), &[exception("", 500)], &[])[0].contains("has grown"));
        assert!(texts(&file(801), &[exception("", 801)], &[])[0].contains("is the end"));
        let tests = format!(
            "x();\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "x();\n".repeat(900)
        );
        assert_eq!(texts(&File::of("a.rs", &tests), &[], &[]), [""; 0]);
    }

    #[test]
    fn an_exception_for_a_file_that_is_gone_is_found() {
        let other = File::of("b.rs", "");
        assert_eq!(texts(&other, &[exception("", 500)], &[]).len(), 1);
    }

    #[test]
    fn functions_are_found_whatever_stands_before_them() {
        let text = "\
pub(crate) const fn one<T>(
    a: T,
) -> T {
    a
}
impl A {
    pub async fn two(&self) {
        if x {
        }
    }
    fn three();
    fn four() {}
}
";
        let file = File::of("a.rs", text);
        let found: Vec<(String, usize, usize)> = functions(&file)
            .into_iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        assert_eq!(found, [("one".to_owned(), 1, 5), ("two".to_owned(), 7, 4)]);
    }
}
