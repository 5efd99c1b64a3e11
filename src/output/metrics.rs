//! Metrics of a run: as Prometheus text, or in CloudWatch's embedded metric format (EMF).
//!
//! Pure. Every metric is a gauge, because a run replaces the numbers of the run before it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::outcome::{Report, Tool};

/// The prefix of every name; in EMF the namespace replaces it.
const PREFIX: &str = "ecr_mirror_";
const LAST_SUCCESS: &str = "last_success_timestamp_seconds";
const NAMESPACE: &str = "ECRMirror";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricsFormat {
    /// Prometheus text, one gauge a line.
    Prometheus,
    /// CloudWatch's embedded metric format, one JSON line.
    Emf,
}

/// The result of a run, its duration and its end.
#[derive(Debug)]
pub(crate) struct RunResult<'a> {
    /// `None` if no image was attempted.
    pub(crate) report: Option<&'a Report>,
    pub(crate) exit: u8,
    pub(crate) seconds: f64,
    /// In seconds since 1970.
    pub(crate) ended: f64,
    /// The end of the last successful run before this one, in seconds since 1970; `None` if unknown.
    pub(crate) last_success: Option<f64>,
}

impl RunResult<'_> {
    fn succeeded(&self) -> bool {
        self.exit == 0
    }
}

struct Metric {
    /// Without the prefix.
    name: &'static str,
    help: &'static str,
    /// A unit of CloudWatch.
    unit: &'static str,
    samples: Vec<Sample>,
}

struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

/// Writes the metrics in this format, with a line end.
pub(crate) fn text(run: &RunResult<'_>, format: MetricsFormat) -> String {
    match format {
        MetricsFormat::Prometheus => prometheus(&gauges(run)),
        MetricsFormat::Emf => emf(run, &gauges(run)),
    }
}

/// The end of the last successful run in the metrics of an earlier one, in either format.
pub(crate) fn last_success(metrics: &str) -> Option<f64> {
    let sample = |line: &str| {
        line.strip_prefix(PREFIX)?.strip_prefix(LAST_SUCCESS)?.trim().parse::<f64>().ok()
    };
    let emf = || serde_json::from_str::<Value>(metrics).ok()?.get(LAST_SUCCESS)?.as_f64();
    metrics.lines().find_map(sample).or_else(emf).filter(|time| time.is_finite())
}

fn gauges(run: &RunResult<'_>) -> Vec<Metric> {
    let single = |name, help, unit, value| Metric {
        name,
        help,
        unit,
        samples: vec![Sample { labels: Vec::new(), value }],
    };
    let success = if run.succeeded() { Some(run.ended) } else { run.last_success };
    let version = vec![("version", Tool::THIS.version.into_owned())];
    let mut gauges = vec![
        Metric {
            samples: vec![Sample { labels: version, value: 1.0 }],
            ..single("build_info", "The version of ecr-mirror.", "None", 1.0)
        },
        single("last_run_timestamp_seconds", "End of the last run.", "Seconds", run.ended),
        single("run_duration_seconds", "Duration of the last run.", "Seconds", run.seconds),
        single("run_exit_code", "Exit status of the last run.", "None", run.exit.into()),
        single(
            "run_success",
            "1 if the exit status is 0, else 0.",
            "None",
            f64::from(run.succeeded()),
        ),
    ];
    gauges.extend(success.map(|time| {
        single(LAST_SUCCESS, "End of the last run with exit status 0.", "Seconds", time)
    }));
    if let Some(report) = run.report {
        gauges.extend(of_report(report));
    }
    gauges
}

