//! Computation without registries: names, the configuration, the platform filter, tag selection,
//! the plan.
//!
//! ```text
//! cargo bench --bench pure
//! ```
#![allow(missing_docs, reason = "a bench is not an interface")]

mod planning;
mod selecting;

use std::{collections::HashMap, fmt::Write as _, hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use ecr_mirror::{
    config::Config,
    model::{
        Digest, Filter, Manifest, Platforms, RawManifest, Reference,
        filter::{self, Filtered},
    },
};

fn names(criterion: &mut Criterion) {
    for text in ["nginx", "quay.io/prometheus/prometheus:v2.53.0"] {
        let parse = || black_box(text).parse::<Reference>().expect("it is a reference");
        criterion.bench_function(&format!("reference {text}"), |bencher| bencher.iter(parse));
    }
}

fn configuration(criterion: &mut Criterion) {
    let mut text = "[[destination]]\nregistry = \"registry.example\"\n".to_owned();
    for number in 0..1_000 {
        let source = format!("quay.io/team-{}/app-{number}", number % 20);
        let _ = write!(text, "\n[[image]]\nsource = \"{source}\"\ntags = [\"v1\", \"v2\"]\n");
    }
    let parse = || Config::parse("mirror.toml", black_box(&text), Path::new(""), &|_| None);
    assert!(parse().is_ok(), "the configuration is right");
    criterion.bench_function("configuration of 1,000 images", |bencher| bencher.iter(parse));
}

/// An index of ten platforms, each with its attestation.
fn index() -> RawManifest {
    let entry = |number: u32, platform: serde_json::Value, annotations: serde_json::Value| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&number.to_le_bytes()),
            "size": 1_234,
            "platform": platform,
            "annotations": annotations,
        })
    };
    let architectures = ["amd64", "arm64", "386", "ppc64le", "s390x"];
    let images = architectures.iter().flat_map(|arch| ["linux", "windows"].map(|os| (os, arch)));
    let entries: Vec<_> = (0..)
        .zip(images)
        .flat_map(|(number, (os, arch))| {
            let about = serde_json::json!({
                "vnd.docker.reference.digest": Digest::of(&u32::to_le_bytes(number)),
                "vnd.docker.reference.type": "attestation-manifest",
            });
            let platform =
                |os: &str, arch: &str| serde_json::json!({ "os": os, "architecture": arch });
            [
                entry(number, platform(os, arch), serde_json::json!({})),
                entry(1_000 + number, platform("unknown", "unknown"), about),
            ]
        })
        .collect();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    RawManifest::new(index.to_string().into(), None).expect("it is an index")
}

fn filtered(raw: &RawManifest, filter_keys: &Filter) -> Filtered {
    let Ok(Manifest::Index(index)) = raw.read() else { panic!("it is an index") };
    let filtered =
        filter::filter(raw, &index, filter_keys, &HashMap::new()).expect("it can be filtered");
    filter::annotated(filtered, raw.digest(), filter_keys).expect("it can be annotated")
}

fn platforms(criterion: &mut Criterion) {
    let raw = index();
    let two = ["linux/amd64", "linux/arm64"].map(|name| name.parse().expect("a platform"));
    let platforms = Platforms::only(two).expect("two of them");
    let filter_keys = Filter { platforms, ..Filter::default() };
    assert_eq!(
        filtered(&raw, &filter_keys).kept.len(),
        4,
        "two images with their attestations stay"
    );
    criterion.bench_function("filter 2 of 10 platforms", |bencher| {
        bencher.iter(|| filtered(black_box(&raw), &filter_keys));
    });
}

criterion_group!(benches, names, configuration, platforms, selecting::select, planning::plan);
criterion_main!(benches);
