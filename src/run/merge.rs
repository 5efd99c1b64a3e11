//! Joins the reports and lock files of shards. Pure, except for reading the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, iter,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::lock_file::LockFile;
use crate::model::{
    Error, Kind, Result,
    outcome::{Blobs, BoundingRate, Bytes, Pulls, Report, ReportShard, Requests, Totals},
};

/// The files of shards.
#[derive(Debug, Default)]
pub(crate) struct ShardFiles {
    /// With their paths, and at least one.
    reports: Vec<(String, Report)>,
    locks: Vec<LockFile>,
}

impl ShardFiles {
    /// Reads reports and lock files: the content decides which of them a file is. In a directory these
    /// are the files `*.json` and `*.lock`. Skips the files that the merge writes: an earlier merge may
    /// have written them.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if a file is neither, or if none is a report.
    pub(crate) fn read(paths: &[PathBuf], written: &[&Path]) -> Result<Self> {
        let written: Vec<PathBuf> =
            written.iter().filter_map(|it| it.canonicalize().ok()).collect();
        let is_written = |path: &PathBuf| path.canonicalize().is_ok_and(|it| written.contains(&it));
        let mut files = Self::default();
        for path in expand(paths)?.iter().filter(|path| !is_written(path)) {
            let text = read(path)?;
            match text.trim_start().starts_with('{') {
                true => files.reports.push((path.display().to_string(), parse(path, &text)?)),
                false => files.locks.push(LockFile::read(path)?),
            }
        }
        if files.reports.is_empty() {
            return Err(Error::new(Kind::Configuration, "no file is a report")
                .hint("write one for each shard: `sync --shard I/N --report FILE`"));
        }
        Ok(files)
    }

    /// The report of all shards, and the shards without a report.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if a report is not that of a shard, if two are of one shard, or if they
    /// are of different configurations.
    pub(crate) fn merge(&self) -> Result<(Report, BTreeSet<u32>)> {
        let mut shards: BTreeMap<u32, (&str, &Report)> = BTreeMap::new();
        let mut first: Option<(&str, &ReportShard)> = None;
        for (path, report) in &self.reports {
            let shard = report.shard.as_ref().ok_or_else(|| {
                Error::new(Kind::Configuration, format!("`{path}` is not the report of a shard"))
                    .hint("write it with `sync --shard I/N --report FILE`")
            })?;
            let (first_path, known) = *first.get_or_insert((path, shard));
            if (&shard.configuration, shard.of) != (&known.configuration, known.of) {
                let problem =
                    format!("`{first_path}` and `{path}` are of different configurations");
                return Err(Error::new(Kind::Configuration, problem).hint(
                    "run all shards with one configuration, the same `--only` and `--shard-by`, \
                     and the same number of shards",
                ));
            }
            if let Some((other, _)) = shards.insert(shard.index, (path, report)) {
                let problem = format!("`{other}` and `{path}` are both of shard {}", shard.index);
                return Err(Error::new(Kind::Configuration, problem)
                    .hint("name the report of its last run only"));
            }
        }
        let of = first.map_or(0, |(_, shard)| shard.of);
        let missing = (1..=of).filter(|index| !shards.contains_key(index)).collect();
        let reports: Vec<&Report> = shards.into_values().map(|(_, report)| report).collect();
        let merged = merge(&reports);
        Ok((Report { exit: exit(&reports, &missing), ..merged }, missing))
    }

    /// The lock file of all shards.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the shards have not one lock file each, or if two of them differ in
    /// a digest.
    pub(crate) fn lock(&self) -> Result<LockFile> {
        let (locks, reports) = (self.locks.len(), self.reports.len());
        if locks != reports {
            let problem =
                format!("the number of lock files is {locks}, and that of reports {reports}");
            return Err(Error::new(Kind::Configuration, problem)
                .hint("write both for each shard: `sync --shard I/N --report FILE --lock FILE`"));
        }
        let mut all = LockFile::default();
        self.locks.iter().try_for_each(|lock| all.join(lock))?;
        Ok(all)
    }
}

/// Reads a report.
///
/// # Errors
/// [`Kind::Configuration`]
pub(crate) fn read_report(path: &Path) -> Result<Report> {
    parse(path, &read(path)?)
}

