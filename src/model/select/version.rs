//! Parses tags as versions.
//!
//! Splits `1.25`, `v1.2.3`, `24.04`, `20240101`, `2024-01-15`, `1.2.3-rc.1`, `1.2.3-alpine3.20` and
//! `bookworm-20241202-slim` into numbers, pre-release, and variant (the rest before and after).
//! Text that only looks like a number, such as an abbreviated commit hash, is not a version.

use std::{cmp::Ordering, fmt};

/// A tag read as a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// At least one; missing ones count as 0.
    numbers: Vec<u64>,
    pre: Option<Pre>,
    /// The text before the numbers, without `v`.
    prefix: String,
    /// The text after the numbers and the pre-release.
    suffix: String,
}

/// The numbers and the variant of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct VersionSpelling<'a> {
    prefix: &'a str,
    numbers: &'a [u64],
    suffix: &'a str,
}

impl<'a> VersionSpelling<'a> {
    /// The variant. Dates in one number are apart from other versions.
    pub(super) fn variant(&self) -> (&'a str, &'a str, bool) {
        (self.prefix, self.suffix, self.numbers[0] >= FIRST_DATE)
    }

    pub(super) fn length(&self) -> usize {
        self.numbers.len()
    }
}

/// A pre-release, like `rc.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pre {
    /// In lower case.
    pub(super) word: String,
    /// The meaning: `a` is an alpha, `cr` a release candidate. Stages sort in release order.
    stage: &'static str,
    number: u64,
}

/// The position at which a word is a pre-release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VersionPosition {
    Anywhere,
    First,
    /// Directly after the numbers, and with its own number: `a1`, but not `a`.
    Numbered,
}

/// The words of pre-releases with their stages and positions. Stages sort in release order.
const WORDS: &[(&str, &str, VersionPosition)] = &[
    ("alpha", "alpha", VersionPosition::Anywhere),
    ("beta", "beta", VersionPosition::Anywhere),
    ("rc", "rc", VersionPosition::Anywhere),
    ("cr", "rc", VersionPosition::First),
    ("preview", "preview", VersionPosition::Anywhere),
    ("prerelease", "preview", VersionPosition::Anywhere),
    ("pre", "preview", VersionPosition::First),
    ("ea", "ea", VersionPosition::First),
    ("milestone", "milestone", VersionPosition::First),
    ("snapshot", "snapshot", VersionPosition::Anywhere),
    ("nightly", "nightly", VersionPosition::Anywhere),
    ("canary", "canary", VersionPosition::Anywhere),
    ("a", "alpha", VersionPosition::Numbered),
    ("b", "beta", VersionPosition::Numbered),
    ("m", "milestone", VersionPosition::Numbered),
    ("dev", "dev", VersionPosition::Numbered),
];

/// A number with this many digits or more is a date or not a version.
const DATE_DIGITS: usize = 7;

/// The least number in the form of a date, `19000101`.
pub(super) const FIRST_DATE: u64 = 19_000_101;

impl Version {
    /// The tag as a version; `None` if it is not one.
    pub fn parse(tag: &str) -> Option<Self> {
        let (prefix, rest) = split_prefix(tag)?;
        let (numbers, rest) = date(rest).or_else(|| dotted(rest))?;
        let (pre, suffix) = split_suffix(rest)?;
        Some(Self { numbers, pre, prefix: prefix.to_owned(), suffix })
    }

