//! The text format of Prometheus, version 0.0.4.
//!
//! Invariant: each family has its help and type once, before its samples; label values are escaped.

use std::fmt::Write as _;

/// Content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page being written.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "counter")
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "gauge")
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "histogram")
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> &mut Self {
        self.family = name;
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self
    }

    /// A sample of the latest family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Value) -> &mut Self {
        let name = self.family;
        self.line(name, "", labels, None, value)
    }

    /// A histogram of the latest family: counts by class, whose upper ends are in microseconds.
    pub(super) fn times(
        &mut self,
        labels: &[(&str, &str)],
        ends_us: &[u64],
        counts: &[u64],
        total_us: u64,
    ) -> &mut Self {
        let name = self.family;
        let mut so_far = 0;
        for (class, count) in counts.iter().enumerate() {
            so_far += count;
            let end = ends_us.get(class);
            let end = end.map_or("+Inf".to_owned(), |end| seconds(*end).to_string());
            self.line(name, "_bucket", labels, Some(&end), so_far);
        }
        self.line(name, "_sum", labels, None, seconds(total_us));
        self.line(name, "_count", labels, None, so_far)
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[(&str, &str)],
        end: Option<&str>,
        value: impl Value,
    ) -> &mut Self {
        let _ = write!(self.text, "{name}{suffix}");
        let labels = labels.iter().copied().chain(end.map(|end| ("le", end)));
        let mut open = '{';
        for (label, value) in labels {
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(value));
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// What a sample may be.
pub(super) trait Value: std::fmt::Display {}

impl Value for u64 {}
impl Value for f64 {}

/// Microseconds as seconds.
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_the_format_wants() {
        let mut page = Page::default();
        page.gauge("a", "Help.").sample(&[], 7_u64);
        page.counter("b_total", "More.")
            .sample(&[("x", "q\"\\\n"), ("y", "z")], 1.5);
        page.histogram("c_seconds", "Times.")
            .times(&[], &[10, 2_500_000], &[1, 2, 3], 4);
        assert_eq!(
            page.into_text(),
            "# HELP a Help.\n# TYPE a gauge\na 7\n\
             # HELP b_total More.\n# TYPE b_total counter\nb_total{x=\"q\\\"\\\\\\n\",y=\"z\"} 1.5\n\
             # HELP c_seconds Times.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.00001\"} 1\nc_seconds_bucket{le=\"2.5\"} 3\n\
             c_seconds_bucket{le=\"+Inf\"} 6\nc_seconds_sum 0.000004\nc_seconds_count 6\n"
        );
    }
}
