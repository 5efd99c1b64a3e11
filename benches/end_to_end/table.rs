//! The results: a Markdown table, and a verdict per bound.

use std::fmt::Write as _;

use crate::{
    measure::median,
    programs::{PEERS, Program},
    scenario::{Measured, Scenario, Series, Trial},
};

pub(crate) const MIB: f64 = 1_048_576.0;

/// A promised maximum, and the measured value.
pub(crate) struct Bound {
    what: String,
    measured: f64,
    at_most: f64,
}

impl Bound {
    pub(crate) fn new(what: impl Into<String>, measured: f64, at_most: f64) -> Bound {
        Bound { what: what.into(), measured, at_most }
    }

    pub(crate) fn holds(&self) -> bool {
        self.measured <= self.at_most
    }
}

/// The rows of a scenario, the limit first.
pub(crate) fn rows(measured: &Measured) -> String {
    let limit = measured.series.iter().find(|series| series.program == Program::Limit);
    let name = measured.scenario.name();
    measured.series.iter().map(|series| row(&name, series, limit)).collect()
}

/// One program's row.
pub(crate) fn row(name: &str, series: &Series, limit: Option<&Series>) -> String {
    let middle = |value: fn(&Trial) -> f64| median(series.trials.iter().map(value));
    let ratio = limit.map_or("–".to_owned(), |limit| {
        format!("{:.2}", ratio(series, limit, |trial| trial.cost.seconds))
    });
    let counted = series.trials.last().and_then(|trial| trial.counted);
    let (requests, bytes) = counted.map_or(("–".to_owned(), "–".to_owned()), |counted| {
        let (source, destination) = counted.requests;
        (format!("{source} / {destination}"), format!("{:.1}", counted.bytes as f64 / 1e6))
    });
    format!(
        "| {name} | {} | {:.2} | {ratio} | {:.2} | {:.0} | {requests} | {bytes} | {} |\n",
        series.program.name(),
        middle(|trial| trial.cost.seconds),
        middle(|trial| trial.cost.cpu),
        peak(series),
        wrong(series),
    )
}

/// Maximum memory of all trials, in MiB.
pub(crate) fn peak(series: &Series) -> f64 {
    series.trials.iter().map(|trial| trial.cost.peak).max().unwrap_or(0) as f64 / MIB
}

/// Maximum number of wrong tags after a trial.
pub(crate) fn wrong(series: &Series) -> f64 {
    series.trials.iter().map(|trial| trial.wrong).max().unwrap_or(0) as f64
}

pub(crate) const HEAD: &str = "\
| what | program | seconds | ÷ limit | CPU s | peak MiB | requests source / destination | MB from source | wrong tags |
|---|---|---|---|---|---|---|---|---|
";

