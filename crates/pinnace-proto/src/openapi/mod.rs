//! The HTTP door's API, as one table and as the OpenAPI document made from it.
//!
//! Invariant: the table is what the door answers. The server takes its paths and methods from here
//! and refuses others, so nothing can be answered that is not described. Left to others: what the
//! answers mean in detail (`docs/formats/http.md`) and the page that shows the document.

mod document;
mod shares;
mod system;
mod topics;

pub use document::document;

/// A method on a path.
#[derive(Debug)]
pub struct Operation {
    /// Where, as a template: `/{topic}/{subscriber}`.
    pub path: &'static str,
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Stable name for programs that are generated from the document.
    pub id: &'static str,
    /// What it is about: the heading it is listed under.
    pub tag: &'static str,
    /// A few words.
    pub summary: &'static str,
    /// What else there is to know; Markdown.
    pub detail: &'static str,
    /// Query parameters and request headers; those in the path follow from it.
    pub parameters: &'static [Parameter],
    /// What the body of the request is, if it has one.
    pub body: Option<Content>,
    /// Answers by status, besides 405 and failures of the server.
    pub answers: &'static [Answer],
    /// Requests that show it, in an order that works on a fresh server.
    pub examples: &'static [Example],
}

/// A query parameter or a request header.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What may be written.
    pub kind: Kind,
    /// What it does.
    pub detail: &'static str,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind the question mark.
    Query,
    /// A header of the request.
    Header,
}

/// What a parameter's text may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text; the one given is an example.
    Text(&'static str),
    /// A number without a unit.
    Number,
    /// A time such as `30s`, `5m`, `1h30m`; a bare number is seconds.
    Duration,
    /// A size such as `10M`.
    Size,
    /// Given or not; it needs no value.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// What a body holds.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// A JSON document of this type.
    Json(&'static str),
    /// An object a line, each of this type.
    Lines(&'static str),
    /// Bytes as they are; for an answer the type they were sent with.
    Raw,
    /// A stream of server-sent events.
    Events,
    /// Text of this type.
    Text(&'static str),
}

/// What an operation may answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// When, and what it means.
    pub detail: &'static str,
    /// What the body holds; none when it is empty. Several when the request chooses.
    pub content: &'static [Content],
    /// Headers that say something about the answer.
    pub headers: &'static [(&'static str, &'static str)],
}

/// A request that shows an operation.
#[derive(Debug)]
pub struct Example {
    /// What it does.
    pub title: &'static str,
    /// Path and query.
    pub target: &'static str,
    /// Request headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: &'static str,
    /// What it answers.
    pub status: u16,
}

/// Everything the door answers, in the order in which it is shown. The examples work one after the
/// other.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    let system = system::OPERATIONS.iter().chain(shares::OPERATIONS);
    topics::OPERATIONS.iter().chain(system)
}

/// The paths, each once, in the order of the table.
pub fn paths() -> Vec<&'static str> {
    let mut paths = Vec::new();
    for operation in operations() {
        if !paths.contains(&operation.path) {
            paths.push(operation.path);
        }
    }
    paths
}

/// The methods of a path, sorted, as `Allow` lists them.
pub fn methods(path: &str) -> Vec<&'static str> {
    let on_it = operations().filter(|operation| operation.path == path);
    let mut methods: Vec<_> = on_it.map(|operation| operation.method).collect();
    methods.sort_unstable();
    methods
}

/// Whether the segments of a path fit a template.
pub fn fits<S: AsRef<str>>(template: &str, segments: &[S]) -> bool {
    let wanted = template.strip_prefix('/').unwrap_or(template).split('/');
    wanted.clone().count() == segments.len()
        && wanted
            .zip(segments)
            .all(|(want, segment)| want == segment.as_ref() || want.starts_with('{'))
}

/// An operation that takes nothing and needs no further words.
const fn operation(
    tag: &'static str,
    (method, path): (&'static str, &'static str),
    id: &'static str,
    summary: &'static str,
    answers: &'static [Answer],
    examples: &'static [Example],
) -> Operation {
    Operation {
        path,
        method,
        id,
        tag,
        summary,
        detail: "",
        parameters: &[],
        body: None,
        answers,
        examples,
    }
}

const fn query(name: &'static str, kind: Kind, detail: &'static str) -> Parameter {
    Parameter {
        name,
        place: Place::Query,
        kind,
        detail,
    }
}

const fn header(name: &'static str, kind: Kind, detail: &'static str) -> Parameter {
    Parameter {
        name,
        place: Place::Header,
        kind,
        detail,
    }
}

const fn empty(status: u16, detail: &'static str) -> Answer {
    Answer {
        status,
        detail,
        content: &[],
        headers: &[],
    }
}

const fn with(status: u16, detail: &'static str, content: &'static [Content]) -> Answer {
    Answer {
        status,
        detail,
        content,
        headers: &[],
    }
}

/// A failure, told as a problem document.
const fn problem(status: u16, detail: &'static str) -> Answer {
    with(status, detail, &[Content::Json("Problem")])
}

/// A request without headers or body.
const fn plain(title: &'static str, target: &'static str, status: u16) -> Example {
    Example {
        title,
        target,
        headers: &[],
        body: "",
        status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut ids = Vec::new();
        for operation in operations() {
            assert!(!ids.contains(&operation.id), "{} twice", operation.id);
            ids.push(operation.id);
            assert!(
                !operation.examples.is_empty(),
                "{} has no example",
                operation.id
            );
            for example in operation.examples {
                let path = example.target.split('?').next().unwrap_or("");
                let segments: Vec<&str> = path[1..].split('/').collect();
                assert!(fits(operation.path, &segments), "{}", example.target);
                let told = operation.answers.iter().any(|a| a.status == example.status);
                assert!(
                    told,
                    "{}: {} is not described",
                    operation.id, example.status
                );
            }
        }
        assert_eq!(methods("/{topic}/{subscriber}"), ["DELETE", "GET", "POST"]);
        assert!(methods("/nothing").is_empty());
    }

    #[test]
    fn templates_fit_whole_paths_only() {
        for (template, path, fitting) in [
            ("/-/runs/{run}", "-/runs/a", true),
            ("/-/runs/{run}", "-/runs", false),
            ("/-/runs/{run}", "-/runs/a/b", false),
            ("/-/runs/{run}/report.csv", "-/runs/a/report.csv", true),
            ("/", "", true),
            ("/", "a", false),
        ] {
            let segments: Vec<&str> = path.split('/').collect();
            assert_eq!(fits(template, &segments), fitting, "{template} {path}");
        }
    }
}
