//! Translates the version ranges of other tools to selections.
//!
//! Three dialects are in use. They differ in the meaning of a version without an operator, of
//! missing numbers, and of the text after a `-`:
//!
//! | | Masterminds (skopeo) | regclient (regsync) | blang (dregsy) |
//! |---|---|---|---|
//! | `1.2.3` | equality | equality | equality |
//! | `1.2` | every 1.2.x | equality with 1.2.0 | refused |
//! | `1.2.3-x` in `>=1` | only if the range has a `-` too | yes | yes |
//! | `2.0.0-x` in `<2` | only if the range has a `-` too | yes | yes |
//!
//! Source: Masterminds/semver v3, `constraints.go`; regclient, `internal/semver`; blang/semver v4,
//! `range.go`.

use super::{
    patterns,
    wish::{EntryKeys, list, string},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Masterminds,
    Regclient,
    Blang,
}

impl Dialect {
    /// Tags that the dialect reads as versions: without and with a text after `-`.
    fn shapes(self) -> [&'static str; 2] {
        match self {
            Self::Masterminds => [r"^v?\d+(\.\d+){0,2}$", r"^v?\d+(\.\d+){0,2}(-[0-9A-Za-z.-]+)?$"],
            Self::Regclient => [r"^v?\d+(\.\d+)*$", r"^v?\d+(\.\d+)*(-.*)?$"],
            Self::Blang => {
                [r"^v?\d+(\.\d+){0,2}$", r"^v?\d+(\.\d+){0,2}$|^v?\d+\.\d+\.\d+-[0-9A-Za-z.-]+$"]
            }
        }
    }
}

type Numbers = [u64; 3];

impl Dialect {
    /// Other tags, as far as patterns can describe them. For selections whose pattern is not a shape.
    fn others(self, accepts_suffixes: bool) -> Vec<String> {
        let mut others = vec![r"^[^v\d].*$", r"^v\D.*$"];
        if self != Self::Regclient {
            others.push(r"^v?\d+(\.\d+){3,}.*$");
        }
        match (self, accepts_suffixes) {
            (_, false) => others.push("^.*-.*$"),
            (Self::Blang, true) => others.push(r"^v?\d+(\.\d+)?-.*$"),
            _ => {}
        }
        others.into_iter().map(str::to_owned).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    /// Not equal in this many numbers.
    Not(usize),
}

#[derive(Debug, Clone, Copy)]
struct RangeComparator {
    operator: Operator,
    numbers: Numbers,
    /// `true` if the version has a pre-release, which sorts before the release.
    is_before_release: bool,
}

/// Comparators that must all match.
#[derive(Debug, Default)]
struct ComparatorSet {
    comparators: Vec<RangeComparator>,
    /// `true` if a `-` in a tag does not exclude it.
    accepts_suffixes: bool,
}

/// The selections of a range, and its part that they only approximate.
#[derive(Debug, Default)]
pub(super) struct Selections {
    pub(super) keys: Vec<EntryKeys>,
    pub(super) approximation: Option<&'static str>,
}

const PRE_RELEASE: &str =
    "a pre-release as a bound has no equivalent, its first pre-release is used";

/// Patterns that narrow a range.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    /// One of these must match; no restriction if empty.
    pub(super) allow: Vec<String>,
    /// None of these may match.
    pub(super) deny: Vec<String>,
}

impl Patterns {
    /// The selection of tags that match one of `allowed`, and none of `excluded` and `deny`.
    pub(super) fn keys(&self, allowed: &[String], mut excluded: Vec<String>) -> EntryKeys {
        let mut keys = EntryKeys::from([("regex", list(allowed))]);
        excluded.extend(self.deny.iter().cloned());
        if !excluded.is_empty() {
            keys.insert("exclude_regex", list(&excluded));
        }
        if allowed.iter().any(|pattern| patterns::can_match_pre_releases(pattern)) {
            keys.insert("pre_releases", "true".to_owned());
        }
        keys
    }
}