/// The paths, with the files of directories in the place of these.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let listed = || path.read_dir()?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
        let listed: Vec<PathBuf> = listed().map_err(|cause| {
            Error::new(Kind::Configuration, format!("cannot list `{}`", path.display()))
                .because(cause)
        })?;
        let is_ours = |file: &PathBuf| {
            file.extension().is_some_and(|extension| extension == "json" || extension == "lock")
        };
        let mut listed: Vec<PathBuf> = listed.into_iter().filter(is_ours).collect();
        listed.sort();
        files.extend(listed);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|cause| {
        Error::new(Kind::Configuration, format!("cannot read `{}`", path.display()))
            .because(cause)
            .hint("name a file that `sync --report` or `sync --lock` wrote")
    })
}

fn parse(path: &Path, text: &str) -> Result<Report> {
    let wrong = || {
        Error::new(Kind::Configuration, format!("`{}` is not a report", path.display()))
            .hint("name a file that `sync --report` or `plan --report` wrote")
    };
    let report: Report = serde_json::from_str(text).map_err(|cause| wrong().because(cause))?;
    if report.version != 1 {
        let message = format!("has version {}; only version 1 is supported", report.version);
        return Err(wrong().because(Error::new(Kind::Configuration, message)));
    }
    Ok(report)
}

/// The exit status: that of a signal, else 1 after failures or without a shard's report, else that of
/// drift, else the highest.
fn exit(reports: &[&Report], missing: &BTreeSet<u32>) -> u8 {
    let rank = |report: &&&Report| {
        let (exit, drifted) = (report.exit, report.totals.drifted > 0);
        (exit > 128, exit == 1, drifted && exit != 0, exit)
    };
    let exit = reports.iter().max_by_key(rank).map_or(0, |report| report.exit);
    if missing.is_empty() || exit > 128 { exit } else { 1 }
}

/// The sum of the reports, which are in the order of the shards.
fn merge(reports: &[&Report]) -> Report {
    let all = || reports.iter().copied();
    let time = |report: &Report| humantime::parse_rfc3339(&report.started).ok();
    let start = all().filter_map(time).min().unwrap_or(SystemTime::UNIX_EPOCH);
    let end = all().filter_map(|report| {
        time(report)?.checked_add(Duration::try_from_secs_f64(report.seconds).ok()?)
    });
    let seconds = end.max().and_then(|end| end.duration_since(start).ok()).unwrap_or_default();
    let images: Vec<_> = all().flat_map(|report| report.images.iter().cloned()).collect();
    let mut changes: Vec<_> = all().flat_map(|report| report.changes.iter().cloned()).collect();
    changes.sort_by(|a, b| (&a.destination, &a.name).cmp(&(&b.destination, &b.name)));
    let mut unusable: Vec<_> = all().flat_map(|report| report.unusable.iter().cloned()).collect();
    unusable.sort_by(|a, b| a.destination.cmp(&b.destination));
    unusable.dedup_by(|a, b| a.destination == b.destination);
    let first = reports[0];
    Report {
        schema: first.schema.clone(),
        version: first.version,
        tool: first.tool.clone(),
        shard: None,
        started: humantime::format_rfc3339_seconds(start).to_string(),
        seconds: (seconds.as_secs_f64() * 1000.0).round() / 1000.0,
        exit: 0,
        totals: Totals::of(&images),
        images,
        changes,
        unusable,
        blobs: Blobs {
            present: all().map(|it| it.blobs.present).sum(),
            mounted: all().map(|it| it.blobs.mounted).sum(),
            pushed: all().map(|it| it.blobs.pushed).sum(),
        },
        manifests: all().map(|it| it.manifests).sum(),
        bytes: Bytes {
            from_source: all().map(|it| it.bytes.from_source).sum(),
            to_destination: all().map(|it| it.bytes.to_destination).sum(),
        },
        requests: all().map(|it| it.requests).sum(),
        pulls: pulls(all()),
        rates: rates(all()),
    }
}

impl iter::Sum for Requests {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, it| Self {
            source: sum.source + it.source,
            destination: sum.destination + it.destination,
            ecr_api: sum.ecr_api + it.ecr_api,
            retries: sum.retries + it.retries,
            throttled: sum.throttled + it.throttled,
        })
    }
}

