//! Ranges of versions, as Cargo writes them, over versions as people tag with them.

use std::{fmt, str::FromStr};

use semver::VersionReq;

use super::version::{FIRST_DAY, Version, dotted, split_suffix};
use crate::model::NameError;

/// A range of versions as Cargo writes it, like `>=1.25, <2`.
///
/// Versions are read as leniently as tags: `v1.25`, `24.04`, `3.14.0rc1`. A day in one number
/// (`20240101`) is only in a range that is written with such days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    wanted: VersionReq,
    of_days: bool,
}

/// How a pre-release stands to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Something else names it: it is in the range where its release is.
    Elsewhere,
    /// Only the range could.
    Nowhere,
}

impl Range {
    /// Whether the version is in the range; its variant plays no part. A pre-release is where
    /// the range has one of the same release.
    pub fn matches(&self, version: &Version, named: Named) -> bool {
        if version.is_day() != self.of_days {
            return false;
        }
        let pre = match (version.pre(), named) {
            (Some(pre), Named::Nowhere) => pre.semver(),
            _ => semver::Prerelease::EMPTY,
        };
        self.wanted.matches(&version.semver(pre))
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
        let wanted = VersionReq::parse(&parts.ok_or_else(wrong)?.join(", "));
        let wanted = wanted.map_err(|_| wrong())?;
        let of_days = wanted.comparators.iter().any(|part| part.major >= FIRST_DAY);
        Ok(Self { text: text.to_owned(), wanted, of_days })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One comparator as the semver crate reads it: no `v`, no leading zeros, pre-releases in one form.
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
    fn a_range_admits_what_cargo_would() {
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
        fn any_range_can_be_read(text in "[-A-Za-z0-9_.<>=~^, ]{1,40}|.*") {
            let _ = text.parse::<Range>();
        }
    }
}