/// The selections of tags that are in one of the ranges and match the patterns.
///
/// # Errors
/// The reason if the dialect does not accept a range, or it has no equivalent.
pub(super) fn selections(
    dialect: Dialect,
    ranges: &[&str],
    patterns: &Patterns,
) -> Result<Selections, String> {
    let mut found = Selections::default();
    let mut alternatives = Vec::new();
    for range in ranges {
        for text in range.split("||") {
            alternatives.push(alternative(dialect, text, &mut found)?);
        }
    }
    // ranges without anything around them are one range
    let is_simple = |it: &ComparatorSet| {
        !it.accepts_suffixes
            && !it.comparators.is_empty()
            && !it.comparators.iter().any(|it| matches!(it.operator, Operator::Not(_)))
    };
    let shape = |accepts_suffixes| match patterns.allow.is_empty() {
        true => vec![dialect.shapes()[usize::from(accepts_suffixes)].to_owned()],
        false => patterns.allow.clone(),
    };
    if alternatives.len() > 1 && alternatives.iter().all(is_simple) {
        let ranges: Vec<String> = alternatives.iter().filter_map(ComparatorSet::range).collect();
        let excluded = if patterns.allow.is_empty() { Vec::new() } else { dialect.others(false) };
        let mut keys = patterns.keys(&shape(false), excluded);
        keys.insert("semver", string(&ranges.join(" || ")));
        found.keys.push(keys);
        return Ok(found);
    }
    for alternative in &alternatives {
        let shape = shape(alternative.accepts_suffixes);
        let mut excluded = alternative.excluded();
        if !patterns.allow.is_empty() {
            excluded.extend(dialect.others(alternative.accepts_suffixes));
        }
        let mut selection = patterns.keys(&shape, excluded);
        if let Some(range) = alternative.range() {
            selection.insert("semver", string(&range));
        }
        found.keys.push(selection);
        let below = alternative.below_a_release(dialect);
        if !below.is_empty() && !patterns.allow.is_empty() {
            found.approximation = Some("pre-releases of the upper end are left out");
        } else if !below.is_empty() {
            let mut selection = patterns.keys(&below, Vec::new());
            // most repositories have no such tag
            selection.insert("at_least", "0".to_owned());
            found.keys.push(selection);
        }
    }
    Ok(found)
}

impl ComparatorSet {
    /// The range in our syntax; `None` if every version is in it.
    fn range(&self) -> Option<String> {
        let is_bound = |it: &&RangeComparator| !matches!(it.operator, Operator::Not(_));
        let bounds: Vec<String> =
            self.comparators.iter().filter(is_bound).map(RangeComparator::text).collect();
        let is_open =
            !self.comparators.iter().filter(is_bound).any(|it| {
                matches!(it.operator, Operator::Below | Operator::AtMost | Operator::Equal)
            });
        match (bounds.is_empty(), is_open) {
            (true, _) => None,
            // `20240101` is a version like others for these tools
            (false, true) => Some(bounds.join(", ") + " || >=19900101"),
            (false, false) => Some(bounds.join(", ")),
        }
    }

    /// Patterns of tags whose numbers are in the range while the tags are not.
    fn excluded(&self) -> Vec<String> {
        let pattern = |it: &RangeComparator| match it.operator {
            // a suffix sorts before the release
            Operator::AtLeast | Operator::Equal
                if self.accepts_suffixes && !it.is_before_release =>
            {
                Some(format!("^v?{}-.*$", pattern(&it.numbers)))
            }
            Operator::Not(3) => Some(format!("^v?{}$", pattern(&it.numbers))),
            Operator::Not(count) => {
                let numbers = it.numbers[..count].iter().map(u64::to_string);
                Some(format!(r"^v?{}(\..*)?$", numbers.collect::<Vec<_>>().join(r"\.")))
            }
            _ => None,
        };
        self.comparators.iter().filter_map(pattern).collect()
    }