    /// The version without its pre-release, as it is compared with [`Self::shorter`].
    pub(super) fn spelling(&self) -> VersionSpelling<'_> {
        VersionSpelling { prefix: &self.prefix, numbers: &self.numbers, suffix: &self.suffix }
    }

    /// The versions with fewer numbers that this release continues: `1.27` and `1` for `1.27.3`. None for
    /// a pre-release.
    pub(super) fn shorter(&self) -> impl Iterator<Item = VersionSpelling<'_>> {
        let spelling = self.spelling();
        let lengths = if self.pre.is_some() { 0..0 } else { 1..self.numbers.len() };
        lengths
            .map(move |length| VersionSpelling { numbers: &spelling.numbers[..length], ..spelling })
    }

    pub(super) fn pre(&self) -> Option<&Pre> {
        self.pre.as_ref()
    }

    /// Returns `true` if the tag has more than numbers and a pre-release, such as `-alpine3.20`.
    pub(super) fn is_variant(&self) -> bool {
        !self.prefix.is_empty() || !self.suffix.is_empty()
    }

    /// Returns `true` if this text follows the numbers, and no name precedes them.
    pub(super) fn has_suffix(&self, suffix: &str) -> bool {
        self.prefix.is_empty() && self.suffix == suffix
    }

    /// Returns `true` for a date in one number, like `20240101`.
    pub(super) fn is_date(&self) -> bool {
        self.numbers[0] >= FIRST_DATE
    }

    /// The first three numbers as a version of the semver crate.
    pub(super) fn semver(&self, pre: semver::Prerelease) -> semver::Version {
        let number = |at: usize| self.numbers.get(at).copied().unwrap_or_default();
        semver::Version { pre, ..semver::Version::new(number(0), number(1), number(2)) }
    }

    /// Orders by age, older first: by numbers, then pre-releases before the release, then `1.27`
    /// before the more exact `1.27.0`. Dates in one number, which some repositories have besides
    /// releases, come before every release.
    ///
    /// Variants of one version are apart from each other, the plain version last. Builds of one
    /// variant follow in natural order: `-eksbuild.2` before `-eksbuild.10`.
    pub fn by_age(&self, other: &Self) -> Ordering {
        let longest = self.numbers.len().max(other.numbers.len());
        let padded = |version: &Self| -> Vec<u64> {
            let zeros = std::iter::repeat(0);
            version.numbers.iter().copied().chain(zeros).take(longest).collect()
        };
        let rank =
            |pre: &Option<Pre>| pre.as_ref().map_or((1, "", 0), |pre| (0, pre.stage, pre.number));
        let dates = other.is_date().cmp(&self.is_date());
        dates
            .then_with(|| padded(self).cmp(&padded(other)))
            .then_with(|| rank(&self.pre).cmp(&rank(&other.pre)))
            .then_with(|| self.numbers.len().cmp(&other.numbers.len()))
            .then_with(|| {
                let [(words, numbers), (other_words, other_numbers)] =
                    [self, other].map(Self::build);
                other_words.cmp(&words).then_with(|| numbers.cmp(&other_numbers))
            })
    }

    /// The variant as its words, with `0` for each number, and these numbers. A number with dots is
    /// one: `3.20` of `alpine3.20`. Digits come without leading zeros, the longer number is higher.
    fn build(&self) -> (String, Vec<Vec<(usize, &str)>>) {
        let (mut words, mut numbers) = (String::new(), Vec::new());
        for (text, end) in [(&self.prefix, "|"), (&self.suffix, "")] {
            let mut rest = text.as_str();
            while let Some(first) = rest.chars().next() {
                if !first.is_ascii_digit() {
                    words.push(first);
                    rest = &rest[first.len_utf8()..];
                    continue;
                }
                words.push('0');
                let is_number = |c: char| c.is_ascii_digit() || c == '.';
                let all = &rest[..rest.find(|c: char| !is_number(c)).unwrap_or(rest.len())];
                let number = all.trim_end_matches('.');
                let digits = number.split('.').map(|digits| digits.trim_start_matches('0'));
                numbers.push(digits.map(|digits| (digits.len(), digits)).collect());
                rest = &rest[number.len()..];
            }
            words.push_str(end);
        }
        (words, numbers)
    }
}

