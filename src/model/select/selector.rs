//! Applies a selection to a tag list that arrives page by page.

use std::{cmp::Ordering, time::SystemTime};

use super::{
    range::Named,
    reason::SkippedTag,
    selection::{Listed, Selection, SortKey},
    version::{Pre, Version},
};
use crate::model::{Error, Kind, Result, Tag};

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
    /// Skipped because no pattern names them.
    unnamed: usize,
    without_time: usize,
}

#[derive(Debug)]
pub struct SelectedTags {
    /// Newest first.
    pub tags: Vec<Listed>,
    /// Tags that match every key but `newest`.
    pub(crate) surplus: Vec<Tag>,
    /// The number of tags that were skipped only because the registry reports no push time.
    pub(crate) without_time: usize,
}

impl<'a> Selector<'a> {
    pub fn new(selection: &'a Selection, now: SystemTime) -> Self {
        Self { selection, now, candidates: Vec::new(), listed: 0, unnamed: 0, without_time: 0 }
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
                match skipped {
                    SkippedTag::NoTime => self.without_time += 1,
                    SkippedTag::Variant | SkippedTag::PreRelease(_) => self.unnamed += 1,
                    SkippedTag::NoVersion if !self.selection.has_patterns() => self.unnamed += 1,
                    _ => {}
                }
                Some(skipped)
            }
        }
    }

    /// The selected tags, at the end of the list.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if fewer than `at_least` tags match, tags without a push time included.
    pub fn finish(self) -> Result<SelectedTags> {
        if self.candidates.len() + self.without_time < self.selection.at_least {
            return Err(self.too_few());
        }
        let mut candidates = self.candidates;
        candidates.sort_by(|one, other| newest_first(self.selection.by, one, other));
        let kept = self.selection.newest.unwrap_or(usize::MAX).min(candidates.len());
        let surplus = candidates.split_off(kept);
        Ok(SelectedTags {
            tags: candidates.into_iter().map(|candidate| candidate.listed).collect(),
            surplus: surplus.into_iter().map(|candidate| candidate.listed.tag).collect(),
            without_time: self.without_time,
        })
    }

    fn too_few(&self) -> Error {
        let (found, listed) = (self.candidates.len(), self.listed);
        let at_least = self.selection.at_least;
        let message = match listed {
            0 => format!("the repository lists no tags, `at_least` is {at_least}"),
            _ => format!("`select` matches {found} of {listed} tags, `at_least` is {at_least}"),
        };
        let error = Error::new(Kind::NotFound, message);
        match self.unnamed {
            0 => error.hint("run `ecr-mirror plan -v` to see why each tag is skipped"),
            unnamed => error.hint(format!(
                "add a `glob` or `regex` for the {unnamed} variants, pre-releases and other names; \
                 run `ecr-mirror plan -v` to see why each tag is skipped"
            )),
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
    if version.is_variant() && !selection.has_patterns() {
        return Err(SkippedTag::Variant);
    }
    let unnamed = version.pre().filter(|pre| !pattern_names(selection, name, pre));
    let named = if unnamed.is_some() { Named::Nowhere } else { Named::Elsewhere };
    let range = selection.semver.as_ref();
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

/// Newest first, tags without a version last, equal ones by name: a total order.
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