    /// Patterns of tags that sort before the upper end though they have its numbers.
    fn below_a_release(&self, dialect: Dialect) -> Vec<String> {
        if !self.accepts_suffixes {
            return Vec::new();
        }
        let is_end =
            |it: &&RangeComparator| it.operator == Operator::Below && !it.is_before_release;
        let ends = self.comparators.iter().filter(is_end);
        let fits = |end: &&RangeComparator| {
            self.comparators.iter().all(|other| match other.operator {
                Operator::Below | Operator::AtMost => end.numbers <= other.numbers,
                Operator::Above | Operator::AtLeast => end.numbers > other.numbers,
                Operator::Equal => false,
                Operator::Not(count) => {
                    count == 3 || end.numbers[..count] != other.numbers[..count]
                }
            })
        };
        let pattern = |end: &RangeComparator| match (dialect, end.numbers) {
            // blang refuses a suffix after fewer numbers
            (Dialect::Blang, [major, minor, patch]) => {
                format!(r"^v?{major}\.{minor}\.{patch}-.*$")
            }
            (_, numbers) => format!("^v?{}-.*$", pattern(&numbers)),
        };
        ends.filter(fits).map(pattern).collect()
    }
}

impl RangeComparator {
    fn text(&self) -> String {
        let operator = match self.operator {
            Operator::Below => "<",
            Operator::AtMost => "<=",
            Operator::Above => ">",
            Operator::AtLeast => ">=",
            Operator::Equal | Operator::Not(_) => "=",
        };
        let [major, minor, patch] = self.numbers;
        format!("{operator}{major}.{minor}.{patch}")
    }
}

/// A pattern of these numbers, with or without zeros at the end.
fn pattern(numbers: &Numbers) -> String {
    let count = numbers.iter().rposition(|number| *number > 0).map_or(1, |last| last + 1);
    let written: Vec<String> = numbers[..count].iter().map(u64::to_string).collect();
    format!(r"{}(\.0+)*", written.join(r"\."))
}

fn alternative(
    dialect: Dialect,
    text: &str,
    found: &mut Selections,
) -> Result<ComparatorSet, String> {
    let mut all = ComparatorSet::default();
    let mut has_plain = false;
    for (operator, version) in tokens(dialect, text)? {
        let version = RangeVersion::parse(dialect, version)?;
        has_plain |= version.pre.is_none();
        if version.pre.is_some_and(|pre| pre != "0") {
            found.approximation = Some(PRE_RELEASE);
        }
        all.comparators.extend(comparators(dialect, operator, &version)?);
    }
    all.accepts_suffixes = match dialect {
        Dialect::Masterminds => !has_plain,
        Dialect::Regclient | Dialect::Blang => true,
    };
    Ok(all)
}

/// The operators and versions of an alternative; at least one.
fn tokens(dialect: Dialect, text: &str) -> Result<Vec<(&str, &str)>, String> {
    if let (Dialect::Masterminds, Some((from, to))) = (dialect, text.split_once(" - ")) {
        return Ok(vec![(">=", from.trim()), ("<=", to.trim())]);
    }
    let is_space = |c: char| c.is_whitespace() || (c == ',' && dialect == Dialect::Masterminds);
    let is_operator = |c: char| "<>=!~^".contains(c);
    let (mut all, mut rest) = (Vec::new(), text.trim_matches(is_space));
    while !rest.is_empty() {
        let end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
        let (operator, after) = rest.split_at(end);
        let after = after.trim_start();
        let end = after.find(|c| is_space(c) || is_operator(c)).unwrap_or(after.len());
        if end == 0 {
            return Err(format!("`{text}` is not a version range"));
        }
        all.push((operator, &after[..end]));
        rest = after[end..].trim_start_matches(is_space);
    }
    match all.is_empty() {
        true => Err(format!("`{text}` is not a version range")),
        false => Ok(all),
    }
}