/// The gauges of a run that attempted its images.
fn of_report(report: &Report) -> Vec<Metric> {
    let labelled = |name, help, unit, label, counts: Vec<(String, f64)>| {
        let sample = |(key, value)| Sample { labels: vec![(label, key)], value };
        Metric { name, help, unit, samples: counts.into_iter().map(sample).collect() }
    };
    let (sides, other) = counts(&report.requests)
        .into_iter()
        .partition::<Vec<_>, _>(|(name, _)| !["retries", "throttled"].contains(&name.as_str()));
    let other = |wanted: &str| {
        let value = other.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        vec![Sample { labels: Vec::new(), value: value.unwrap_or_default() }]
    };
    let pulls = |value: fn(&crate::model::outcome::Pulls) -> Option<u64>| {
        let all = report.pulls.iter();
        all.filter_map(|pulls| Some((pulls.registry.clone(), value(pulls)? as f64))).collect()
    };
    vec![
        labelled("images", "Images of the last run.", "Count", "outcome", counts(&report.totals)),
        Metric {
            name: "entry_images",
            help: "Images of the last run by entry; without zeros.",
            unit: "Count",
            samples: by_entry(report),
        },
        labelled("blobs", "Blobs of the images.", "Count", "result", counts(&report.blobs)),
        labelled(
            "transferred_bytes",
            "Blob bytes transferred in the last run.",
            "Bytes",
            "direction",
            counts(&report.bytes),
        ),
        labelled("requests", "Requests sent in the last run.", "Count", "side", sides),
        Metric {
            name: "request_retries",
            help: "Retries among the requests.",
            unit: "Count",
            samples: other("retries"),
        },
        Metric {
            name: "request_throttles",
            help: "Requests answered with \"too many requests\".",
            unit: "Count",
            samples: other("throttled"),
        },
        labelled(
            "pull_limit",
            "Pulls per window that the registry allows.",
            "Count",
            "registry",
            pulls(|pulls| Some(pulls.limit)),
        ),
        labelled(
            "pulls_remaining",
            "Pulls left in the window at the end of the last run.",
            "Count",
            "registry",
            pulls(|pulls| Some(pulls.remaining)),
        ),
        labelled(
            "pulls_spent",
            "Pulls that the last run spent.",
            "Count",
            "registry",
            pulls(|pulls| pulls.spent),
        ),
    ]
}

/// The known numbers of a part of the report, by field.
fn counts(part: &impl Serialize) -> Vec<(String, f64)> {
    let fields = match serde_json::to_value(part) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect()
}

fn by_entry(report: &Report) -> Vec<Sample> {
    let mut counts: BTreeMap<(String, String), f64> = BTreeMap::new();
    for row in &report.images {
        let outcome = serde_json::to_value(row.outcome).unwrap_or_default();
        let outcome = outcome.as_str().unwrap_or_default().to_owned();
        *counts.entry((row.name.clone(), outcome)).or_default() += 1.0;
    }
    let sample = |((name, outcome), value)| Sample {
        labels: vec![("name", name), ("outcome", outcome)],
        value,
    };
    counts.into_iter().map(sample).collect()
}

