//! Tables of files and the images that they use, one for each format.
//!
//! A case begins with `=== TITLE`. Lines with `$` have its options. `---` separates the text from
//! the uses: the line, the image, and how it was found. `?NAME` is a variable without a value, `!` a
//! problem. `<CR>` and `<BOM>` are those characters, `{host}` is this host's platform.

use std::path::Path;

use super::*;

/// Runs every case of a table, which must have this many.
fn check(table: &str, at_least: usize) {
    let cases: Vec<&str> = table.split("=== ").skip(1).collect();
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in cases {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("\n---\n").unwrap_or_else(|| panic!("{title}"));
        let (mut options, mut name) = (DiscoverOptions::default(), "stdin".to_owned());
        let mut text = format!("{text}\n");
        while let Some(line) = text.strip_prefix("$ ") {
            let (line, rest) = line.split_once('\n').unwrap();
            for option in line.split(' ') {
                let (key, value) = option.split_once('=').unwrap();
                match key {
                    "target" => options.target = Some(value.to_owned()),
                    "platform" => options.platforms.push(value.parse().unwrap()),
                    "file" => name = value.to_owned(),
                    "context" => drop(options.contexts.insert(value.to_owned())),
                    name => drop(options.build_args.insert(name.to_owned(), value.to_owned())),
                }
            }
            text = rest.to_owned();
        }
        let text = text.replace("<CR>", "\r").replace("<BOM>", "\u{feff}");
        let found = read(Path::new(&name), &text, &options);
        let actual = found.map_or_else(|| "unknown\n".to_owned(), |found| shown(&text, &found));
        let expected = expected.trim().replace("{host}", &build_platform().architecture);
        if actual.trim() != expected {
            failures.push(format!("{title}\nexpected\n{expected}\nfound\n{actual}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn shown(text: &str, found: &FoundUses) -> String {
    let mut lines = String::new();
    for one in &found.uses {
        let image = match &one.image {
            Resolution::Image(reference) => reference.to_string(),
            Resolution::Missing(names) => format!("?{}", names.join(",")),
            Resolution::Invalid(problem) => format!("! {problem}:"),
        };
        lines += &format!("{} {image} {}", one.place.line, one.found);
        if let Some(platform) = &one.platform {
            lines += &format!(" on {platform}");
        }
        lines += if one.is_maybe { " maybe\n" } else { "\n" };
        // the span is the place of the spelling
        let span = one.place.spelling.span.clone();
        let written = one.place.spelling.written();
        if !text[span.clone()].contains(['\\', '`', '\n'])
            && one.place.line == 1 + text[..span.start].matches('\n').count()
        {
            assert!(span.is_empty() || text[span.clone()] == written, "{} {written}", &text[span]);
        }
    }
    for one in &found.unreadable {
        lines += &format!("{} ! {}\n", one.line, one.problem);
    }
    lines
}

#[test]
fn dockerfiles_use_the_images_that_buildkit_pulls() {
    check(include_str!("dockerfiles.txt"), 60);
}

#[test]
fn compose_files_use_the_images_of_their_services() {
    check(include_str!("compose.txt"), 20);
}

#[test]
fn manifests_use_the_images_of_their_containers() {
    check(include_str!("kubernetes.txt"), 20);
}

#[test]
fn kustomize_changes_the_lists_of_containers_of_every_kind_and_nothing_else() {
    let pod = "spec: {containers: [{image: \"a:1\"}], initContainers: [{image: \"b:1\"}], \
               ephemeralContainers: [{image: \"c:1\"}], volumes: [{image: {reference: \"d:1\"}}]}";
    let other =
        "spec: {image: \"a:1\", deep: {containers: [{image: \"b:1\", x: {image: \"c:1\"}}]}}";
    for (head, rest, expected) in [
        ("apiVersion: v1\nkind: Pod\n", pod, "a:1 b:1"),
        ("apiVersion: example.com/v1\nkind: App\n", other, "b:1"),
    ] {
        let found = read(Path::new("a.yaml"), &format!("{head}{rest}"), &Default::default());
        let uses = found.unwrap().uses.into_iter();
        let changed = uses.filter(|one| one.place.kind == UseKind::Kubernetes);
        let changed: Vec<String> = changed.map(|one| one.place.spelling.written()).collect();
        assert_eq!(changed.join(" "), expected, "{head}");
    }
}

#[test]
fn pipelines_use_the_images_of_their_jobs() {
    check(include_str!("pipelines.txt"), 20);
}

#[test]
fn other_files_use_the_images_that_their_programs_pull() {
    check(include_str!("others.txt"), 20);
}
