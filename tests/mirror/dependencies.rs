//! Checks the direction of imports between the modules of `src/`. Tests may import more.

use std::collections::BTreeSet;

use super::guarantees::sources;

/// Each module with the modules that it may import. Those are listed before it.
#[rustfmt::skip]
const ALLOWED: [(&str, &str); 17] = [
    ("model", ""), ("discover", "model"), ("config", "model"), ("output", "model"), ("sandbox", "model"),
    ("import", "config model"), ("remote", "model"), ("registry", "remote model"), ("layout", "remote model"),
    ("engine", "remote model"), ("ecr", "registry remote model"),
    ("pull_through", "ecr registry remote model"), ("cli", "discover import output sandbox model"),
    ("iam", "config pull_through model"), ("run", "discover config engine pull_through ecr layout registry remote model sandbox"),
    ("doctor", "run iam config engine pull_through ecr registry remote model"),
    ("commands", "discover doctor cli run iam import config engine pull_through ecr layout registry remote output sandbox model"),
];

/// Module names after `crate::`: a single one, or those of a group.
fn imported(text: &str) -> BTreeSet<&str> {
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    let first = |text| str::trim_start(text).split(is_end).next();
    let (mut depth, mut found) = (0, BTreeSet::from_iter(first(text)));
    for part in text.split_inclusive(['{', '}', ',']).take_while(|_| text.starts_with('{')) {
        found.extend(first(part).filter(|_| depth == 1));
        depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
        if depth == 0 {
            break;
        }
    }
    found
}

#[test]
fn modules_import_only_modules_below_them_and_never_in_a_circle() {
    let mut imports = BTreeSet::new();
    let files = sources("src");
    for (path, text) in files.iter().filter(|(path, _)| !path.contains("tests")) {
        let module = path.split(['/', '.']).next().unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        for other in code.split("crate::").skip(1).flat_map(imported) {
            let is_module =
                files.iter().any(|(path, _)| path.split(['/', '.']).next() == Some(other));
            if is_module && !["lib", "main", other].contains(&module) {
                imports.insert((module.to_owned(), other.to_owned()));
            }
        }
    }
    let allows = |from: &str, to: &str| {
        ALLOWED.iter().any(|(module, below)| *module == from && below.split(' ').any(|it| it == to))
    };
    imports.retain(|(from, to)| !allows(from, to));
    assert_eq!(imports, BTreeSet::new(), "these imports are not allowed");
    for (at, (module, below)) in ALLOWED.iter().enumerate() {
        let is_later = |name: &&str| ALLOWED[at..].iter().any(|(later, _)| later == name);
        assert_eq!(below.split(' ').find(is_later), None, "a circle through {module}");
    }
}