/// Source: Prometheus documentation, "Exposition formats".
fn prometheus(gauges: &[Metric]) -> String {
    let mut text = String::new();
    for gauge in gauges.iter().filter(|gauge| !gauge.samples.is_empty()) {
        let name = format!("{PREFIX}{}", gauge.name);
        text.push_str(&format!("# HELP {name} {}\n# TYPE {name} gauge\n", gauge.help));
        for Sample { labels, value } in &gauge.samples {
            let labels =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
            let labels = labels.collect::<Vec<_>>().join(",");
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    }
    text
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// One line of JSON. A label's value becomes a part of the name, such as `images_failed`: a line can
/// have one value for each name.
///
/// Omits the gauges of entries: CloudWatch charges for every metric. The version is a property.
///
/// Source: CloudWatch user guide, "Specification: Embedded metric format".
fn emf(run: &RunResult<'_>, gauges: &[Metric]) -> String {
    let (mut metrics, mut values) = (Vec::new(), Map::new());
    let version = ("version".to_owned(), Value::from(Tool::THIS.version));
    let gauges =
        gauges.iter().filter(|gauge| !["build_info", "entry_images"].contains(&gauge.name));
    for gauge in gauges {
        for Sample { labels, value } in &gauge.samples {
            let labels = labels.iter().map(|(_, value)| format!("_{value}"));
            let name = gauge.name.to_owned() + &labels.collect::<String>();
            metrics.push(json!({ "Name": name, "Unit": gauge.unit }));
            values.insert(name, json!(value));
        }
    }
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": metrics });
    let timestamp = (run.ended * 1000.0).round() as u64;
    let head = json!({ "Timestamp": timestamp, "CloudWatchMetrics": [directive] });
    let line: Map<String, Value> =
        [("_aws".to_owned(), head), version].into_iter().chain(values).collect();
    Value::Object(line).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::tests::report;

    fn result(report: Option<&Report>, exit: u8, last_success: Option<f64>) -> RunResult<'_> {
        RunResult { report, exit, seconds: 12.25, ended: 1_012.75, last_success }
    }

    fn prometheus(result: &RunResult<'_>) -> String {
        text(result, MetricsFormat::Prometheus)
    }

    #[test]
    fn every_outcome_has_a_sample_and_every_name_is_a_gauge() {
        let mut report = report();
        report.images[0].name = "a\"b\\c\nd".to_owned();
        let text = prometheus(&result(Some(&report), 1, None));
        for line in [
            "ecr_mirror_images{outcome=\"copied\"} 1",
            "ecr_mirror_images{outcome=\"archived\"} 1",
            "ecr_mirror_run_exit_code 1",
            "ecr_mirror_run_success 0",
            "ecr_mirror_last_run_timestamp_seconds 1012.75",
            "ecr_mirror_run_duration_seconds 12.25",
            "ecr_mirror_blobs{result=\"pushed\"} 7",
            "ecr_mirror_transferred_bytes{direction=\"to_destination\"} 62914560",
            "ecr_mirror_requests{side=\"ecr_api\"} 4",
            "ecr_mirror_request_retries 0",
            "ecr_mirror_request_throttles 0",
            "ecr_mirror_pull_limit{registry=\"docker.io\"} 100",
            "ecr_mirror_entry_images{name=\"a\\\"b\\\\c\\nd\",outcome=\"copied\"} 1",
            &format!("ecr_mirror_build_info{{version=\"{}\"}} 1", Tool::THIS.version),
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert!(types.iter().all(|line| line.ends_with(" gauge") && !line.contains("_total ")));
        assert!(!text.contains("last_success"), "no earlier run is known");
    }

    #[test]
    fn the_time_of_the_last_success_survives_failures_in_both_formats() {
        for format in [MetricsFormat::Prometheus, MetricsFormat::Emf] {
            let first = text(&result(None, 0, None), format);
            assert_eq!(last_success(&first), Some(1_012.75));
            let failed = RunResult { ended: 2_000.0, ..result(None, 2, last_success(&first)) };
            let second = text(&failed, format);
            assert_eq!(last_success(&second), Some(1_012.75), "{second}");
            let again = RunResult { ended: 3_000.0, ..result(None, 0, last_success(&second)) };
            assert_eq!(last_success(&text(&again, format)), Some(3_000.0));
        }
        for other in ["", "{", "[]", "ecr_mirror_last_success_timestamp_seconds x", "{\"_aws\":1}"]
        {
            assert_eq!(last_success(other), None, "{other}");
        }
    }

    #[test]
    fn emf_is_one_line_whose_metrics_are_its_members() {
        let report = report();
        let line = text(&result(Some(&report), 1, Some(7.0)), MetricsFormat::Emf);
        assert_eq!(line.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            (&directive["Namespace"], &directive["Dimensions"]),
            (&json!("ECRMirror"), &json!([[]]))
        );
        assert_eq!(line["_aws"]["Timestamp"], 1_012_750);
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!(metrics.len() < 100, "the limit of a directive");
        for metric in metrics {
            let name = metric["Name"].as_str().unwrap();
            assert!(line[name].is_number(), "{name}");
        }
        assert_eq!((&line["images_failed"], &line["run_success"]), (&json!(1.0), &json!(0.0)));
        assert_eq!(line["version"], *Tool::THIS.version);
        assert_eq!(line["last_success_timestamp_seconds"], 7.0);
    }
}
