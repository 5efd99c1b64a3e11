//! Searches text for a secret in every encoding.
//!
//! Each encoding of a value is a separate needle, and the needles are tested, so that the search
//! cannot silently find nothing.

use std::{fs, path::Path};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use regex::Regex;

/// Characters around the letters of a canary. Base64, URLs and JSON each encode them differently.
const SYMBOLS: [&str; 2] = ["+/=%", "&~?#"];

/// A value that must not be shown.
pub(super) struct Canary {
    /// Description of the value.
    pub(super) name: &'static str,
    /// The complete value.
    pub(super) value: String,
    /// Every encoding of the value.
    needles: Regex,
}

impl Canary {
    /// A canary with special characters around these letters and digits, which every text encoding
    /// leaves unchanged.
    pub(super) fn with_symbols(name: &'static str, letters: &str) -> Self {
        let [before, after] = SYMBOLS;
        Self { value: format!("{before}{letters}{after}"), ..Self::part(name, letters) }
    }

    /// A canary that is recognized by this part.
    pub(super) fn part(name: &'static str, part: &str) -> Self {
        assert!(part.len() > 10, "{name}: too short to be told from chance");
        // one search for all of them: an unoptimized search for each one takes seconds
        let needles: Vec<String> = needles(part).iter().map(|it| regex::escape(it)).collect();
        let needles = Regex::new(&needles.join("|")).expect("escaped texts are a valid pattern");
        Self { name, value: part.to_owned(), needles }
    }

    /// The first encoding that the text contains.
    pub(super) fn find_in<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.needles.find(text).map(|found| found.as_str())
    }
}

/// Asserts that the text contains no canary.
#[track_caller]
pub(super) fn assert_no_canary(canaries: &[Canary], place: &str, text: &str) {
    for canary in canaries {
        if let Some(needle) = canary.find_in(text) {
            let line = text.lines().find(|line| line.contains(needle)).unwrap_or_default();
            panic!("{} is in {place} as {needle}:\n{line}", canary.name);
        }
    }
}

/// Asserts that no file name or content below the directory contains a canary, except files that
/// `may_hold` accepts. Returns the number of searched files.
#[track_caller]
pub(super) fn assert_no_canary_below(
    canaries: &[Canary],
    directory: &Path,
    may_hold: &dyn Fn(&Path) -> bool,
) -> usize {
    let mut searched = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if may_hold(&path) {
            continue;
        }
        assert_no_canary(canaries, "the name of a file", &path.to_string_lossy());
        if path.is_dir() {
            searched += assert_no_canary_below(canaries, &path, may_hold);
        } else {
            let content = fs::read(&path).unwrap();
            let content = String::from_utf8_lossy(&content);
            assert_no_canary(canaries, &path.display().to_string(), &content);
            searched += 1;
        }
    }
    searched
}

/// The value in plain text, in hexadecimal, percent-encoded, in base64, and in base64 of base64,
/// which Kubernetes uses for Docker's logins.
fn needles(value: &str) -> Vec<String> {
    let bytes = || value.bytes();
    let once = in_base64(value);
    let twice = once.iter().flat_map(|inner| in_base64(inner));
    let mut all = vec![
        value.to_owned(),
        bytes().map(|b| format!("{b:02x}")).collect(),
        bytes().map(|b| format!("{b:02X}")).collect(),
        bytes().map(|b| format!("%{b:02x}")).collect(),
        bytes().map(|b| format!("%{b:02X}")).collect(),
        // a list of bytes, as `Debug` writes them
        bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(", "),
    ];
    all.extend(twice);
    all.extend(once);
    // both alphabets encode most values equally
    all.sort();
    all.dedup();
    all
}

/// The characters of base64, in both alphabets, that depend only on the value, after none, one or
/// two other bytes.
fn in_base64(value: &str) -> Vec<String> {
    let at = |before: usize| {
        let bytes = [&b"???"[..before], value.as_bytes()].concat();
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]
            .map(|text| text[from..to].to_owned())
    };
    (0..3).flat_map(at).collect()
}

#[test]
fn a_canary_is_found_in_every_encoding() {
    let canary = Canary::with_symbols("it", "Zq4mirrorCanary7");
    let value = canary.value.as_str();
    let url = url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>();
    let json = serde_json::to_string(value).unwrap();
    for (text, count) in [(value, 3), (url.as_str(), 1), (json.as_str(), 1)] {
        for user in ["", "u:", "us:", "user:"].iter().take(1 + count) {
            let text = format!("{user}{text}");
            assert!(canary.find_in(&text).is_some(), "{text}");
        }
    }
    for user in ["", "u:", "us:", "someone:"] {
        let pair = format!("{user}{value}:more");
        let once = STANDARD_NO_PAD.encode(&pair);
        let twice = STANDARD_NO_PAD.encode(format!("{{\"auth\":\"{once}\"}}"));
        for text in [once, twice, URL_SAFE_NO_PAD.encode(&pair), const_hex::encode(&pair)] {
            assert!(canary.find_in(&text).is_some(), "{text}");
        }
        assert!(canary.find_in(&format!("{:?}", pair.as_bytes())).is_some());
    }
    assert_eq!(canary.find_in("Zq4mirrorCanary8 and Zq4mirror"), None);
}