/// One limit per registry: the sum of what was spent, and the fewest pulls that any shard saw left.
fn pulls<'a>(reports: impl Iterator<Item = &'a Report>) -> Vec<Pulls> {
    let mut all: BTreeMap<&str, Pulls> = BTreeMap::new();
    for pulls in reports.flat_map(|report| &report.pulls) {
        match all.get_mut(pulls.registry.as_str()) {
            None => drop(all.insert(&pulls.registry, pulls.clone())),
            Some(sum) => {
                let bounds = [sum.bounds, pulls.bounds].into_iter().flatten();
                sum.bounds = bounds.reduce(|one, other| [one, other].into_iter().sum());
                // pulls of which only bounds are known leave the sum unknown
                sum.spent = sum.spent.zip(pulls.spent).map(|(one, other)| one + other);
                sum.limit = sum.limit.max(pulls.limit);
                sum.remaining = sum.remaining.min(pulls.remaining);
            }
        }
    }
    all.into_values().collect()
}

/// The rates that bounded a shard. Shards divide a rate and wait at the same time.
fn rates<'a>(reports: impl Iterator<Item = &'a Report>) -> Vec<BoundingRate> {
    let mut all: BTreeMap<(&str, &str), BoundingRate> = BTreeMap::new();
    for rate in reports.flat_map(|report| &report.rates) {
        match all.get_mut(&(rate.registry.as_str(), rate.action.as_str())) {
            None => drop(all.insert((&rate.registry, &rate.action), rate.clone())),
            Some(sum) => {
                sum.per_second += rate.per_second;
                sum.requests =
                    sum.requests.zip(rate.requests).map(|(a, b)| [a, b].into_iter().sum());
                sum.seconds = sum.seconds.max(rate.seconds);
            }
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The report of a shard with these rows' outcomes.
    fn report(index: u32, of: u32, exit: u8, outcomes: &[&str]) -> Value {
        let row = |at: usize, outcome: &str| {
            json!({
                "name": "a", "source": format!("quay.io/team/{index}-{at}:1"), "destination": "d",
                "outcome": outcome, "digest": null, "source_digest": null, "platforms": [],
                "bytes_pushed": 5, "error": null, "hint": null, "warnings": []
            })
        };
        let rows = outcomes.iter().enumerate().map(|(at, outcome)| row(at, outcome));
        let images: Vec<Value> = rows.collect();
        let count = |word: &str| outcomes.iter().filter(|it| **it == word).count();
        let words = [
            "copied",
            "up_to_date",
            "warmed",
            "planned",
            "failed",
            "drifted",
            "deferred",
            "not_started",
            "interrupted",
            "archived",
            "kept",
        ];
        let totals: serde_json::Map<String, Value> =
            words.iter().map(|word| ((*word).to_owned(), count(word).into())).collect();
        json!({
            "$schema": "urn:x", "version": 1, "tool": { "name": "ecr-mirror", "version": "9" },
            "shard": { "index": index, "of": of, "configuration": crate::model::Digest::of(b"") },
            "started": format!("2026-11-20T08:00:0{index}Z"), "seconds": 10.5, "exit": exit,
            "images": images, "totals": totals,
            "blobs": { "present": 1, "mounted": 2, "pushed": index },
            "bytes": { "from_source": 100, "to_destination": if index == 1 { json!(null) } else { json!(7) } },
            "requests": { "source": 1, "destination": 2, "ecr_api": 3, "retries": 4, "throttled": 5 },
            "pulls": [{ "registry": "docker.io", "spent": 10, "limit": 100, "remaining": 90 - index, "window_seconds": 21600 }],
            "rates": [{ "registry": "r", "action": "PutImage", "per_second": 4.0, "seconds": 6.0 + f64::from(index) }],
            "of_a_later_version": true
        })
    }

    fn files(reports: &[Value]) -> ShardFiles {
        let parsed = reports.iter().map(|it| parse(Path::new("x"), &it.to_string()).unwrap());
        let named = parsed.enumerate().map(|(at, report)| (format!("{at}.json"), report));
        ShardFiles { reports: named.collect(), locks: Vec::new() }
    }

    #[test]
    fn every_number_of_a_merged_report_is_that_of_all_shards() {
        // in any order
        let shards = [report(2, 2, 3, &["copied", "deferred"]), report(1, 2, 0, &["up_to_date"])];
        let (merged, missing) = files(&shards).merge().unwrap();
        assert!(missing.is_empty());
        let sources: Vec<&str> = merged.images.iter().map(|row| row.source.as_str()).collect();
        assert_eq!(sources, ["quay.io/team/1-0:1", "quay.io/team/2-0:1", "quay.io/team/2-1:1"]);
        let Totals { copied, up_to_date, deferred, .. } = merged.totals;
        assert_eq!((copied, up_to_date, deferred, merged.exit), (1, 1, 1, 3));
        assert_eq!((merged.started.as_str(), merged.seconds), ("2026-11-20T08:00:01Z", 11.5));
        let blobs = Blobs { present: Some(2), mounted: Some(4), pushed: Some(3) };
        assert_eq!((merged.blobs, merged.bytes.from_source), (blobs, Some(200)));
        assert_eq!(merged.bytes.to_destination, None, "one of them is unknown");
        assert_eq!((merged.requests.ecr_api, merged.requests.throttled), (6, 10));
        let [pulls] = &merged.pulls[..] else { panic!("{:?}", merged.pulls) };
        assert_eq!((pulls.spent, pulls.limit, pulls.remaining), (Some(20), 100, 88));
        let [rate] = &merged.rates[..] else { panic!("{:?}", merged.rates) };
        assert_eq!((rate.per_second, rate.seconds, rate.requests), (8.0, 8.0, None));
        assert_eq!(merged.shard, None);
    }

    #[test]
    fn the_exit_status_is_that_of_one_run_and_1_without_a_report_of_each_shard() {
        let shard = |index: u32, exit: u8| report(index, 3, exit, &[]);
        for (exits, expected, expected_missing) in [
            (&[(1, 0), (2, 0), (3, 0)][..], 0, &[][..]),
            (&[(1, 0), (2, 3), (3, 0)], 3, &[]),
            (&[(1, 3), (2, 1), (3, 0)], 1, &[]),
            (&[(1, 1), (2, 143), (3, 3)], 143, &[]),
            (&[(1, 0), (3, 0)], 1, &[2]),
            (&[(2, 143)], 143, &[1, 3]),
            (&[(1, 75), (2, 0), (3, 0)], 75, &[]),
        ] {
            let shards: Vec<Value> =
                exits.iter().map(|&(index, exit)| shard(index, exit)).collect();
            let (merged, missing) = files(&shards).merge().unwrap();
            let missing: Vec<u32> = missing.into_iter().collect();
            assert_eq!((merged.exit, &missing[..]), (expected, expected_missing), "{exits:?}");
        }
        let mut drifted = report(1, 2, 4, &["drifted"]);
        drifted["exit"] = 4.into();
        let (merged, _) = files(&[drifted, report(2, 2, 75, &["deferred"])]).merge().unwrap();
        assert_eq!(merged.exit, 4, "drift comes before incomplete images");
    }

    #[test]
    fn reports_that_are_not_shards_of_one_run_are_refused() {
        let first = report(1, 2, 0, &[]);
        let changed = |key: &str, value: Value| {
            let mut other = report(2, 2, 0, &[]);
            other["shard"][key] = value;
            other
        };
        let mut whole = first.clone();
        whole.as_object_mut().unwrap().remove("shard");
        for (second, expected) in [
            (whole, "`1.json` is not the report of a shard"),
            (first.clone(), "`0.json` and `1.json` are both of shard 1"),
            (changed("of", 3.into()), "`0.json` and `1.json` are of different configurations"),
            (
                changed("configuration", json!(crate::model::Digest::of(b"other"))),
                "`0.json` and `1.json` are of different configurations",
            ),
        ] {
            let error = files(&[first.clone(), second]).merge().unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Configuration, expected));
            assert!(error.remedy().is_some());
        }
        assert!(parse(Path::new("x"), "{\"version\": 1}").is_err());
    }
}
