//! Tests of the rows that `images` prints.

use std::path::Path;

use super::*;
use crate::config::CacheTarget;

fn listed(config: &Config, entries: &[&Entry]) -> (Vec<ImageRow>, Vec<Error>) {
    let items = select_offline(config, entries).unwrap();
    let rows = rows(config, items, async |item| Ok(item.entry.pin().cloned()));
    rows.now_or_never().expect("nothing waits")
}

#[test]
fn an_image_has_a_row_for_each_destination() {
    let text = "[[destination]]\nregistry = \"a.example\"\nprefix = \"mirror\"\n\
         [[destination]]\nregistry = \"b.example\"\n\
         [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\nname = \"web\"\n\
         [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\ndestinations = [\"b.example\"]\n";
    let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
    let entries: Vec<&Entry> = config.entries.iter().collect();
    let (rows, failures) = listed(&config, &entries);
    assert!(failures.is_empty());
    assert_eq!(rows, crate::output::images::tests::rows());
}

#[test]
fn a_cached_image_is_pulled_by_tag_or_by_its_pinned_digest() {
    let pin = format!("sha256:{}", "0".repeat(64));
    let text = format!(
        "[[destination]]\nregistry = \"a.example\"\n[[destination]]\nregistry = \"b.example\"\n\
         [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\", \"2\"]\nretag = \"v{{tag}}\"\n\
         [[image]]\nsource = \"quay.io/c@{pin}\"\ntag = \"x\"\n"
    );
    let mut config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
    for (entry, mirrored) in config.entries.iter_mut().zip([1, 0]) {
        let cached = entry.mirrored.split_off(mirrored).into_iter().map(|target| CacheTarget {
            destination: target.destination,
            cache: 0,
            repository: format!("quay/{}", entry.repository).parse().unwrap(),
        });
        entry.cached = cached.collect();
    }
    let entries: Vec<&Entry> = config.entries.iter().collect();
    let (rows, failures) = listed(&config, &entries);
    assert!(failures.is_empty());
    let lines = rows.iter().map(|row| format!("{} {} {}", row.source, row.destination, row.via));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "quay.io/a/b:1 a.example/a/b:v1 mirrored".to_owned(),
            "quay.io/a/b:1 b.example/quay/a/b:1 pull-through".to_owned(),
            "quay.io/a/b:2 a.example/a/b:v2 mirrored".to_owned(),
            "quay.io/a/b:2 b.example/quay/a/b:2 pull-through".to_owned(),
            format!("quay.io/c@{pin} a.example/quay/c@{pin} pull-through"),
            format!("quay.io/c@{pin} b.example/quay/c@{pin} pull-through"),
        ]
    );
}
