//! Every bound and threshold of the reports, named, with its unit.
//!
//! Invariant: nothing here depends on a run; a threshold that is quoted in a warning is read from
//! this file, so text and arithmetic cannot drift apart.

/// Width of one point of a rate series, microseconds, unless the run is too long for it.
pub(crate) const SERIES_STEP_US: u64 = 1_000_000;
/// Points of a rate series at most; a longer run gets wider points.
pub(crate) const SERIES_POINTS_MAX: u64 = 3_600;
/// A point of a series is shown when samples cover at least this share of it, percent.
pub(crate) const POINT_COVER_PERCENT: u64 = 25;
/// The longest run a time line is drawn for, microseconds; an event beyond it is impossible.
pub(crate) const TIMELINE_MAX_US: u64 = 400 * 86_400 * 1_000_000;

/// Silence between two samples is a gap when it is longer than this many sample intervals.
pub(crate) const GAP_SAMPLE_INTERVALS: u64 = 2;
/// Silence shorter than this is never a gap, microseconds.
pub(crate) const GAP_MIN_US: u64 = 500_000;
/// Sample interval assumed when a client's job is unknown, microseconds.
pub(crate) const SAMPLE_INTERVAL_DEFAULT_US: u64 = 1_000_000;

/// A client's clock is believed when it is at most this far from what the server saw, microseconds.
pub(crate) const CLOCK_TRUST_US: u64 = 5_000_000;
/// A clock that moved more than this against the monotonic one has stepped, microseconds.
pub(crate) const CLOCK_STEP_US: u64 = 500_000;

/// Rollovers, heartbeats, resource points and errors listed per client (all are counted).
pub(crate) const MARKS_MAX: usize = 2_000;
/// Errors listed per client (all are counted).
pub(crate) const ERRORS_MAX: usize = 50;

/// A percentile is trusted when at least this many durations lie above it.
pub(crate) const TAIL_COUNT_MIN: f64 = 10.0;
/// Mean share of one CPU above which a worker is the bottleneck itself.
pub(crate) const CPU_BOUND_SHARE: f64 = 0.9;
/// Share of planned client-seconds below which a run's figures are called incomplete.
pub(crate) const COVERAGE_MIN: f64 = 0.95;
/// Difference of client starts that is worth a word, microseconds.
pub(crate) const START_SKEW_US: u64 = 1_000_000;
/// Rollovers that a job promises for every worker.
pub(crate) const ROLLOVERS_PROMISED: u64 = 2;
/// Data files of one worker that exist at the same time.
pub(crate) const FILES_KEPT: u64 = 3;
/// Names written out in a sentence before it says "and N more".
pub(crate) const NAMES_IN_SENTENCE: usize = 4;

/// Narrowest and widest page of the text report, columns.
pub(crate) const TEXT_COLUMNS: (usize, usize) = (60, 160);
/// Clients listed one by one in the text report; the rest is counted.
pub(crate) const TEXT_CLIENTS_MAX: usize = 64;

/// Points of one line of a large chart.
pub(crate) const CHART_POINTS_MAX: usize = 600;
/// How fine one client's small charts are, by the number of clients on the page.
pub(crate) struct Detail {
    /// Points of its throughput.
    pub(crate) strip_points: usize,
    /// Points of its CPU and memory.
    pub(crate) resource_points: usize,
    /// Distance of two marks that are told apart, thousandths of the width.
    pub(crate) marks_apart: f64,
}

/// For a handful of clients, each wide enough to be studied.
pub(crate) const FINE: Detail = Detail {
    strip_points: 300,
    resource_points: 200,
    marks_apart: 1.0,
};
/// For more than [`FINE_CLIENTS_MAX`]: a page of 200 clients over ten minutes stays below 3 MB.
pub(crate) const COARSE: Detail = Detail {
    strip_points: 120,
    resource_points: 60,
    marks_apart: 4.0,
};
/// Rollovers of one client up to which each one's sync is drawn.
pub(crate) const SYNC_BANDS_MAX: usize = 100;
/// Clients drawn in fine detail.
pub(crate) const FINE_CLIENTS_MAX: usize = 12;
/// Clients drawn as lines of their own with a colour each; more become a band.
pub(crate) const CHART_CLIENTS_MAX: usize = 8;
/// Clients with a small chart of their own.
pub(crate) const STRIPS_MAX: usize = 256;
/// Rollovers listed in the page's table per run; more are summed up by worker only.
pub(crate) const ROLLOVER_ROWS_MAX: usize = 60;
/// Errors listed in the page per run.
pub(crate) const ERROR_ROWS_MAX: usize = 40;
