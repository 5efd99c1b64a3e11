//! Version ranges in Cargo's syntax with alternatives, applied to tag versions.
//!
//! ```text
//! range       = alternative *( "||" alternative )
//! alternative = part *( "," part )
//! part        = version " - " version | comparison *( " " comparison )
//! comparison  = [ ">" | ">=" | "<" | "<=" | "=" | "~" | "^" ] version
//! version     = "*" | [ "v" ] number *2( "." number ) [ ".*" | pre-release | "-0" | suffix ]
//! ```
//!
//! A version without an operator is a range, as in Cargo: `1.25` is `^1.25`. Several comparisons with
//! only a space between them need operators. `-0` is the first pre-release of a version. A suffix,
//! like `-alpine` or `-20210708`, is allowed after `=` only and names exactly these tags.

use std::{fmt, str::FromStr};

use semver::VersionReq;

use super::version::{FIRST_DATE, Version, dotted, split_suffix};
use crate::model::NameError;

/// A version range, like `>=1.25, <2` or `^1 || ^2`.
///
/// Its versions are parsed like tags: `v1.25`, `24.04`, `3.14.0rc1`. A date in one number
/// (`20240101`) is only in a range of such dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    /// At least one.
    alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    comparators: VersionReq,
    /// The suffix of its tags, if the alternative spells it out.
    suffix: Option<String>,
    is_of_dates: bool,
}

/// `true` if a part besides the range names a pre-release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A pattern names it: it is in the range if its release is.
    Elsewhere,
    /// Only the range can name it.
    Nowhere,
}

impl Range {
    /// Returns `true` if the version is in the range. Ignores its variant, unless the range spells
    /// one out. A pre-release that nothing else names is in a range that has a pre-release of the
    /// same release.
    pub(crate) fn matches(&self, version: &Version, named: Named) -> bool {
        self.alternatives.iter().any(|alternative| alternative.matches(version, named))
    }

    /// Returns `true` if the range spells out the version's variant: no pattern must name it.
    pub(super) fn spells_out(&self, version: &Version, named: Named) -> bool {
        let mut spelled = self.alternatives.iter().filter(|it| it.suffix.is_some());
        spelled.any(|alternative| alternative.matches(version, named))
    }
}

impl Alternative {
    fn matches(&self, version: &Version, named: Named) -> bool {
        if version.is_date() != self.is_of_dates
            || self.suffix.as_ref().is_some_and(|suffix| !version.has_suffix(suffix))
        {
            return false;
        }
        let pre = match (version.pre(), named) {
            (Some(pre), Named::Nowhere) => pre.semver(),
            _ => semver::Prerelease::EMPTY,
        };
        self.comparators.matches(&version.semver(pre))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut comparators = Vec::new();
        for part in text.split(',') {
            match part.split_whitespace().collect::<Vec<_>>()[..] {
                [from, "-", to] => {
                    for (operator, version) in [(">=", from), ("<=", to)] {
                        let comparator = Comparator::parse(version)?;
                        (comparator.operator.is_empty() && comparator.suffix.is_none())
                            .then(|| comparators.push(Comparator { operator, ..comparator }))?;
                    }
                }
                _ => comparators.extend(comparisons(part)?),
            }
        }
        let suffix = comparators.iter().find_map(|comparator| comparator.suffix.clone());
        let texts: Vec<String> =
            comparators.iter().map(|it| format!("{}{}", it.operator, it.version)).collect();
        let comparators = VersionReq::parse(&texts.join(", ")).ok()?;
        let is_of_dates = comparators.comparators.iter().any(|part| part.major >= FIRST_DATE);
        Some(Self { comparators, suffix, is_of_dates })
    }
}

impl FromStr for Range {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let alternatives: Option<_> = text.split("||").map(Alternative::parse).collect();
        let alternatives = alternatives.ok_or_else(|| {
            NameError::new("is not a version range").hint(
                "write comparisons with a comma or a space between them, like `>=1.25, <2`; \
                 `1.25 - 1.27`, `~1.27` and alternatives like `^1 || ^2` are allowed too",
            )
        })?;
        Ok(Self { text: text.to_owned(), alternatives })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The comparisons of a text, with spaces between them.
fn comparisons(text: &str) -> Option<Vec<Comparator<'_>>> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    loop {
        // an operator can have spaces after it
        let operator = rest.len() - rest.trim_start_matches(OPERATORS).trim_start().len();
        let end = rest[operator..].find(char::is_whitespace).map_or(rest.len(), |at| operator + at);
        all.push(Comparator::parse(&rest[..end])?);
        rest = rest[end..].trim_start();
        if rest.is_empty() {
            let has_operators = all.iter().all(|comparator| !comparator.operator.is_empty());
            return (all.len() == 1 || has_operators).then_some(all);
        }
    }
}