/// The bounds of a scenario.
pub(crate) fn bounds(measured: &Measured) -> Vec<Bound> {
    let series = |program| measured.series.iter().find(|series| series.program == program);
    let Some(ours) = series(Program::Ours) else { return Vec::new() };
    let name = measured.scenario.name();
    let bound = |what: &str, value: f64, at_most: f64| {
        Bound::new(format!("{name}: {what}"), value, at_most)
    };
    let over = |value: fn(&Trial) -> f64| {
        series(Program::Limit).map_or(f64::NAN, |limit| ratio(ours, limit, value))
    };
    let time = || over(|trial| trial.cost.seconds);
    let seconds = || median(ours.trials.iter().map(|trial| trial.cost.seconds));
    let bytes = ours.trials.iter().filter_map(|trial| trial.counted).map(|counted| counted.bytes);
    let refused = ours.trials.iter().filter_map(|trial| trial.counted?.refused);
    let mut bounds = match measured.scenario {
        Scenario::Main | Scenario::Tls => vec![
            bound("time ÷ limit", time(), 1.15),
            bound("CPU ÷ limit", over(|trial| trial.cost.cpu), 1.3),
            bound("peak MiB", peak(ours), 48.0),
            bound(
                "source bytes ÷ distinct bytes",
                bytes.max().unwrap_or(0) as f64 / measured.distinct as f64,
                1.0,
            ),
        ],
        Scenario::Rates => vec![
            bound("time ÷ that of its requests", seconds() / measured.at_rates, 1.1),
            bound(
                "refused requests",
                refused.max().map_or(f64::NAN, |refused| refused as f64),
                0.0,
            ),
        ],
        Scenario::Tiny => vec![bound("time ÷ limit", time(), 1.4)],
        Scenario::Big => {
            vec![bound("time ÷ limit", time(), 1.05), bound("peak MiB", peak(ours), 32.0)]
        }
        // one round trip more: the source is asked after the destination
        Scenario::WarmTiny => vec![bound("time ÷ limit", time(), 1.15)],
        Scenario::WarmMain => vec![bound("seconds", seconds(), 0.3)],
        Scenario::Changed => vec![bound("seconds", seconds(), 0.9)],
        // these have bounds of their own
        _ => Vec::new(),
    };
    if measured.scenario == Scenario::Tls {
        let best = |value| best_ratio(ours, &measured.series, value);
        let ratios = best(|trial| trial.cost.seconds).zip(best(|trial| trial.cost.cpu));
        if let Some((time, cpu)) = ratios {
            bounds.push(bound("time ÷ the fastest other tool", time, 0.5));
            bounds.push(bound("CPU ÷ the thriftiest other tool", cpu, 0.35));
        }
    }
    if let Some((source, destination)) = most_requests(measured.scenario) {
        let counted = ours.trials.iter().filter_map(|trial| trial.counted);
        let sent: Vec<(u64, u64)> = counted.map(|counted| counted.requests).collect();
        let most = |side: fn(&(u64, u64)) -> u64| sent.iter().map(side).max().unwrap_or(0) as f64;
        bounds.push(bound("source requests", most(|sent| sent.0), source));
        bounds.push(bound("destination requests", most(|sent| sent.1), destination));
    }
    bounds.push(bound("wrong tags", wrong(ours), 0.0));
    bounds
}

/// The ratio to the other tool that has the lowest value; `None` if none is measured.
fn best_ratio(ours: &Series, all: &[Series], value: fn(&Trial) -> f64) -> Option<f64> {
    let others = all.iter().filter(|series| PEERS.contains(&series.program));
    others.map(|series| ratio(ours, series, value)).max_by(f64::total_cmp)
}

/// The requests of a scenario at the source and at the destination.
///
/// Into an empty registry: at the source one for each manifest and each distinct blob; at the
/// destination one for each tag, at most 32 of a repository, one for each repository and manifest, two
/// for each distinct blob, and one for each mount.
fn most_requests(scenario: Scenario) -> Option<(f64, f64)> {
    match scenario {
        // 480 manifests, 1,176 blobs; 96 tags, 24 repositories, 256 mounts
        Scenario::Main => Some((1_656.0, 3_208.0)),
        // 900 manifests, 610 blobs; 32 of 300 tags, one repository
        Scenario::Tiny => Some((1_510.0, 2_153.0)),
        Scenario::Big => Some((3.0, 7.0)),
        Scenario::WarmMain => Some((96.0, 96.0)),
        Scenario::WarmTiny => Some((300.0, 300.0)),
        // 25 manifests and 60 blobs are new; 56 layers of their images, and 8 in similar repositories
        Scenario::Changed => Some((181.0, 325.0)),
        _ => None,
    }
}

/// The bounds, one per line.
pub(crate) fn verdicts(bounds: &[Bound]) -> String {
    bounds.iter().fold(String::new(), |mut text, bound| {
        let verdict = if bound.holds() { "pass" } else { "FAIL" };
        let Bound { what, measured, at_most } = bound;
        let _ = writeln!(text, "{verdict}  {what}: {measured:.2}, at most {at_most}");
        text
    })
}

/// The median of the ratios within a round.
pub(crate) fn ratio(series: &Series, limit: &Series, value: fn(&Trial) -> f64) -> f64 {
    let pairs = series.trials.iter().zip(&limit.trials);
    median(pairs.map(|(ours, limit)| value(ours) / value(limit)))
}
