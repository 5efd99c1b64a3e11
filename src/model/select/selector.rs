//! Applies a selection to a tag list that arrives page by page.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    time::SystemTime,
};

use super::{
    range::Named,
    reason::SkippedTag,
    selection::{Listed, Selection, SortKey},
    version::{Pre, Version, VersionSpelling},
};
use crate::model::{Digest, Error, Kind, Result, Tag};

/// A tag that can still be selected.
#[derive(Debug)]
struct Candidate {
    listed: Listed,
    version: Option<Version>,
}

/// Selects tags from a list that arrives page by page.
#[derive(Debug)]
pub struct Selector<'a> {
    selection: &'a Selection,
    now: SystemTime,
    candidates: Vec<Candidate>,
    listed: usize,
    without_time: usize,
    /// The number of skipped tags by reason and its fix.
    skipped: BTreeMap<(String, &'static str), usize>,
    /// The releases of skipped tags, if `newest` counts versions.
    skipped_releases: Vec<Version>,
}

#[derive(Debug)]
pub struct SelectedTags {
    /// Newest first.
    pub tags: Vec<Listed>,
    /// Tags that match every key but `newest`.
    pub(crate) surplus: Vec<Tag>,
    /// Tags that `newest` does not count, because a longer version begins with them.
    pub(crate) floating: Vec<Tag>,
    /// The number of tags that were skipped only because the registry reports no push time.
    pub(crate) without_time: usize,
}

impl<'a> Selector<'a> {
    pub fn new(selection: &'a Selection, now: SystemTime) -> Self {
        let (candidates, skipped) = (Vec::new(), BTreeMap::new());
        let skipped_releases = Vec::new();
        Self { selection, now, candidates, listed: 0, without_time: 0, skipped, skipped_releases }
    }

    pub(crate) fn selection(&self) -> &'a Selection {
        self.selection
    }

    /// Considers a tag of the list. Returns the reason if the tag is skipped.
    pub fn consider(&mut self, listed: &Listed) -> Option<SkippedTag> {
        self.listed += 1;
        match matches(self.selection, listed, self.now) {
            Ok(version) => {
                self.candidates.push(Candidate { listed: listed.clone(), version });
                None
            }
            Err(skipped) => {
                self.without_time += usize::from(skipped == SkippedTag::NoTime);
                *self.skipped.entry(skipped.summary()).or_default() += 1;
                let version = || Version::parse(listed.tag.as_str());
                self.skipped_releases.extend(self.counts_versions().then(version).flatten());
                Some(skipped)
            }
        }
    }

    /// The selected tags, at the end of the list. A tag that the list has twice is one tag: a push
    /// between two pages moves tags to the next page.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if fewer than `at_least` tags match, floating tags and tags without a push time
    /// included.
    pub fn finish(mut self) -> Result<SelectedTags> {
        self.candidates.sort_by(|one, other| one.listed.tag.cmp(&other.listed.tag));
        let listed = self.candidates.len();
        self.candidates.dedup_by(|again, first| {
            let is_same = again.listed.tag == first.listed.tag;
            if is_same && again.listed.digest != first.listed.digest {
                // the tag moved between the pages
                first.listed.digest = None;
            }
            is_same
        });
        self.listed -= listed - self.candidates.len();
        if self.candidates.len() + self.without_time < self.selection.at_least {
            return Err(self.too_few());
        }
        let floating = self.remove_floating();
        let mut candidates = self.candidates;
        candidates.sort_by(|one, other| newest_first(self.selection.by, one, other));
        let kept = self.selection.newest.unwrap_or(usize::MAX).min(candidates.len());
        let surplus = candidates.split_off(kept);
        Ok(SelectedTags {
            tags: candidates.into_iter().map(|candidate| candidate.listed).collect(),
            surplus: surplus.into_iter().map(|candidate| candidate.listed.tag).collect(),
            without_time: self.without_time,
            floating,
        })
    }

    /// Returns `true` if the selection keeps the newest versions.
    fn counts_versions(&self) -> bool {
        self.selection.newest.is_some() && self.selection.by == SortKey::Version
    }

    /// Removes the tags that are names of a longer version, like `1.27` beside `1.27.3`, if the newest
    /// versions are selected.
    ///
    /// A longer version can also be another release: `2.440.1` of Jenkins continues the weekly `2.440`.
    /// Digests tell. Without them, a tag is a name if it has fewer numbers than every release: the weekly
    /// `2.441` has as many as `2.440`.
    fn remove_floating(&mut self) -> Vec<Tag> {
        if !self.counts_versions() {
            return Vec::new();
        }
        let mut longer: HashMap<VersionSpelling<'_>, Vec<Option<&Digest>>> = HashMap::new();
        for Candidate { listed, version } in &self.candidates {
            for shorter in version.iter().flat_map(Version::shorter) {
                longer.entry(shorter).or_default().push(listed.digest.as_ref());
            }
        }
        let shortest = self.shortest_releases();
        let is_floating = |it: &Candidate| {
            let version = it.version.as_ref().filter(|version| version.pre().is_none());
            let Some(spelling) = version.map(Version::spelling) else { return false };
            let Some(longer) = longer.get(&spelling) else { return false };
            match &it.listed.digest {
                Some(own) if longer.iter().any(Option::is_some) => longer.contains(&Some(own)),
                _ => shortest.get(&spelling.variant()).is_some_and(|it| spelling.length() < *it),
            }
        };
        let floating: Vec<bool> = self.candidates.iter().map(is_floating).collect();
        let mut floating = floating.into_iter();
        let removed = self.candidates.extract_if(.., |_| floating.next() == Some(true));
        removed.map(|candidate| candidate.listed.tag).collect()
    }

    /// The fewest numbers of a release of each variant, also of skipped tags. Versions that a longer one
    /// continues are not counted.
    fn shortest_releases(&self) -> HashMap<(&str, &str, bool), usize> {
        let candidates = self.candidates.iter().filter_map(|it| it.version.as_ref());
        let versions = candidates.chain(&self.skipped_releases);
        let releases: Vec<&Version> = versions.filter(|it| it.pre().is_none()).collect();
        let continued: HashSet<_> = releases.iter().flat_map(|it| it.shorter()).collect();
        let mut shortest = HashMap::new();
        for release in releases.iter().map(|it| it.spelling()) {
            if !continued.contains(&release) {
                let least = shortest.entry(release.variant()).or_insert(usize::MAX);
                *least = release.length().min(*least);
            }
        }
        shortest
    }

    fn too_few(&self) -> Error {
        let (found, listed) = (self.candidates.len(), self.listed);
        let at_least = self.selection.at_least;
        if listed == 0 {
            let message = format!("the repository lists no tags, `at_least` is {at_least}");
            return Error::new(Kind::NotFound, message)
                .hint("check the name of the repository, or write `at_least = 0`");
        }
        let mut message =
            format!("`select` matches {found} of {listed} tags, `at_least` is {at_least}");
        let mut reasons: Vec<_> = self.skipped.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((reason, _), count) in &reasons {
            let noun = if **count == 1 { "tag" } else { "tags" };
            write!(message, "\n  {count} {noun}: {reason}").expect("a string takes every text");
        }
        let error = Error::new(Kind::NotFound, message);
        let why = "run `ecr-mirror plan -v` to see why each tag is skipped";
        match reasons.first() {
            Some(((_, fix), _)) => error.hint(format!("{fix}; {why}")),
            None => error.hint("lower `at_least`"),
        }
    }
}

