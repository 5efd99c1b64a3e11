//! Fuzzes tag selections. The result is a subset of the offered tags, does not depend on their
//! order, and has an explanation.

use std::{cmp::Ordering, time::SystemTime};

use ecr_mirror::model::{
    Listed, NameError, Selection,
    select::{Range, Selector, TagGlob, TagRegex, TagSelection, Version},
    text::is_unsafe_for_terminal,
};

use super::engine::Target;

/// Names of the selected tags.
fn selected_names(selection: &Selection, listed: &[Listed]) -> Option<Vec<String>> {
    let mut selector = Selector::new(selection, SystemTime::UNIX_EPOCH);
    for tag in listed {
        if let Some(skipped) = selector.consider(tag) {
            assert!(!skipped.to_string().is_empty());
        }
    }
    let taken = selector.finish().ok()?.tags;
    assert!(taken.len() <= selection.newest.unwrap_or(usize::MAX));
    for tag in &taken {
        assert!(listed.contains(tag) && !TagSelection(selection, tag).to_string().is_empty());
    }
    Some(taken.into_iter().map(|tag| tag.tag.to_string()).collect())
}

/// Tags of every kind.
const TAGS: [&str; 8] =
    ["1.25.0", "v1.26.1", "1.27-alpine", "1.26.0-rc.1", "latest", "20240101", "nightly_2", "2"];

/// A range, followed by tags.
#[test]
fn selections() {
    let target = Target {
        name: "selections",
        seeds: &[
            ">=1.25, <2 1.25.0 1.26.1 v1.27 1.27-alpine 2.0 1.26.0-rc.1 latest",
            "* 1.25-alpine 1.26.1-alpine3.20 1.27 latest",
            "~1.27 1.27.1 1.27.2 1.21 2.1",
            " v1.2 1.3 1.3.4 nightly 20240101",
            ">=20240101 20240101 20231231 2024-02-01 3.14.0rc1 1.2.3.4.5",
            ">=3.14.0rc1,1.2.* 3.14.0rc1 3.14.0-rc.2",
        ],
        tokens: &[
            ">=",
            "<",
            "~",
            "^",
            "||",
            " - ",
            "=",
            "*",
            "x",
            ",",
            "-rc.1",
            "-alpine",
            "v",
            ".0",
            "beta",
            "_",
            "18446744073709551615",
            " ",
            "20240101",
            "-",
            "00",
            ".",
        ],
    };
    let pattern = |text: &str| text.parse::<TagRegex>().unwrap();
    let some = [vec![], vec![pattern(".*alpine.*")], vec![pattern(".*rc.*"), pattern("v?[0-9].*")]];
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let (range, tags) = text.split_once(' ').unwrap_or_default();
        let semver = range.parse::<Range>();
        let names = tags.split(' ').filter_map(|name| name.parse().ok());
        let mut listed: Vec<Listed> =
            names.map(|tag| Listed { tag, digest: None, pushed: None }).collect();
        for tag in &listed {
            if let Some(version) = Version::parse(tag.tag.as_str()) {
                assert_eq!(version.by_age(&version), Ordering::Equal, "{tag:?}");
            }
        }
        if let Ok(range) = &semver {
            assert_eq!(range.to_string().parse::<Range>().as_ref(), Ok(range));
        }
        let is_range = semver.is_ok();
        let selection = Selection {
            semver: semver.ok(),
            regex: some[listed.len() % some.len()].clone(),
            newest: Some(3),
            ..Selection::default()
        };
        let taken = selected_names(&selection, &listed);
        listed.reverse();
        assert_eq!(
            selected_names(&selection, &listed),
            taken,
            "the order of the list decides nothing"
        );
        (is_range, taken.map(|taken| taken.len()), listed.len().min(9), tags.len().min(16))
    });
}

/// A glob, or a regular expression after a `/`.
#[test]
fn patterns() {
    let target = Target {
        name: "patterns",
        seeds: &["*-alpine", "1.2[0-4]*", "{1,2}.*", "/^v?[0-9]+$", "/(?i)RC|beta", "/a{2,3}?"],
        tokens: &[
            "*", "?", "{a,b}", "[!a]", "\\", "[", "]", "{", "}", ",", "(?i)", "(?-u)", "\\d", "|",
            "(", ")", "{9}", "{99999}", "^", "$", "rc", "-alpine", "**", "/",
        ],
    };
    target.run(|input| {
        let text: String = String::from_utf8_lossy(input).chars().take(32).collect();
        let mut selection = Selection::default();
        let wrong = match text.strip_prefix('/') {
            Some(regex) => regex.parse().map(|regex: TagRegex| selection.regex.push(regex)).err(),
            None => text.parse().map(|glob: TagGlob| selection.glob.push(glob)).err(),
        };
        if let Some(NameError { problem, .. }) = wrong {
            assert!(
                !problem.is_empty() && !problem.contains(is_unsafe_for_terminal),
                "{problem:?}"
            );
            return Err(problem.chars().take(40).collect::<String>());
        }
        assert!(selection.to_string().len() > text.len());
        let tags = TAGS.map(|tag| tag.parse().unwrap());
        let listed = tags.map(|tag| Listed { tag, digest: None, pushed: None });
        Ok(selected_names(&selection, &listed))
    });
}