/// The prefix and the rest, which begins with the numbers. The numbers are at the start, after a
/// `v`, or after a name and a separator.
fn split_prefix(tag: &str) -> Option<(&str, &str)> {
    let numeric = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let unprefixed = |text: &'_ str| -> usize { usize::from(text.starts_with(['v', 'V'])) };
    if numeric(&tag[unprefixed(tag)..]) {
        return Some(("", &tag[unprefixed(tag)..]));
    }
    tag.match_indices(['-', '_', '.']).find_map(|(at, separator)| {
        let (prefix, rest) = (&tag[..at], &tag[at + 1..]);
        let rest = &rest[unprefixed(rest)..];
        // the `.` of `alpine3.20` is part of a name
        let is_in_name = separator == "." && prefix.contains(|c: char| c.is_ascii_digit());
        (numeric(rest) && !is_in_name).then_some((prefix, rest))
    })
}

/// Parses `2024-01-15` with an optional time like `T00-52-20Z`. Returns the numbers and the rest.
fn date(text: &str) -> Option<(Vec<u64>, &str)> {
    let date = text.get(..10)?;
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    if [year.len(), month.len(), day.len()] != [4, 2, 2] || !is_date(&[year, month, day].concat()) {
        return None;
    }
    let mut numbers: Vec<u64> = [year, month, day].iter().filter_map(|n| n.parse().ok()).collect();
    let mut rest = &text[10..];
    if let Some((time, after)) = rest.strip_prefix('T').and_then(|time| time.split_once('Z')) {
        let parts = time.split('-').map(|part| part.parse().ok());
        numbers.extend(parts.collect::<Option<Vec<u64>>>()?);
        rest = after;
    }
    (!rest.starts_with(|c: char| c.is_ascii_digit())).then_some((numbers, rest))
}

/// Parses `1`, `1.25` or `1.2.3.4`. Returns the numbers and the rest.
pub(super) fn dotted(text: &str) -> Option<(Vec<u64>, &str)> {
    let (mut numbers, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = &rest[..end];
        if numbers.is_empty() && digits.len() >= DATE_DIGITS && !is_date(digits) {
            return None;
        }
        numbers.push(digits.parse().ok()?);
        rest = &rest[end..];
        match rest.strip_prefix('.') {
            Some(after) if after.starts_with(|c: char| c.is_ascii_digit()) => rest = after,
            _ => return Some((numbers, rest)),
        }
    }
}

/// Returns `true` for a date, like `20240115`, or a date and a time.
fn is_date(digits: &str) -> bool {
    let number = |range| digits.get(range).and_then(|text: &str| text.parse::<u32>().ok());
    let within = |range, least, most| number(range).is_some_and(|n| (least..=most).contains(&n));
    matches!(digits.len(), 8 | 10 | 12 | 14)
        && within(0..4, 1990, 2099)
        && within(4..6, 1, 12)
        && within(6..8, 1, 31)
}

/// Parses the pre-release and the variant. Returns `None` if other letters follow, as in `8u412` and
/// in hashes.
pub(super) fn split_suffix(rest: &str) -> Option<(Option<Pre>, String)> {
    if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let (pre, end) = Pre::parse(rest, VersionPosition::Numbered)?;
        let after = &rest[end..];
        return Some((Some(pre), after.trim_start_matches(['-', '_', '.']).to_owned()));
    }
    let separators = rest.match_indices(['-', '_', '.']).map(|(at, _)| at);
    for (nth, at) in separators.enumerate() {
        let position = if nth == 0 { VersionPosition::Numbered } else { VersionPosition::Anywhere };
        if let Some((pre, end)) = Pre::parse(&rest[at + 1..], position) {
            let variant = format!("{}{}", &rest[..at], &rest[at + 1 + end..]);
            let variant = variant.trim_start_matches(['-', '_', '.']);
            return Some((Some(pre), variant.to_owned()));
        }
    }
    Some((None, rest.trim_start_matches(['-', '_', '.']).to_owned()))
}