/// The tag's version, if the tag matches every key but `newest`.
fn matches(
    selection: &Selection,
    listed: &Listed,
    now: SystemTime,
) -> Result<Option<Version>, SkippedTag> {
    let name = listed.tag.as_str();
    if !selection.glob.is_empty() && !selection.glob.iter().any(|glob| glob.matches(name)) {
        return Err(SkippedTag::NoGlob);
    }
    if !selection.regex.is_empty() && !selection.regex.iter().any(|regex| regex.matches(name)) {
        return Err(SkippedTag::NoRegex);
    }
    if let Some(glob) = selection.exclude.iter().find(|glob| glob.matches(name)) {
        return Err(SkippedTag::Excluded(glob.to_string()));
    }
    if let Some(regex) = selection.exclude_regex.iter().find(|regex| regex.matches(name)) {
        return Err(SkippedTag::ExcludedByRegex(regex.to_string()));
    }
    let version = version(selection, name)?;
    check_age(selection, listed.pushed, now)?;
    Ok(version)
}

fn version(selection: &Selection, name: &str) -> Result<Option<Version>, SkippedTag> {
    let Some(version) = Version::parse(name) else {
        return match selection.has_patterns() && !selection.needs_version() {
            true => Ok(None),
            false => Err(SkippedTag::NoVersion),
        };
    };
    let unnamed =
        version.pre().filter(|pre| !selection.pre_releases && !pattern_names(selection, name, pre));
    let named = if unnamed.is_some() { Named::Nowhere } else { Named::Elsewhere };
    let range = selection.semver.as_ref();
    let is_spelled = range.is_some_and(|range| range.spells_out(&version, named));
    if version.is_variant() && !selection.has_patterns() && !is_spelled {
        return Err(SkippedTag::Variant);
    }
    let in_range = range.map(|range| range.matches(&version, named));
    match (in_range, unnamed, range) {
        (Some(true), ..) | (None, None, _) => Ok(Some(version)),
        (_, Some(pre), _) => Err(SkippedTag::PreRelease(pre.to_string())),
        (_, None, range) => {
            Err(SkippedTag::OutOfRange(range.map(ToString::to_string).unwrap_or_default()))
        }
    }
}

/// Returns `true` if a matching pattern spells out the pre-release.
fn pattern_names(selection: &Selection, name: &str, pre: &Pre) -> bool {
    selection.glob.iter().any(|glob| glob.matches(name) && glob.names(pre))
        || selection.regex.iter().any(|regex| regex.matches(name) && regex.names(pre))
}

fn check_age(
    selection: &Selection,
    pushed: Option<SystemTime>,
    now: SystemTime,
) -> Result<(), SkippedTag> {
    if !selection.needs_time() {
        return Ok(());
    }
    let Some(pushed) = pushed else { return Err(SkippedTag::NoTime) };
    // the registry's clock can be ahead of this one
    let age = now.duration_since(pushed).unwrap_or_default();
    if selection.min_age.is_some_and(|least| age < least) {
        return Err(SkippedTag::TooNew(pushed));
    }
    if selection.max_age.is_some_and(|most| age > most) {
        return Err(SkippedTag::TooOld(pushed));
    }
    Ok(())
}

/// Newest first, tags without a version last, equal ones by name: a total order. Equal versions are
/// ordered by their builds.
fn newest_first(by: SortKey, one: &Candidate, other: &Candidate) -> Ordering {
    let versions = || match (&one.version, &other.version) {
        (Some(one), Some(other)) => other.by_age(one),
        (one, other) => other.is_some().cmp(&one.is_some()),
    };
    let order = match by {
        SortKey::Version => versions(),
        SortKey::Pushed => other.listed.pushed.cmp(&one.listed.pushed).then_with(versions),
    };
    order.then_with(|| one.listed.tag.cmp(&other.listed.tag))
}
