//! What selections choose from tag lists as they really look. The table is `selections.txt`.

use std::time::SystemTime;

use super::*;
use crate::model::select::{Listed, Selection, Selector, SkippedTag, TagQuery, TagSelection};

fn selection(keys: &str) -> Selection {
    let config = with_destination(&format!("[[image]]\nsource = \"x\"\nselect = {{ {keys} }}"));
    match config.entries.into_iter().next().map(|entry| entry.tags) {
        Some(Tags::Selected(selection)) => selection,
        other => panic!("{other:?}"),
    }
}

fn time(day: &str) -> SystemTime {
    humantime::parse_rfc3339(&format!("{day}T12:00:00Z")).unwrap()
}

fn listed(name: &str, day: &str) -> Listed {
    let pushed = (day != "-").then(|| time(day));
    Listed { tag: name.parse().unwrap(), digest: None, pushed }
}

/// What is taken, and why the rest is not; the error's message where it fails.
fn choose(
    selection: &Selection,
    tags: &[Listed],
) -> Result<(Vec<String>, Vec<SkippedTag>), String> {
    let mut selector = Selector::new(selection, time("2024-12-10"));
    let left = tags.iter().filter_map(|tag| selector.consider(tag)).collect();
    let selected = selector.finish().map_err(|error| error.to_string())?;
    Ok((selected.tags.iter().map(|listed| listed.tag.to_string()).collect(), left))
}

#[test]
fn what_is_chosen_of_real_tag_lists() {
    let (mut cases, mut wrong) = (0, String::new());
    for repository in include_str!("selections.txt").split("\n### ").skip(1) {
        let (mut tags, mut asked) = (Vec::new(), None);
        let (name, lines) = repository.split_once('\n').unwrap();
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            match mark {
                ">" => asked = Some(rest),
                "=" | "!" => {
                    let keys = asked.take().unwrap();
                    let chosen = choose(&selection(keys), &tags);
                    let chosen = chosen.map_or_else(
                        |e| format!("! {e}"),
                        |(taken, _)| format!("= {}", taken.join(" ")),
                    );
                    if chosen.trim_end() != line {
                        wrong += &format!("{name}\n> {keys}\n{chosen}\ninstead of\n{line}\n\n");
                    }
                    cases += 1;
                }
                day => tags.extend(rest.split(' ').map(|name| listed(name, day))),
            }
        }
    }
    assert!(cases > 50);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let selection = selection("newest = 3, glob = [\"*\"]");
    let mut tags: Vec<Listed> =
        ["1.0", "v1.0", "1", "1.0-a", "1.0-b", "1.0.0"].map(|name| listed(name, "-")).into();
    let expected = choose(&selection, &tags).unwrap().0;
    assert_eq!(expected, ["1.0.0", "1.0", "1.0-a"]);
    for _ in 0..tags.len() {
        tags.rotate_left(1);
        assert_eq!(choose(&selection, &tags).unwrap().0, expected);
    }
}

#[test]
fn every_tag_that_is_left_has_its_reason() {
    for (keys, tag, day, expected) in [
        ("glob = [\"2*\"]", "1.0", "-", "no `glob` matches"),
        ("regex = [\"^2\"]", "1.0", "-", "no `regex` matches"),
        ("newest = 1, exclude = [\"1.*\"]", "1.0", "-", "`exclude` matches with `1.*`"),
        ("newest = 1", "latest", "-", "it is no version"),
        ("newest = 1", "1.0-slim", "-", "it is a variant, which a `glob` or `regex` has to name"),
        (
            "newest = 1",
            "1.0-rc.1",
            "-",
            "it is a pre-release, and neither a pattern nor the range names `rc.1`",
        ),
        ("semver = \">=2, <3\"", "1.0", "-", "`>=2, <3` does not admit it"),
        ("max_age = \"1d\"", "1.0", "-", "the registry does not tell when it was pushed"),
        ("min_age = \"3d\"", "1.0", "2024-12-09", "pushed 2024-12-09T12:00:00Z, within `min_age`"),
        ("max_age = \"3d\"", "1.0", "2024-12-01", "pushed 2024-12-01T12:00:00Z, before `max_age`"),
    ] {
        let selection = selection(&format!("{keys}, at_least = 0"));
        let (taken, left) = choose(&selection, &[listed(tag, day)]).unwrap();
        assert_eq!((taken.len(), left[0].to_string().as_str()), (0, expected), "{keys}");
    }
}

#[test]
fn every_tag_that_is_taken_has_its_reason() {
    for (keys, expected) in [
        ("at_least = 1", "it is a version"),
        ("glob = [\"2*\", \"1*\"], regex = [\"0$\"]", "`1*` matches, `0$` matches"),
        ("semver = \"1\", newest = 2", "`1` admits it, among the 2 newest by version"),
        (
            "max_age = \"9d\", newest = 1, by = \"pushed\"",
            "pushed 2024-12-09T12:00:00Z, among the 1 newest by push time",
        ),
    ] {
        let (selection, listed) = (selection(keys), listed("1.0", "2024-12-09"));
        assert_eq!(TagSelection(&selection, &listed).to_string(), expected, "{keys}");
    }
}

#[test]
fn push_times_are_asked_for_only_where_they_are_needed() {
    let now = time("2024-12-10");
    for (keys, expected) in [
        ("semver = \"1\", newest = 3", TagQuery::Names),
        ("min_age = \"3d\"", TagQuery::Times { since: None }),
        ("newest = 1, by = \"pushed\"", TagQuery::Times { since: None }),
        ("max_age = \"9d\"", TagQuery::Times { since: Some(time("2024-12-01")) }),
    ] {
        assert_eq!(selection(keys).query(now), expected, "{keys}");
    }
    let since = |day| TagQuery::Times { since: Some(time(day)) };
    assert_eq!(since("2024-12-01").and(since("2024-11-01")), since("2024-11-01"));
    assert_eq!(since("2024-12-01").and(TagQuery::Names), TagQuery::Times { since: None });
}

#[test]
fn a_selection_has_one_form_for_a_lock_to_know_it_by() {
    let written = "newest=3, exclude=['*-rc*'], semver='>=2.50, <4', min_age='3days', at_least=0";
    assert_eq!(
        selection(written).to_string(),
        "{ semver = \">=2.50, <4\", exclude = [\"*-rc*\"], newest = 3, min_age = \"259200s\" }"
    );
}
