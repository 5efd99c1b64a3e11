//! Checks the links of the documents, and the tests that `docs/guarantees.md` and `tests/cases.md`
//! name.

use std::{fs, path::Path};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below a folder of the project: relative path and text.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let folder = root().join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![folder.clone()]);
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// The tests among `names` that do not exist. Fails without names.
fn missing_tests<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let sources = [sources("src"), sources("tests")].concat();
    let exists = |name: &str| sources.iter().any(|(_, text)| text.contains(&format!("fn {name}(")));
    let (there, missing): (Vec<_>, Vec<_>) = names.partition(|name| exists(name));
    assert!(!there.is_empty());
    missing
}

#[test]
fn every_test_named_in_the_guarantees_exists() {
    let page = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let named = page.lines().filter_map(|line| line.strip_prefix("- `")?.strip_suffix('`'));
    assert_eq!(missing_tests(named), [""; 0]);
}

#[test]
fn every_case_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("tests/cases.md")).unwrap();
    let is_case = |line: &&str| line.starts_with("| ") && !line.starts_with("| #");
    let tests = page.lines().filter(is_case).map(|line| {
        let tests = line.trim_end_matches(" |").rsplit_once(" | ").expect("a table").1;
        assert!(tests.starts_with('`'), "without a test: {line}");
        tests
    });
    let named = tests.flat_map(|tests| tests.split(", ").map(|test| test.trim_matches('`')));
    assert_eq!(missing_tests(named), [""; 0]);
}

/// The documents of the project: relative path and text.
pub(crate) fn documents() -> Vec<(String, String)> {
    let names = |folder: &'static str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| Path::new(folder).join(name).to_str().unwrap().to_owned())
    };
    let pages = ["", "docs", "tests", "tests/mirror", "deploy/terraform/mirror-image"];
    let pages = pages.into_iter().flat_map(names).filter(|name| name.ends_with(".md"));
    pages
        .map(|name| {
            let text = fs::read_to_string(root().join(&name)).unwrap();
            (name, text)
        })
        .collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = outside_code(text).filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The lines outside of fenced blocks.
fn outside_code(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    })
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for (name, text) in documents() {
        let prose = outside_code(&text).collect::<Vec<_>>().join("\n");
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let page = root().join(&name);
            let target = if file.is_empty() { page } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{name}: {link}");
            if !anchor.is_empty() {
                let found = anchors(&fs::read_to_string(target).unwrap());
                assert!(found.iter().any(|it| it == anchor), "{name}: {link}: {found:?}");
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}
