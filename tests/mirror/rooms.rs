//! The house keeps its shape: which room may use which is a table, and the sources are held to it.
//!
//! Tests inside the rooms may use the sandbox besides: it is the double of them all.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A room, and the rooms it may use besides itself. Below `engine` nothing knows any registry.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("registry", &["model"]),
    ("ecr", &["model", "registry"]),
    ("layout", &["model", "registry"]),
    ("pull_through", &["ecr", "model", "registry"]),
    ("engine", &["model", "registry"]),
    ("output", &["model"]),
    ("sandbox", &["model"]),
    // the entry: it names what is parsed, and what is wired
    ("cli", &["model", "output", "sandbox"]),
    (
        "commands",
        &[
            "cli",
            "config",
            "ecr",
            "engine",
            "layout",
            "model",
            "output",
            "pull_through",
            "registry",
            "sandbox",
        ],
    ),
];

/// What the engine may not name of the registry room: its traits and bodies are no registry.
const NO_REGISTRY: [&str; 5] =
    ["registry::client", "registry::Registry", "registry::hub", "registry::quay", "registry::auth"];

/// The Rust sources below a folder of the project.
pub(crate) fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    found
}

/// The room a file belongs to: its folder in `src`, or its own name there.
fn room(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = file.strip_prefix(root).unwrap().components().next().unwrap();
    let name = first.as_os_str().to_str().unwrap();
    name.strip_suffix(".rs").unwrap_or(name).to_owned()
}

/// The file without its tests; nothing where it is all tests.
fn production(file: &Path) -> String {
    let names = file.iter().filter_map(|part| part.to_str());
    let is_test = |name: &str| name == "tests" || name.ends_with("tests.rs");
    if names.skip_while(|name| *name != "src").any(is_test) {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let end = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_owned()
}

/// The first words after every `crate::`, those in braces included.
fn used(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(firsts(group)),
            None => rooms.extend([word(rest)]),
        }
    }
    rooms.remove("");
    rooms
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The first word of each item of a group of imports, up to the brace that closes it.
fn firsts(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    items.push(item);
    items.iter().map(|item| word(item.trim_start())).collect()
}

#[test]
fn no_room_uses_what_is_above_it() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let room = room(&file);
        if room == "lib" || room == "main" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            panic!("{room} is a new room: say here what it may use");
        };
        let text = production(&file);
        let is_room = |name: &&String| ROOMS.iter().any(|(room, _)| room == name);
        for name in used(&text).iter().filter(is_room) {
            if *name != room && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} uses {name}", file.display()));
            }
        }
        if room == "engine" {
            let names = NO_REGISTRY.iter().filter(|name| text.contains(*name));
            wrong.extend(names.map(|name| format!("{} names {name}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_has_the_rooms_there_are_and_no_others() {
    let there: BTreeSet<String> = sources("src")
        .iter()
        .map(|file| room(file))
        .filter(|room| room != "lib" && room != "main")
        .collect();
    let listed: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(listed, there);
}

#[test]
fn imports_are_read_in_all_their_forms() {
    let text = "use crate::model::{Digest, Tag};\nuse crate::{\n    registry::{body, Source},\n    \
                ecr,\n};\nlet x = crate::sandbox::Store::open();";
    let expected = ["ecr", "model", "registry", "sandbox"].map(str::to_owned);
    assert_eq!(used(text), BTreeSet::from(expected));
}
