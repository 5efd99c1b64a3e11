//! Selects among 10,000 tags.

use std::{hint::black_box, time::SystemTime};

use criterion::Criterion;
use ecr_mirror::model::{
    Listed, Selection,
    select::{SelectedTags, Selector},
};

/// The versions of a busy repository: plain, variants, pre-releases, nightlies.
fn tags() -> Vec<Listed> {
    let name = |number: usize| {
        let version = format!("{}.{}.{}", number / 1_000, number / 25 % 40, number / 5 % 5);
        match number % 5 {
            0 => version,
            1 => format!("v{version}-alpine3.20"),
            2 => format!("{version}-rc.{}", number % 3),
            3 => format!("nightly-{number}"),
            _ => format!("{version}-{number:08x}"),
        }
    };
    let listed = |number| {
        let tag = name(number).parse().expect("it is a tag");
        Listed { tag, digest: None, pushed: None }
    };
    (0..10_000).map(listed).collect()
}

fn chosen(selection: &Selection, tags: &[Listed]) -> SelectedTags {
    let mut selector = Selector::new(selection, SystemTime::UNIX_EPOCH);
    for tag in tags {
        selector.consider(tag);
    }
    selector.finish().expect("some are wanted")
}

pub(crate) fn select(criterion: &mut Criterion) {
    let tags = tags();
    let range = || Some(">=2.5, <7".parse().expect("a range"));
    let some = Selection::default;
    let glob = || vec!["*-alpine*".parse().expect("a glob")];
    let regex = || vec!["^v?[0-9]+\\.[0-9]+\\.[0-9]+$".parse().expect("a regular expression")];
    for (name, selection) in [
        ("by range", Selection { semver: range(), ..some() }),
        ("by glob", Selection { glob: glob(), ..some() }),
        ("by regular expression", Selection { regex: regex(), ..some() }),
        ("the newest 3", Selection { newest: Some(3), ..some() }),
    ] {
        let taken = chosen(&selection, &tags).tags.len();
        assert!((3..3_000).contains(&taken), "{name}: {taken}");
        criterion.bench_function(&format!("select of 10,000 tags {name}"), |bencher| {
            bencher.iter(|| chosen(black_box(&selection), black_box(&tags)));
        });
    }
}
