//! The door's paths and methods, taken from the table that describes the API: what is not in it is not
//! answered, and requests are counted by it.

use std::sync::LazyLock;

use hyper::Method;
use pinnace_proto::openapi;

use super::answer::Failure;
use super::path::Route;

/// Every path there is, as a template. Requests to any other are counted as the last.
pub(super) static PATHS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut paths = openapi::paths();
    paths.push("other");
    paths
});

/// The methods of each path, and the same as `Allow` lists them.
static METHODS: LazyLock<Vec<(Vec<&'static str>, String)>> = LazyLock::new(|| {
    let methods = PATHS.iter().map(|path| openapi::methods(path));
    methods
        .map(|methods| (methods.clone(), methods.join(", ")))
        .collect()
});

/// Which of [`PATHS`] a request's path is.
pub(super) fn number(route: Option<&Route>) -> usize {
    let is_it = |path: &&str| match route {
        Some(Route::Root) => *path == "/",
        Some(Route::Topic(_) | Route::Pattern(_)) => *path == "/{topic}",
        Some(Route::Queue(..)) => *path == "/{topic}/{subscriber}",
        Some(Route::System(segments)) => path
            .strip_prefix("/-")
            .is_some_and(|rest| openapi::fits(rest, segments)),
        None => false,
    };
    PATHS.iter().position(is_it).unwrap_or(other())
}

fn other() -> usize {
    PATHS.len() - 1
}

/// Whether this is the path of topics, which messages are published to.
pub(super) fn is_topic(path: usize) -> bool {
    PATHS[path] == "/{topic}"
}

/// Refuses a method that is not described.
pub(super) fn permit(path: usize, method: &Method) -> Result<(), Failure> {
    let (methods, allow) = &METHODS[path];
    if path == other() || methods.contains(&method.as_str()) {
        Ok(())
    } else {
        Err(Failure::method_not_allowed(allow))
    }
}

/// Whether the description knows this path.
pub(super) fn is_described(path: usize) -> bool {
    path != other()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_door::path::route;
    use crate::limits::METRIC_PATHS_MAX;

    #[test]
    fn each_path_has_its_number() {
        for (path, template) in [
            ("/", "/"),
            ("/a.b", "/{topic}"),
            ("/a.%3E", "/{topic}"),
            ("/a/b", "/{topic}/{subscriber}"),
            ("/-/health", "/-/health"),
            ("/-/runs", "/-/runs"),
            ("/-/runs/r1", "/-/runs/{run}"),
            ("/-/runs/r1/report.csv", "/-/runs/{run}/report.csv"),
            ("/-/runs/r1/else", "other"),
            ("/-/", "other"),
            ("/-", "other"),
            ("/a/b/c", "other"),
        ] {
            let number = number(route(path).ok().as_ref());
            assert_eq!(PATHS[number], template, "{path}");
            assert_eq!(is_topic(number), template == "/{topic}", "{path}");
        }
        assert!(PATHS.len() <= METRIC_PATHS_MAX);
    }
}
