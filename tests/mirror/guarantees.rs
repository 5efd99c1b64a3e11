//! Checks the links of the documents, and the tests that `docs/guarantees.md` and `tests/cases.md`
//! name.

use std::{fs, path::Path};

fn root() -> &'static Path {
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

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let is_page = |path: &Path| path.extension().is_some_and(|it| it == "md") && path.is_file();
    for page in top.into_iter().chain(docs).filter(|path| is_page(path)) {
        let text = fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            let is_there = page.parent().unwrap().join(link).exists();
            assert!(is_there, "{}: {link}", page.display());
        }
    }
}
