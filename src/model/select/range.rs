//! Version ranges in Cargo's syntax, applied to tag versions.

use std::{fmt, str::FromStr};

use semver::VersionReq;

use super::version::{FIRST_DATE, Version, dotted, split_suffix};
use crate::model::NameError;

/// A version range in Cargo's syntax, like `>=1.25, <2`.
///
/// Its versions are parsed like tags: `v1.25`, `24.04`, `3.14.0rc1`. A date in one number
/// (`20240101`) is only in a range of such dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    comparators: VersionReq,
    is_of_dates: bool,
}

/// Whether something besides the range names a pre-release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A pattern names it: it is in the range if its release is.
    Elsewhere,
    /// Only the range can name it.
    Nowhere,
}

impl Range {
    /// Returns `true` if the version is in the range. Ignores its variant. A pre-release that nothing
    /// else names is in a range that has a pre-release of the same release.
    pub fn matches(&self, version: &Version, named: Named) -> bool {
        if version.is_date() != self.is_of_dates {
            return false;
        }
        let pre = match (version.pre(), named) {
            (Some(pre), Named::Nowhere) => pre.semver(),
            _ => semver::Prerelease::EMPTY,
        };
        self.comparators.matches(&version.semver(pre))
    }
}

impl FromStr for Range {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || {
            NameError::new("is not a range of versions").hint(
                "write what a version must be, joined by commas, like `>=1.25, <2` or `~1.27`",
            )
        };
        let parts: Option<Vec<String>> = text.split(',').map(comparator).collect();
        let comparators = VersionReq::parse(&parts.ok_or_else(wrong)?.join(", "));
        let comparators = comparators.map_err(|_| wrong())?;
        let is_of_dates = comparators.comparators.iter().any(|part| part.major >= FIRST_DATE);
        Ok(Self { text: text.to_owned(), comparators, is_of_dates })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A comparator in the semver crate's syntax: no `v`, no leading zeros, pre-releases in one form.
fn comparator(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !matches!(c, '<' | '>' | '=' | '~' | '^'))?;
    let (operator, version) = (&text[..end], text[end..].trim_start());
    if matches!(version, "*" | "x" | "X") {
        return operator.is_empty().then(|| "*".to_owned());
    }
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    if let Some((stem, "*" | "x" | "X")) = version.rsplit_once('.') {
        return Some(format!("{operator}{}.*", without_zeros(stem)?));
    }
    let (numbers, rest) = dotted(version)?;
    let (pre, variant) = split_suffix(rest)?;
    if numbers.len() > 3 || !variant.is_empty() {
        return None;
    }
    let mut parts: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let Some(pre) = pre else { return Some(format!("{operator}{}", parts.join("."))) };
    parts.resize(3, "0".to_owned());
    Some(format!("{operator}{}-{}", parts.join("."), pre.semver()))
}

fn without_zeros(stem: &str) -> Option<String> {
    let (numbers, rest) = dotted(stem)?;
    let parts: Vec<String> = numbers.iter().map(u64::to_string).collect();
    rest.is_empty().then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_matches_what_cargo_matches() {
        for (range, inside, outside) in [
            (
                ">=1.25",
                &["1.25", "1.25.0", "2", "v1.26.1", "1.25.3.7"][..],
                &["1.24.9", "1", "1.26.0-rc.1", "20240101"][..],
            ),
            (">=2.50, <4", &["v2.50.0", "3.9"], &["v4.0.0", "v2.49.9", "v4.0.0-rc.1"]),
            ("1.25", &["1.25", "1.99"], &["2.0", "1.24"]),
            ("~1.25", &["1.25.9"], &["1.26"]),
            ("= v1.27", &["1.27", "1.27.3"], &["1.28"]),
            ("1.27.*", &["1.27", "1.27.3"], &["1.28"]),
            ("*", &["0.1", "9"], &["1.0-rc1", "20240101"]),
            (">=22.04", &["22.04", "24.4"], &["20.04"]),
            (">=20240101", &["20240101", "20241231"], &["20231231", "3.19"]),
            (">=2024.01", &["2024.1.15", "2024-02-01"], &["2023.12"]),
            (">=3.14.0rc1", &["3.14.0rc1", "3.14.0-rc.2", "3.14.0"], &["3.14.0b4", "3.15.0rc1"]),
        ] {
            let parsed: Range = range.parse().unwrap();
            for (tags, expected) in [(inside, true), (outside, false)] {
                for tag in tags {
                    let version = Version::parse(tag).unwrap();
                    assert_eq!(parsed.matches(&version, Named::Nowhere), expected, "{range} {tag}");
                }
            }
        }
        for wrong in ["", "latest", ">=", "1.2.3.4", ">=1.2 <3", "1.2 || 2", ">=1.2,", "1.2-alpine"]
        {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_range_makes_the_parser_panic(text in "[-A-Za-z0-9_.<>=~^, ]{1,40}|.*") {
            let _ = text.parse::<Range>();
        }
    }
}
