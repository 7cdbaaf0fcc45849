//! The door's paths, as templates: what requests are counted by and what the API's description lists.

use super::path::Route;

/// Every path there is. Requests to any other are counted as the last.
pub(super) const PATHS: [&str; 21] = [
    "/",
    "/{topic}",
    "/{topic}/{subscriber}",
    "/-/health",
    "/-/ready",
    "/-/metrics",
    "/-/info",
    "/-/openapi.json",
    "/-/docs",
    "/-/clients",
    "/-/topics",
    "/-/runs",
    "/-/runs/{run}",
    "/-/runs/{run}/clients",
    "/-/runs/{run}/report.html",
    "/-/runs/{run}/report.json",
    "/-/runs/{run}/report.csv",
    "/-/runs/{run}/report.txt",
    "/-/runs/{run}/record.json",
    "/-/query",
    "other",
];

/// Number of `/{topic}`.
pub(super) const TOPIC: usize = 1;
const OTHER: usize = PATHS.len() - 1;

const _: () = assert!(PATHS.len() <= crate::limits::METRIC_PATHS_MAX);

/// Which of [`PATHS`] a request's path is.
pub(super) fn number(route: Option<&Route>) -> usize {
    match route {
        Some(Route::Root) => 0,
        Some(Route::Topic(_) | Route::Pattern(_)) => TOPIC,
        Some(Route::Queue(..)) => 2,
        Some(Route::System(segments)) => {
            let is_it = |path: &&str| {
                let Some(wanted) = path.strip_prefix("/-/") else {
                    return false;
                };
                let wanted: Vec<&str> = wanted.split('/').collect();
                let pairs = || wanted.iter().zip(segments);
                wanted.len() == segments.len()
                    && pairs().all(|(want, segment)| want == segment || *want == "{run}")
            };
            PATHS.iter().position(is_it).unwrap_or(OTHER)
        }
        None => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_door::path::route;

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
            assert_eq!(PATHS[number(route(path).ok().as_ref())], template, "{path}");
        }
        assert_eq!(PATHS[TOPIC], "/{topic}");
    }
}
