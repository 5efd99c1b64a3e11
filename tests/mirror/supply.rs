//! What the program is made of: dependencies of known licences from one place, each once but for
//! those that `deny.toml` names, no code of ours that runs at build time, and none that is unsafe.
//!
//! `cargo deny` reads the same file and looks deeper; this holds where it is not installed.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    process::Command,
};

use serde_json::Value;
use toml::Table;

fn read(name: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// What cargo knows of every package that is built for this machine.
fn packages() -> Vec<Value> {
    let run = |command: &mut Command| {
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let cargo = || Command::new(env!("CARGO"));
    let version = run(cargo().arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let arguments =
        ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let mut metadata: Value = serde_json::from_str(&run(cargo().args(arguments))).unwrap();
    // metadata also lists what no feature asks for
    let arguments = ["tree", "--offline", "--locked", "--edges", "all", "--prefix", "none"];
    let tree = run(cargo().args(arguments));
    let built: HashSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(" v")?;
            Some((name, rest.split(' ').next()?))
        })
        .collect();
    let Value::Array(mut packages) = metadata["packages"].take() else { panic!("no packages") };
    packages.retain(|package| built.contains(&(text(package, "name"), text(package, "version"))));
    assert!(packages.len() > 100, "{}", packages.len());
    packages
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

fn strings<'a>(table: &'a Table, section: &str, key: &str) -> Vec<&'a str> {
    table[section][key].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect()
}

/// Whether a licence expression can be satisfied with these licences: `OR` of `AND` of terms,
/// where a parenthesis is a term.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    any(&mut words.as_slice(), allowed)
}

fn any(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut is_any = all(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        is_any |= all(words, allowed);
    }
    is_any
}

fn all(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut is_all = term(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        is_all &= term(words, allowed);
    }
    is_all
}

fn term(words: &mut &[&str], allowed: &[&str]) -> bool {
    let (is_allowed, rest) = match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let inner = any(words, allowed);
            let [")", rest @ ..] = *words else { return false };
            (inner, rest)
        }
        [name, "WITH", exception, rest @ ..] => {
            (allowed.contains(&format!("{name} WITH {exception}").as_str()), rest)
        }
        [name, rest @ ..] => (allowed.contains(name), rest),
        [] => return false,
    };
    *words = rest;
    is_allowed
}

#[test]
fn every_dependency_is_of_a_licence_that_is_allowed_and_of_one_registry() {
    let deny = read("deny.toml");
    let allowed = strings(&deny, "licenses", "allow");
    let packages = packages();
    let ours = packages.iter().filter(|package| package["source"].is_null());
    assert_eq!(ours.map(|package| text(package, "name")).collect::<Vec<_>>(), ["ecr-mirror"]);
    let theirs = packages.iter().filter(|package| !package["source"].is_null());
    let (mut wrong, mut sources) = (Vec::new(), Vec::new());
    for package in theirs {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !is_allowed(licence, &allowed) {
            wrong.push(format!("{name}: `{licence}`"));
        }
        sources.push(text(package, "source"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    sources.sort_unstable();
    sources.dedup();
    assert!(matches!(sources[..], [one] if one.starts_with("registry+")), "{sources:?}");
}

#[test]
fn no_dependency_is_there_twice_but_those_that_are_named() {
    let deny = read("deny.toml");
    let named = deny["bans"]["skip"].as_array().unwrap().iter();
    let named: Vec<&str> = named.map(|skip| skip["crate"].as_str().unwrap()).collect();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages() {
        let (name, version) = (text(&package, "name"), text(&package, "version"));
        versions.entry(name.to_owned()).or_default().push(version.to_owned());
    }
    let is_named = |name: &str, version: &str| {
        let of = named.iter().filter_map(|named| named.strip_prefix(name)?.strip_prefix('@'));
        of.into_iter().any(|part| version == part || version.starts_with(&format!("{part}.")))
    };
    for (name, mut versions) in versions {
        versions.retain(|version| !is_named(&name, version));
        assert!(versions.len() <= 1, "{name} is there as {versions:?}");
    }
}

#[test]
fn nothing_of_ours_runs_at_build_time_or_is_unsafe() {
    let packages = packages();
    let own = packages.iter().find(|package| package["source"].is_null()).unwrap();
    let targets = own["targets"].as_array().unwrap();
    assert!(targets.len() > 3, "{targets:?}");
    let of_kind = |target: &&Value, kind: &str| {
        target["kind"].as_array().unwrap().iter().any(|own| own == kind)
    };
    for kind in ["custom-build", "proc-macro"] {
        assert!(!targets.iter().any(|target| of_kind(&target, kind)), "{kind}");
    }
    assert_eq!(read("Cargo.toml")["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("GPL-3.0 OR MIT AND GPL-2.0", false),
        ("ISC AND (GPL-3.0 OR GPL-2.0)", false),
        ("MIT WITH exception", false),
        ("MIT AND", false),
        ("(MIT", false),
    ] {
        assert_eq!(is_allowed(expression, &["MIT", "ISC"]), expected, "{expression}");
    }
}