impl Pre {
    /// The pre-release at the start of the text (`rc`, `rc1`, `rc.1`, `rc-1`) and its length.
    fn parse(text: &str, position: VersionPosition) -> Option<(Self, usize)> {
        let digits = |from: usize| {
            let rest = &text[from..];
            from + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
        };
        let letters = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let word = text[..letters].to_ascii_lowercase();
        let mut number = letters..digits(letters);
        if number.is_empty() && text[letters..].starts_with(['.', '-']) {
            let after = letters + 1..digits(letters + 1);
            if !after.is_empty() {
                number = after;
            }
        }
        // `rc1` ends here, `b12f` is not a pre-release
        if text[number.end..].starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let (_, stage, required) = *WORDS.iter().find(|(known, ..)| *known == word)?;
        let fits = match required {
            VersionPosition::Anywhere => true,
            VersionPosition::First => position != VersionPosition::Anywhere,
            VersionPosition::Numbered => {
                position != VersionPosition::Anywhere && !number.is_empty()
            }
        };
        let end = number.end;
        let number = if number.is_empty() { 0 } else { text[number].parse().ok()? };
        fits.then_some((Self { word, stage, number }, end))
    }

    /// The stage and its number as a pre-release of the semver crate.
    pub(super) fn semver(&self) -> semver::Prerelease {
        let text = format!("{}.{}", self.stage, self.number);
        semver::Prerelease::new(&text).expect("a word and a number are a pre-release")
    }
}

