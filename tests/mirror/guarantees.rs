//! What is promised is held: every test that the page names is one, and every link leads somewhere.

use std::{collections::BTreeSet, fs, path::Path};

use super::rooms::sources;

const PAGES: [&str; 2] = ["docs/guarantees.md", "SECURITY.md"];

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(home().join(name)).unwrap()
}

/// The tests of a source that run: `#[ignore]`d ones hold nothing.
fn tests(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        match function.and_then(|rest| rest.split_once('(')) {
            Some((name, _)) if std::mem::take(&mut is_test) => found.push(name),
            Some(_) => {}
            None if line == "#[test]" || line.starts_with("#[tokio::test") => is_test = true,
            None if line.starts_with("#[ignore") => is_test = false,
            None => {}
        }
    }
    found
}

/// The tests that a page names: each is an item of a list.
fn named(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("- `")?.strip_suffix('`')).collect()
}

/// The files that a page links to.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

#[test]
fn every_promise_names_tests_and_every_test_that_is_named_is_there() {
    let files = ["src", "tests"].into_iter().flat_map(sources);
    let texts: Vec<String> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let there: BTreeSet<&str> = texts.iter().flat_map(|text| tests(text)).collect();
    let page = page(PAGES[0]);
    let promises: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert!(promises.len() >= 10, "{}", promises.len());
    for promise in promises {
        let named = named(promise);
        assert!(!named.is_empty(), "nothing holds this: {promise}");
        let missing: Vec<_> = named.iter().filter(|name| !there.contains(*name)).collect();
        assert!(missing.is_empty(), "there are no such tests: {missing:?}");
        let apart: BTreeSet<_> = named.iter().collect();
        assert_eq!(apart.len(), named.len(), "one is named twice: {promise}");
    }
}

#[test]
fn every_link_of_the_pages_leads_to_a_file() {
    for name in PAGES {
        let (page, at) = (page(name), home().join(name));
        assert!(links(&page).any(|link| link.ends_with("tests/mirror/faults.md")), "{name}");
        for link in links(&page) {
            assert!(at.parent().unwrap().join(link).is_file(), "{name}: {link}");
        }
    }
}

#[test]
fn tests_are_told_from_other_functions() {
    let source = "#[test]\nfn one() {}\nfn other() {}\n#[tokio::test(flavor = \"x\")]\n\
                  #[cfg(unix)]\nasync fn two() {}\n#[test]\n#[ignore = \"why\"]\nfn three() {}\n";
    assert_eq!(tests(source), ["one", "two"]);
}
