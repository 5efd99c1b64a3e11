//! Tests of selections on real tag lists, the table `selections.txt`.

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

/// The selected tags and the reasons of the skipped ones, or the error message.
fn select(
    selection: &Selection,
    tags: &[Listed],
) -> Result<(Vec<String>, Vec<SkippedTag>), String> {
    let mut selector = Selector::new(selection, time("2024-12-10"));
    let skipped = tags.iter().filter_map(|tag| selector.consider(tag)).collect();
    let result = selector.finish().map_err(|error| error.to_string())?;
    Ok((result.tags.iter().map(|listed| listed.tag.to_string()).collect(), skipped))
}

#[test]
fn selections_of_real_tag_lists_give_the_expected_tags() {
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
                    let chosen = select(&selection(keys), &tags);
                    let chosen = chosen.map_or_else(
                        |e| format!("! {}", e.lines().next().unwrap()),
                        |(selected, _)| format!("= {}", selected.join(" ")),
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
fn the_order_of_the_list_does_not_change_the_result() {
    let selection = selection("newest = 3, glob = [\"*\"]");
    let mut tags: Vec<Listed> =
        ["1.0", "v1.0", "1", "1.0-a", "1.0-b", "1.0.0"].map(|name| listed(name, "-")).into();
    let expected = select(&selection, &tags).unwrap().0;
    assert_eq!(expected, ["1.0.0", "1.0-a", "1.0-b"]);
    for _ in 0..tags.len() {
        tags.rotate_left(1);
        assert_eq!(select(&selection, &tags).unwrap().0, expected);
    }
}

#[test]
fn a_shorter_version_that_is_another_release_counts_for_newest() {
    // a digest by its letter; `-` for none
    for (keys, tags, expected) in [
        ("newest = 3", "16- 16.4- 16.3- 16.2-", "16.4 16.3 16.2"),
        ("newest = 3", "7- 7.4- 7.2- 7.4.1- 7.4.0- 7.2.6-", "7.4.1 7.4.0 7.2.6"),
        ("newest = 4", "2.441- 2.440.1- 2.440- 2.439-", "2.441 2.440.1 2.440 2.439"),
        // the versions outside of the range show it as well
        ("newest = 3, semver = \"~2.440\"", "2.441- 2.440.1- 2.440- 2.439-", "2.440.1 2.440"),
        ("newest = 3, semver = \"~7.4\"", "7- 7.4- 7.4.1- 7.2- 7.2.6-", "7.4.1"),
        // a longer one outside of the range does not count in its place
        ("newest = 3, exclude = [\"*.1\"]", "7.4- 7.4.1- 7.2- 7.2.6-", "7.4 7.2.6"),
        ("newest = 4", "20240101- 20240101.1- 20240102- 2.0-", "2.0 20240102 20240101.1 20240101"),
        ("newest = 5", "7a 7.4a 7.2b 7.4.1a 7.4.0c 7.2.6b", "7.4.1 7.4.0 7.2.6"),
        ("newest = 3", "2.440a 2.440.1b 2.441c", "2.441 2.440.1 2.440"),
        // the tag moved while it was listed, or another release has its name
        ("newest = 3", "7.4d 7.4.1a 7.4.0c", "7.4.1 7.4.0 7.4"),
        ("newest = 2", "16a 16.4-", "16.4"),
    ] {
        let tags = tags.split(' ').map(|tag| {
            let (name, digest) = tag.split_at(tag.len() - 1);
            let digest = (digest != "-").then(|| Digest::of(digest.as_bytes()));
            Listed { digest, ..listed(name, "-") }
        });
        let selected = select(&selection(keys), &tags.collect::<Vec<_>>()).unwrap().0;
        assert_eq!(selected.join(" "), expected, "{keys}");
    }
}

#[test]
fn a_tag_that_a_listing_has_twice_is_selected_once() {
    // a push between two pages moves a tag to the next page
    let selection = selection("newest = 2, at_least = 2");
    let digest = |text: &str| Some(Digest::of(text.as_bytes()));
    let mut tags = ["1.2", "1.1", "1.1", "1.0"].map(|name| listed(name, "-"));
    (tags[1].digest, tags[2].digest) = (digest("before"), digest("after"));
    assert_eq!(select(&selection, &tags).unwrap().0, ["1.2", "1.1"]);

    let mut selector = Selector::new(&selection, time("2024-12-10"));
    assert!(tags.iter().all(|tag| selector.consider(tag).is_none()));
    // the listing does not tell which digest is the tag's
    assert_eq!(selector.finish().unwrap().tags[1].digest, None);
    let twice = [listed("1.0", "-"), listed("1.0", "-")];
    let error = select(&selection, &twice).unwrap_err();
    assert_eq!(error, "`select` matches 1 of 1 tags, `at_least` is 2");
}

#[test]
fn an_empty_selection_has_a_line_for_each_reason() {
    let selection = selection("max_age = \"30d\", exclude = [\"*-rc*\"]");
    let mut tags: Vec<Listed> =
        (0..17).map(|number| listed(&format!("1.{number}"), "2024-01-01")).collect();
    tags.push(listed("1.17-alpine", "2024-12-09"));
    tags.push(listed("2.0-rc.1", "2024-12-09"));
    tags.push(listed("latest", "2024-12-09"));
    let mut selector = Selector::new(&selection, time("2024-12-10"));
    assert!(tags.iter().all(|tag| selector.consider(tag).is_some()));
    let error = selector.finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`select` matches 0 of 20 tags, `at_least` is 1\n\
         \x20 17 tags: pushed before `max_age`\n\
         \x20 1 tag: `*-rc*` of `exclude` matches\n\
         \x20 1 tag: a variant, which only a `glob` or `regex` selects\n\
         \x20 1 tag: not a version"
    );
    let hint = "raise `max_age`; run `ecr-mirror plan -v` to see why each tag is skipped";
    assert_eq!(error.remedy(), Some(hint));
}

proptest::proptest! {
    #[test]
    fn the_newest_tags_do_not_depend_on_the_order_of_the_list(
        names in proptest::collection::vec(
            "(v|bookworm-)?[01](\\.[01]){0,2}(-rc\\.?[12])?(-(r|alpine|build\\.)?(0?[1-3]){0,2}){0,2}", 1..12),
        by in 0..12_usize, newest in 1..4_usize,
    ) {
        let selection = selection(&format!("glob = [\"*\", \"*-rc*\"], newest = {newest}, at_least = 0"));
        let parsed = names.iter().filter(|name| name.parse::<crate::model::Tag>().is_ok());
        let mut tags: Vec<Listed> = parsed.map(|name| listed(name, "-")).collect();
        let expected = select(&selection, &tags).unwrap().0;
        let middle = by % tags.len().max(1);
        tags.rotate_left(middle);
        proptest::prop_assert_eq!(&select(&selection, &tags).unwrap().0, &expected);
        tags.reverse();
        proptest::prop_assert_eq!(&select(&selection, &tags).unwrap().0, &expected);
    }
}

#[test]
fn every_skipped_tag_has_a_reason() {
    for (keys, tag, day, expected) in [
        ("glob = [\"2*\"]", "1.0", "-", "no `glob` matches"),
        ("regex = [\"^2\"]", "1.0", "-", "no `regex` matches"),
        ("newest = 1, exclude = [\"1.*\"]", "1.0", "-", "`1.*` of `exclude` matches"),
        (
            "newest = 1, exclude_regex = [\"1\\\\.\\\\d\"]",
            "1.0",
            "-",
            "`1\\.\\d` of `exclude_regex` matches",
        ),
        ("newest = 1", "latest", "-", "not a version"),
        ("newest = 1", "1.0-slim", "-", "a variant, which only a `glob` or `regex` selects"),
        (
            "newest = 1",
            "1.0-rc.1",
            "-",
            "a pre-release, and neither a pattern nor the range names `rc.1`",
        ),
        ("semver = \">=2, <3\"", "1.0", "-", "not in the range `>=2, <3`"),
        ("max_age = \"1d\"", "1.0", "-", "the registry does not report its push time"),
        ("min_age = \"3d\"", "1.0", "2024-12-09", "pushed 2024-12-09T12:00:00Z, within `min_age`"),
        ("max_age = \"3d\"", "1.0", "2024-12-01", "pushed 2024-12-01T12:00:00Z, before `max_age`"),
    ] {
        let selection = selection(&format!("{keys}, at_least = 0"));
        let (selected, skipped) = select(&selection, &[listed(tag, day)]).unwrap();
        assert_eq!((selected.len(), skipped[0].to_string().as_str()), (0, expected), "{keys}");
    }
}

#[test]
fn every_selected_tag_has_a_reason() {
    for (keys, expected) in [
        ("at_least = 1", "a version"),
        ("glob = [\"2*\", \"1*\"], regex = [\".*0\"]", "`1*` matches, `.*0` matches"),
        ("semver = \"1\", newest = 2", "in the range `1`, among the 2 newest by version"),
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
fn push_times_are_queried_only_if_needed() {
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
fn equal_selections_have_one_form() {
    let written = "newest=3, exclude=['*-rc*'], semver='>=2.50, <4', min_age='3days', at_least=0";
    assert_eq!(
        selection(written).to_string(),
        "{ semver = \">=2.50, <4\", exclude = [\"*-rc*\"], newest = 3, min_age = \"259200s\" }"
    );
}