/// A version of a range.
struct RangeVersion<'a> {
    /// Missing ones are 0.
    numbers: Numbers,
    /// The numbers that are written.
    count: usize,
    pre: Option<&'a str>,
}

impl<'a> RangeVersion<'a> {
    fn parse(dialect: Dialect, text: &'a str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a version with up to three numbers");
        let version = text.strip_prefix('v').unwrap_or(text);
        let version = version.split_once('+').map_or(version, |(version, _)| version);
        let (version, pre) = match version.split_once('-') {
            Some((version, pre)) => (version, Some(pre)),
            None => (version, None),
        };
        let (mut numbers, mut count, mut is_any) = ([0; 3], 0, false);
        for (at, part) in version.split('.').enumerate() {
            match part {
                "x" | "X" | "*" if dialect != Dialect::Regclient => is_any = true,
                _ if is_any || at > 2 => return Err(wrong()),
                digits => {
                    numbers[at] = digits.parse::<u32>().map_err(|_| wrong())?.into();
                    count = at + 1;
                }
            }
        }
        match dialect {
            Dialect::Blang if count < 3 && !is_any => Err(wrong()),
            Dialect::Regclient => Ok(Self { numbers, count: 3, pre }),
            _ => Ok(Self { numbers, count, pre }),
        }
    }

    /// The first version with another number at this index.
    fn after(&self, index: usize) -> Numbers {
        let mut next = [0; 3];
        next[..=index].copy_from_slice(&self.numbers[..=index]);
        next[index] += 1;
        next
    }
}

fn comparators(
    dialect: Dialect,
    operator: &str,
    version: &RangeVersion<'_>,
) -> Result<Vec<RangeComparator>, String> {
    let is_before_release = version.pre.is_some();
    let one = |operator, numbers| RangeComparator { operator, numbers, is_before_release };
    let [major, minor, _] = version.numbers;
    let numbers = version.numbers;
    let last = version.count.saturating_sub(1);
    let is_any = version.count == 0;
    let is_whole = version.count == 3;
    let until = |end| vec![one(Operator::AtLeast, numbers), one(Operator::Below, end)];
    let unknown = || Err(format!("`{operator}` has no equivalent here"));
    // the first pre-release of a version is the first version above all earlier ones
    let operator = match (operator, is_before_release) {
        (">", true) => ">=",
        ("<=" | "=<", true) => "<",
        ("" | "=" | "==" | "!=" | "!", true) => return unknown(),
        _ => operator,
    };
    Ok(match operator {
        "" | "=" | "==" | ">=" | "=>" | "<=" | "=<" | "^" | "~" | "~>" if is_any => Vec::new(),
        _ if is_any => return unknown(),
        "" | "=" | "==" if is_whole => vec![one(Operator::Equal, numbers)],
        "" | "=" | "==" => until(version.after(last)),
        "!=" | "!" if is_whole || dialect == Dialect::Masterminds => {
            vec![one(Operator::Not(version.count), numbers)]
        }
        ">" if is_whole => vec![one(Operator::Above, numbers)],
        ">" => vec![one(Operator::AtLeast, version.after(last))],
        ">=" | "=>" => vec![one(Operator::AtLeast, numbers)],
        "<" => vec![one(Operator::Below, numbers)],
        "<=" | "=<" if is_whole => vec![one(Operator::AtMost, numbers)],
        "<=" | "=<" => vec![one(Operator::Below, version.after(last))],
        "~" | "~>" if dialect != Dialect::Blang => until(version.after(last.min(1))),
        "^" if dialect != Dialect::Blang => until(match (major, minor) {
            (1.., _) => version.after(0),
            (_, 1..) => version.after(1),
            _ => version.after(last),
        }),
        _ => return unknown(),
    })
}
