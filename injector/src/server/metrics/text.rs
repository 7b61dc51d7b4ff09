//! The Prometheus text format: families of samples.

use std::fmt::{Display, Write as _};

use injector_core::metrics::Histogram;

/// A family of samples, written to a text.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    /// Writes its HELP and TYPE.
    pub fn new(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self { text, name }
    }

    /// Writes one sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write("", labels, value);
    }

    /// Writes the samples of a histogram.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let with = |bound: &'_ str| -> Vec<(String, String)> {
            let own = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            own.chain([("le".to_owned(), bound.to_owned())]).collect()
        };
        let infinity = [("+Inf".to_owned(), histogram.count())];
        for (bound, count) in
            histogram.buckets().map(|(bound, count)| (bound.to_string(), count)).chain(infinity)
        {
            let labels = with(&bound);
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            self.write("_bucket", &labels, count);
        }
        self.write("_sum", labels, histogram.sum_seconds());
        self.write("_count", labels, histogram.count());
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