const OPERATORS: [char; 5] = ['<', '>', '=', '~', '^'];

/// A comparison in the syntax of the semver crate: no `v`, no leading zeros, pre-releases in one form.
struct Comparator<'a> {
    operator: &'a str,
    version: String,
    suffix: Option<String>,
}

impl<'a> Comparator<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end = text.find(|c: char| !OPERATORS.contains(&c))?;
        let (operator, version) = (&text[..end], text[end..].trim_start());
        let plain = |version: String| Some(Self { operator, version, suffix: None });
        if matches!(version, "*" | "x" | "X") {
            return if operator.is_empty() { plain("*".to_owned()) } else { None };
        }
        let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
        if let Some((stem, "*" | "x" | "X")) = version.rsplit_once('.') {
            return plain(format!("{}.*", without_zeros(stem)?));
        }
        let (numbers, rest) = dotted(version)?;
        let (pre, suffix) = split_suffix(rest)?;
        if numbers.len() > 3 {
            return None;
        }
        let mut parts: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let pre = match (pre, suffix.as_str(), operator) {
            (None, "", _) => return plain(parts.join(".")),
            (Some(pre), "", _) => pre.semver().to_string(),
            (None, "0", _) if operator != "=" => "0".to_owned(),
            (pre, _, "=") => {
                parts.resize(3, "0".to_owned());
                let pre = pre.map(|pre| format!("-{}", pre.semver())).unwrap_or_default();
                let version = parts.join(".") + &pre;
                return Some(Self { operator, version, suffix: Some(suffix.clone()) });
            }
            _ => return None,
        };
        parts.resize(3, "0".to_owned());
        plain(format!("{}-{pre}", parts.join(".")))
    }
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
            (">=1.2.0-0", &["1.2.0-alpha", "1.2.0-rc.1", "1.2.0", "2.0"], &["1.3.0-rc.1", "1.1"]),
            (">=1.2-0, <2", &["1.2.0-beta1", "1.9"], &["2.0", "2.0.0-rc.1"]),
            (">=1.0.0 <2.0.0", &["1.0", "1.9.9"], &["2.0", "0.9"]),
            (">= 1.0.0   < 2.0.0", &["1.0", "1.9.9"], &["2.0", "0.9"]),
            ("1.1.0 - 1.3.0", &["1.1", "1.3.0"], &["1.0.9", "1.3.1"]),
            ("1.1 - 1.3", &["1.1", "1.3.9"], &["1.0.9", "1.4"]),
            ("^1 || ^2", &["1.9", "2.1"], &["3.0", "0.9"]),
            ("~1.2||~1.4, >=1.4.2", &["1.2.9", "1.4.2"], &["1.3", "1.4.1"]),
            (">=20240101 || >=3", &["20240102", "3.1"], &["20231231", "2.9"]),
            ("=16.2.5-20210708", &["16.2.5-20210708"], &["16.2.5", "16.2.5-20210709", "16.2.6"]),
            ("=1.27-alpine || =1.26", &["1.27-alpine", "1.26"], &["1.27", "1.27-slim", "1.27.1"]),
        ] {
            let parsed: Range = range.parse().unwrap();
            for (tags, expected) in [(inside, true), (outside, false)] {
                for tag in tags {
                    let version = Version::parse(tag).unwrap();
                    assert_eq!(parsed.matches(&version, Named::Nowhere), expected, "{range} {tag}");
                }
            }
        }
        for wrong in [
            "",
            "latest",
            ">=",
            "1.2.3.4",
            "1.2 1.3",
            "1.2 ||",
            "|| 1",
            "1 | 2",
            ">=1.2,",
            "1.2-alpine",
            ">=1.2-alpine",
            ">=1 - 2",
            "1.2 -",
            "1-2",
            "1 - 2 - 3",
            ">1 2",
            "*-alpine",
        ] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_range_makes_the_parser_panic(text in "[-A-Za-z0-9_.<>=~^,| ]{1,40}|.*") {
            let _ = text.parse::<Range>();
        }
    }
}
