//! Platforms, and the platforms of a filter.
//!
//! Matching and spelling follow containerd. An image without a variant has the default variant of
//! its architecture (`arm64` is `arm64/v8`, `arm` is `arm/v7`). A filter without a variant matches
//! every variant, a filter without a version of the operating system every version.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Deserializer};

use super::{names::NameError, text::is_unsafe_for_terminal};

/// An operating system and an architecture, like `linux/arm/v7` or `windows(10.0.20348)/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`, `windows`, … (a `GOOS`).
    pub(crate) os: String,
    /// `amd64`, `arm64`, … (a `GOARCH`).
    pub(crate) architecture: String,
    /// `v7`, …; `None` for the default.
    pub variant: Option<String>,
    /// The version of the operating system, like `10.0.20348.2849`.
    pub(crate) os_version: Option<String>,
}

impl Platform {
    /// The variant, or the default of the architecture.
    fn effective_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref().filter(|v| !v.is_empty())) {
            ("arm64", None) => Some("v8"),
            ("arm", None) => Some("v7"),
            ("amd64", Some("v1")) => None,
            (_, variant) => variant,
        }
    }

    /// Returns `true` if an image for `image` satisfies this platform.
    pub fn matches(&self, image: &Platform) -> bool {
        self.os == image.os
            && self.architecture == image.architecture
            && (self.variant.is_none() || self.effective_variant() == image.effective_variant())
            && self.matches_version(image)
    }

    /// Returns `true` if the image's version begins with the parts of this one: revisions of one
    /// Windows build run on each other.
    fn matches_version(&self, image: &Platform) -> bool {
        let Some(version) = self.version() else { return true };
        let rest = image.version().and_then(|image| image.strip_prefix(version));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn version(&self) -> Option<&str> {
        self.os_version.as_deref().filter(|version| !version.is_empty())
    }

    /// Returns `true` for `unknown/unknown`, the platform of BuildKit's attestations.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// Reads the platform in an index entry or a configuration. Returns `None` if the operating system
/// or the architecture is missing or empty: some encoders write neither.
///
/// Source: opencontainers/image-spec#1025.
pub(crate) fn known_platform<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Platform>, D::Error> {
    #[derive(Deserialize)]
    struct PlatformFields {
        os: Option<String>,
        architecture: Option<String>,
        variant: Option<String>,
        #[serde(rename = "os.version")]
        os_version: Option<String>,
    }
    let Some(fields) = Option::<PlatformFields>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let PlatformFields { os, architecture, variant, os_version } = fields;
    let [os, architecture] = [os, architecture].map(|word| word.filter(|word| !word.is_empty()));
    let platform = |(os, architecture)| Platform { os, architecture, variant, os_version };
    Ok(os.zip(architecture).map(platform))
}

impl FromStr for Platform {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || {
            let hint = match text.contains('(') {
                true => "write `os(version)/arch`, like `windows(10.0.20348)/amd64`",
                false => {
                    "write `os/arch` or `os/arch/variant`, like `linux/amd64` or `linux/arm/v7`"
                }
            };
            NameError::new("is not a platform").hint(hint)
        };
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let mut parts: Vec<&str> = text.split('/').collect();
        let mut version = None;
        if let Some((os, rest)) = parts[0].split_once('(') {
            parts[0] = os;
            version = Some(rest.strip_suffix(')').filter(|it| word(it)).ok_or_else(wrong)?);
        }
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| word(part)) {
            return Err(wrong());
        }
        let architecture = match parts[1] {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            os: parts[0].to_owned(),
            architecture: architecture.to_owned(),
            variant: parts.get(2).map(|&variant| variant.to_owned()),
            os_version: version.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        let version = self.version().into_iter().flat_map(|version| ["(", version, ")"]);
        let rest = ["/", &self.architecture].into_iter();
        let rest = rest.chain(variant.into_iter().flat_map(|variant| ["/", variant]));
        for word in [self.os.as_str()].into_iter().chain(version).chain(rest) {
            // an index from outside can contain any text
            word.chars()
                .filter(|c| !is_unsafe_for_terminal(*c))
                .try_for_each(|c| f.write_char(c))?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    #[default]
    All,
    /// Only these: not empty, sorted, no duplicates.
    Only(Vec<Platform>),
}

impl Platforms {
    /// These platforms in canonical order; `None` for an empty list.
    pub fn only(platforms: impl IntoIterator<Item = Platform>) -> Option<Self> {
        let mut platforms: Vec<Platform> = platforms.into_iter().collect();
        platforms.sort();
        platforms.dedup();
        (!platforms.is_empty()).then_some(Self::Only(platforms))
    }

    pub(crate) fn matches(&self, image: &Platform) -> bool {
        match self {
            Self::All => true,
            Self::Only(platforms) => platforms.iter().any(|platform| platform.matches(image)),
        }
    }

    /// The platforms that no image for one of `present` satisfies.
    pub fn missing_from<'a>(&'a self, present: &[Platform]) -> Vec<&'a Platform> {
        match self {
            Self::All => Vec::new(),
            Self::Only(platforms) => {
                let is_missing =
                    |platform: &&Platform| !present.iter().any(|p| platform.matches(p));
                platforms.iter().filter(is_missing).collect()
            }
        }
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(platforms) => {
                let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_platform_matches_the_images_that_containerd_would_run() {
        for (wanted, image, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v1", "linux/amd64", true),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64/v9", "linux/arm64", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/aarch64", "linux/arm64", true),
            ("windows/amd64", "linux/amd64", false),
            ("windows/amd64", "windows(10.0.20348.2849)/amd64", true),
            ("windows(10.0.20348)/amd64", "windows(10.0.20348.2849)/amd64", true),
            ("windows(10.0.20348)/amd64", "windows(10.0.20348)/amd64", true),
            ("windows(10.0.20348)/amd64", "windows(10.0.203480)/amd64", false),
            ("windows(10.0.20348)/amd64", "windows(10.0.26100.1)/amd64", false),
            ("windows(10.0.20348)/amd64", "windows/amd64", false),
            ("windows(10.0.20348.2849)/amd64", "windows(10.0.20348.1)/amd64", false),
        ] {
            assert_eq!(platform(wanted).matches(&platform(image)), expected, "{wanted} {image}");
        }
    }

    #[test]
    fn the_kernels_names_of_architectures_are_read_as_those_of_go() {
        for (text, expected) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/x86-64", "linux/amd64"),
            ("linux/aarch64/v8", "linux/arm64/v8"),
        ] {
            assert_eq!(platform(text), platform(expected));
        }
    }

    #[test]
    fn only_a_platform_of_attestations_is_unknown() {
        for (text, expected) in [
            ("unknown/unknown", true),
            ("unknown/amd64", false),
            ("linux/unknown", false),
            ("linux/amd64", false),
        ] {
            assert_eq!(platform(text).is_unknown(), expected, "{text}");
        }
    }

    #[test]
    fn a_platform_with_an_empty_field_is_read_as_one_without_it() {
        for (json, expected) in [
            (r#"{"os":"linux","architecture":"arm64","variant":"","os.version":""}"#, true),
            (r#"{"os":"","architecture":"arm64"}"#, false),
            (r#"{"os":"linux","architecture":""}"#, false),
            (r#"{"os":"linux"}"#, false),
            ("null", false),
        ] {
            let read = known_platform(&mut serde_json::Deserializer::from_str(json)).unwrap();
            let expected = expected.then(|| platform("linux/arm64"));
            assert_eq!(read.is_some(), expected.is_some(), "{json}");
            for (read, expected) in read.iter().zip(&expected) {
                assert!(read.matches(expected) && expected.matches(read), "{json}");
                assert_eq!(read.to_string(), expected.to_string());
            }
        }
    }

    #[test]
    fn a_filter_has_each_platform_once_and_in_order() {
        let of = |texts: &[&str]| Platforms::only(texts.iter().map(|text| platform(text)));
        let platforms = of(&["linux/arm64", "linux/amd64", "linux/arm64"]).unwrap();
        assert_eq!(platforms.to_string(), "linux/amd64,linux/arm64");
        assert_eq!(of(&[]), None);
        assert_eq!(Platforms::All.to_string(), "all");
        let missing = platforms.missing_from(&[platform("linux/arm64/v8")]);
        assert_eq!(missing, [&platform("linux/amd64")]);
        assert!(Platforms::All.missing_from(&[]).is_empty());
    }

    #[test]
    fn an_invalid_platform_is_rejected() {
        for bad in [
            "",
            "linux",
            "arm64",
            "linux/",
            "linux/amd64/v1/x",
            "Linux/amd64",
            "linux amd64",
            "windows(10/amd64",
            "windows()/amd64",
            "(10)/amd64",
            "windows(10)x/amd64",
            "windows/amd64(10)",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_is_printed_as_it_is_written() {
        for text in ["linux/amd64", "linux/arm/v7", "windows(10.0.20348)/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
    }
}