impl fmt::Display for Pre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)?;
        if self.number > 0 { write!(f, ".{}", self.number) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers, pre-release and variant of a tag, in a line.
    fn read(tag: &str) -> String {
        let Some(version) = Version::parse(tag) else { return "-".to_owned() };
        let numbers: Vec<String> = version.numbers.iter().map(u64::to_string).collect();
        let pre = version.pre.map(|pre| format!(" pre {pre}")).unwrap_or_default();
        let variant = [version.prefix, version.suffix].join("|");
        let variant = if variant == "|" { variant.clone().replace('|', "") } else { variant };
        format!("{}{pre} {variant}", numbers.join(".")).trim_end().to_owned()
    }

    #[test]
    fn a_tag_splits_into_numbers_pre_release_and_variant() {
        for (tag, expected) in [
            ("1", "1"),
            ("1.25", "1.25"),
            ("v1.2.3", "1.2.3"),
            ("V2.0", "2.0"),
            ("3.19", "3.19"),
            ("24.04", "24.4"),
            ("1.2.3.4", "1.2.3.4"),
            ("20240101", "20240101"),
            ("202401151030", "202401151030"),
            ("2024-01-15", "2024.1.15"),
            ("2024.01.15", "2024.1.15"),
            ("RELEASE.2024-11-07T00-52-20Z", "2024.11.7.0.52.20 RELEASE|"),
            ("1.2.3-alpine3.20", "1.2.3 |alpine3.20"),
            ("1.27-alpine", "1.27 |alpine"),
            ("17.0.13_11-jdk", "17.0.13 |11-jdk"),
            ("7.4.1-debian-12-r3", "7.4.1 |debian-12-r3"),
            ("26.0.7-0", "26.0.7 |0"),
            ("bookworm-20241202-slim", "20241202 bookworm|slim"),
            ("jammy-20241111", "20241111 jammy|"),
            ("release-v1.4", "1.4 release|"),
            ("v3.1.0-rc.1", "3.1.0 pre rc.1"),
            ("1.27.0-rc1-alpine", "1.27.0 pre rc.1 |alpine"),
            ("1.0-alpine-rc.2", "1.0 pre rc.2 |alpine"),
            ("3.14.0a7-slim-bookworm", "3.14.0 pre a.7 |slim-bookworm"),
            ("3.14-rc-slim", "3.14 pre rc |slim"),
            ("17beta1", "17 pre beta.1"),
            ("18rc1-alpine3.21", "18 pre rc.1 |alpine3.21"),
            ("2.0.0-M3", "2.0.0 pre m.3"),
            ("1.0-SNAPSHOT", "1.0 pre snapshot"),
            ("24-ea-17-jdk", "24 pre ea.17 |jdk"),
            ("1.4.1-dev", "1.4.1 |dev"),
            ("1.4.1.dev3", "1.4.1 pre dev.3"),
            ("latest", "-"),
            ("alpine3.20", "-"),
            ("stable-alpine3.20-perl", "-"),
            ("windowsservercore-ltsc2022", "-"),
            ("8u412-b08", "-"),
            ("1.1.1w", "-"),
            ("1234567", "-"),
            ("0a1b2c3", "-"),
            ("sha-7654321", "-"),
            ("99999999", "-"),
            ("sha256-0e5574283393e7f7b7a2dd8bb8b8d3e8d6f4e1b0.sig", "-"),
        ] {
            assert_eq!(read(tag), expected, "{tag}");
        }
    }

    #[test]
    fn versions_sort_from_old_to_new() {
        let oldest_first = [
            "20230901",
            "20240101",
            "1",
            "1.0.0",
            "1.9",
            "1.10-alpine",
            "1.10.1",
            "3.14.0a2",
            "3.14.0b1",
            "3.14-rc",
            "3.14.0rc1",
            "3.14.0rc2",
            "3.14.0",
            "2024.1",
            "2024.10",
        ];
        let mut sorted: Vec<Version> =
            oldest_first.iter().rev().map(|tag| Version::parse(tag).unwrap()).collect();
        sorted.sort_by(Version::by_age);
        let expected: Vec<Version> =
            oldest_first.iter().map(|tag| Version::parse(tag).unwrap()).collect();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn builds_of_one_version_sort_in_natural_order_and_variants_stay_apart() {
        for oldest_first in [
            &["v1.19.0-eksbuild.1", "v1.19.0-eksbuild.2", "v1.19.0-eksbuild.10"][..],
            &["1.2-build20251231", "1.2-build20260101"],
            &["26.0.7-0", "26.0.7-2", "26.0.7-11"],
            &["v1.30.4-rke2r2", "v1.30.4-rke2r10"],
            &["7.4.1-debian-11-r99", "7.4.1-debian-12-r3", "7.4.1-debian-12-r10"],
            &["3.1-alpine3.9", "3.1-alpine3.20", "3.1-alpine3.20.1"],
            &["17.0.13_9-jdk", "17.0.13_11-jdk"],
            // a variant is neither newer nor older than another one: the name decides
            &["1.0-slim", "1.0-alpine3.9", "1.0-alpine", "1.0"],
            &["1.0-debian-12-r2", "1.0-debian-12-r10", "1.0-alpine-r30"],
            &["1.0-99999999999999999999998", "1.0-99999999999999999999999"],
        ] {
            let version = |tag: &&str| Version::parse(tag).unwrap();
            for pair in oldest_first.windows(2) {
                let order = version(&pair[0]).by_age(&version(&pair[1]));
                assert_eq!(order, Ordering::Less, "{pair:?}");
            }
        }
    }

    /// Tags with many equal versions.
    fn tag() -> impl Strategy<Value = String> {
        "(v|bookworm-)?[01](\\.[01]){0,2}(-rc\\.?[12])?([-_.](r|alpine|build\\.)?(0?[1-3]){0,2}){0,2}"
    }

    proptest! {
        #[test]
        fn the_order_of_versions_is_total(tags in prop::collection::vec(tag(), 3)) {
            let versions: Vec<Version> = tags.iter().filter_map(|tag| Version::parse(tag)).collect();
            let [a, b, c] = &versions[..] else { return Ok(()) };
            prop_assert_eq!(a.by_age(a), Ordering::Equal);
            prop_assert_eq!(a.by_age(b), b.by_age(a).reverse());
            if a.by_age(b) != Ordering::Greater && b.by_age(c) != Ordering::Greater {
                prop_assert_ne!(a.by_age(c), Ordering::Greater);
            }
            if a.by_age(b) == Ordering::Equal {
                prop_assert_eq!(a.by_age(c), b.by_age(c));
            }
        }

        #[test]
        fn no_tag_makes_the_parser_panic(text in "[-A-Za-z0-9_.]{1,40}|.*") {
            Version::parse(&text);
        }
    }
}
