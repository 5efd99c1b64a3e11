//! Tests the platform filter end to end: the content of the destination for every kind of source
//! image.

use ecr_mirror::{
    engine::Mode,
    model::{
        Digest,
        outcome::{Outcome, Reason},
    },
};
use http::Method;
use serde_json::Value;

use super::{
    process::run as run_in,
    world::{ECR, World, entry},
};

const ARM: &str = "platforms = [\"linux/arm64\"]";
const THREE: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// A source image, a filter, and the expected result.
struct Case {
    name: &'static str,
    keys: &'static str,
    /// Content behind the tag.
    expect: Expect,
    /// Manifests that an up-to-date run reads from the source.
    pulls_again: usize,
}

enum Expect {
    /// The manifest of the source.
    Original,
    /// An index with these entries of the source, in order, with or without our annotations.
    Entries(&'static [usize], Annotated),
    /// This entry of the source.
    Entry(usize),
    /// The nested index with only the image of the second platform.
    Nested,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Annotated {
    Yes,
    No,
}

const CASES: &[Case] = &[
    Case {
        name: "index",
        keys: ARM,
        expect: Expect::Entries(&[1], Annotated::Yes),
        pulls_again: 0,
    },
    Case {
        name: "docker-list",
        keys: ARM,
        expect: Expect::Entries(&[1], Annotated::No),
        // a manifest list has no annotations for its source
        pulls_again: 1,
    },
    Case {
        name: "whole",
        keys: "platforms = [\"linux/s390x\", \"linux/amd64\", \"linux/arm64\"]",
        expect: Expect::Original,
        pulls_again: 0,
    },
    Case {
        name: "whole-docker",
        keys: "platforms = [\"linux/amd64\", \"linux/arm64\", \"linux/s390x\"]",
        expect: Expect::Original,
        pulls_again: 0,
    },
    Case {
        name: "single",
        keys: "platforms = [\"linux/amd64\"]",
        expect: Expect::Original,
        pulls_again: 0,
    },
    Case {
        name: "single-docker",
        keys: "platforms = [\"linux/amd64\"]",
        expect: Expect::Original,
        pulls_again: 0,
    },
    Case { name: "nested", keys: ARM, expect: Expect::Nested, pulls_again: 0 },
    Case {
        name: "attested",
        keys: ARM,
        // image, attestation, image, attestation, …
        expect: Expect::Entries(&[2, 3], Annotated::Yes),
        pulls_again: 0,
    },
    Case {
        name: "attested-dropped",
        keys: "attestations = \"drop\"",
        expect: Expect::Entries(&[0, 2, 4], Annotated::Yes),
        pulls_again: 0,
    },
    Case {
        name: "attested-both",
        keys: "attestations = \"drop\"\nplatforms = [\"linux/arm64\"]",
        expect: Expect::Entries(&[2], Annotated::Yes),
        pulls_again: 0,
    },
    Case {
        name: "flat",
        keys: "flatten = true\nplatforms = [\"linux/arm64\"]",
        expect: Expect::Entry(1),
        pulls_again: 1,
    },
    Case {
        name: "warned",
        keys: "missing_platform = \"warn\"\nplatforms = [\"linux/arm64\", \"linux/riscv64\"]",
        expect: Expect::Entries(&[1], Annotated::Yes),
        pulls_again: 0,
    },
];

fn reference(host: &str, case: &Case) -> String {
    format!("{host}/shapes/{}:1", case.name)
}

async fn world(host: &str) -> World {
    let mut world = World::new().await;
    for case in CASES {
        let mut image = world.upstream().image(&reference(host, case)).platforms(THREE);
        if case.name.contains("docker") {
            image = image.docker();
        }
        if case.name.contains("single") {
            image = image.single();
        }
        if case.name.contains("nested") {
            image = image.nested();
        }
        if case.name.contains("attested") {
            image = image.attestations();
        }
        image.push();
        world = world.select(&reference(host, case), case.keys);
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_windows_selects_its_image_and_is_in_report_and_annotation() {
    let images = ["windows(10.0.20348.2849)/amd64", "windows(10.0.26100.1)/amd64", "linux/amd64"];
    let mut world = World::new().await;
    world.upstream().image("quay.io/team/win:1").platforms(images).push();
    let select = |platforms: &str| {
        format!(
            "[[image]]\nsource = \"quay.io/team/win\"\ntags = [\"1\"]\nplatforms = [{platforms}]\n"
        )
    };
    world.reconfigure(select("\"windows(10.0.20348)/amd64\""));
    assert_eq!(world.plan(Mode::Plan).await.report.images[0].platforms, images[..1]);
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(first.report.images[0].platforms, images[..1]);
    let digest = first.report.images[0].digest.clone().unwrap();
    let (_, bytes) = world.ecr().manifest("team/win", &digest).unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        index["annotations"]["dev.ecr-mirror.filter"],
        "platforms=windows(10.0.20348)/amd64;attestations=keep"
    );
    world.sync().await.assert_no_op();

    world.reconfigure(select("\"windows/amd64\""));
    let both = world.sync().await;
    assert_eq!(both.report.images[0].platforms, images[..2]);
    world.reconfigure(select("\"windows(10.0.17763)/amd64\""));
    let missing = world.sync().await;
    missing.assert_exit(1);
    let error = missing.report.images[0].error.clone().unwrap();
    assert!(error.contains("windows(10.0.17763)/amd64") && error.contains(images[0]), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_that_its_filter_changes_is_reported_with_both_digests() {
    let mut world = World::new().await;
    let pin = world.upstream().image("quay.io/team/app:1").platforms(THREE).push();
    let select = |keys: &str| {
        format!("[[image]]\nsource = \"quay.io/team/app@{pin}\"\ntag = \"1\"\n{keys}\n")
    };
    world.reconfigure(select(ARM));
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let digest = run.report.images[0].digest.clone().unwrap();
    let [warning] = &run.warnings[..] else { panic!("{:?}", run.warnings) };
    assert!(warning.contains(pin.as_str()) && warning.contains(digest.as_str()), "{warning}");
    world.sync().await.assert_no_op();

    world.reconfigure(select("platforms = [\"linux/amd64\", \"linux/arm64\", \"linux/s390x\"]"));
    let whole = world.sync().await;
    assert_eq!((whole.report.images[0].digest.as_ref(), whole.warnings.len()), (Some(&pin), 0));

    // `images` names the digest to pull
    let (sandbox, _directory) = world.into_standing_sandbox().await;
    let again = sandbox.upstream().image("quay.io/team/app:1").platforms(THREE).push();
    assert_eq!(again, pin);
    let home = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n{}",
        select(ARM).replace("quay.io", &format!("{}/quay.io", sandbox.address()))
    );
    std::fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let listed = tokio::task::block_in_place(|| run_in(home.path(), &["images", "--json"]));
    assert_eq!(listed.status, Some(0), "{}", listed.talk);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["images"][0]["digest"], digest.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_image_is_filtered_and_up_to_date_in_the_next_run() {
    assert_up_to_date_in_the_next_run("quay.io", |case| case.pulls_again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_image_on_docker_hub_is_up_to_date_without_a_pull() {
    let world = assert_up_to_date_in_the_next_run("docker.io", |_| 0).await;
    let plan = world.plan(Mode::PlanWithoutPulls).await;
    plan.assert_no_op();
    assert_eq!(plan.manifests(Method::GET), Vec::<String>::new());
    // a tag that moved is copied, and then up to date again
    for name in ["docker-list", "flat"] {
        world
            .upstream()
            .image(&format!("docker.io/shapes/{name}:1"))
            .platforms(THREE)
            .seed(7)
            .push();
    }
    let moved = world.sync().await;
    moved.assert_exit(0);
    assert_eq!(moved.report.totals.copied, 2);
    let again = world.sync().await;
    again.assert_no_op();
    assert_eq!(again.manifests(Method::GET), Vec::<String>::new());
    // a listing that fails for a moment costs a request, and no pull
    world.fault("status=503@upstream:GET//hub.docker.com/*2");
    let recovered = world.sync().await;
    recovered.assert_no_op();
    assert_eq!(recovered.manifests(Method::GET), Vec::<String>::new());
    assert_eq!(recovered.report.requests.retries, 2);
}

/// Mirrors every case from this registry twice. `pulls_again` are the manifests of a case that the
/// second run may read.
async fn assert_up_to_date_in_the_next_run(host: &str, pulls_again: fn(&Case) -> usize) -> World {
    let world = world(host).await;
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    for case in CASES {
        let root = first.row(&reference(host, case)).digest.clone().unwrap();
        assert_eq!(world.ecr().tag(&repository(case), "1"), Some(root.clone()), "{}", case.name);
        check(&world, host, case, &root);
    }
    let [warning] = &first.warnings[..] else { panic!("{:?}", first.warnings) };
    assert!(warning.contains("shapes/warned") && warning.contains("linux/riscv64"), "{warning}");

    let second = world.sync().await;
    second.assert_no_op();
    let pulls = second.manifests(Method::GET);
    for case in CASES {
        let part = format!("/shapes/{}/", case.name);
        let pulled = pulls.iter().filter(|pull| pull.contains(&part)).count();
        assert_eq!(pulled, pulls_again(case), "{} of {pulls:#?}", case.name);
        let reference = reference(host, case);
        let (before, after) = (first.row(&reference), second.row(&reference));
        assert_eq!(before.digest, after.digest);
        assert_eq!(before.platforms, after.platforms, "{}", case.name);
    }
    world
}

fn repository(case: &Case) -> String {
    format!("shapes/{}", case.name)
}

fn check(world: &World, host: &str, case: &Case, root: &Digest) {
    let name = case.name;
    let source = world.source(&reference(host, case));
    let (media_type, bytes) = world.ecr().manifest(&repository(case), root).unwrap();
    let original = json(&source.bytes);
    let made = json(&bytes);
    match case.expect {
        Expect::Original => assert_eq!(*root, source.digest, "{name}"),
        Expect::Entries(kept, annotated) => {
            assert_eq!(media_type, source.media_type, "{name}");
            let expected: Vec<&Value> = kept.iter().map(|at| &original["manifests"][at]).collect();
            let actual: Vec<&Value> = made["manifests"].as_array().unwrap().iter().collect();
            assert_eq!(actual, expected, "{name}: entries are kept as they are written");
            let note = &made["annotations"]["dev.ecr-mirror.source.digest"];
            match annotated {
                Annotated::Yes => assert_eq!(note, source.digest.as_str(), "{name}"),
                Annotated::No => assert!(made.get("annotations").is_none(), "{name}: {made}"),
            }
        }
        Expect::Entry(at) => {
            assert_eq!(original["manifests"][at]["digest"], root.as_str(), "{name}");
        }
        Expect::Nested => {
            let inner = &made["manifests"][0];
            assert_eq!(made["manifests"].as_array().unwrap().len(), 1, "{name}: {made}");
            let digest: Digest = inner["digest"].as_str().unwrap().parse().unwrap();
            let (_, bytes) = world.ecr().manifest(&repository(case), &digest).unwrap();
            assert_eq!(inner["size"], bytes.len(), "{name}");
            let images = json(&bytes)["manifests"].as_array().unwrap().clone();
            assert_eq!(images.len(), 1, "{name}");
            assert_eq!(images[0]["platform"]["architecture"], "arm64", "{name}");
        }
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_platform_fails_and_the_error_lists_the_available_ones() {
    let cases = [
        ("index", "platforms = [\"linux/riscv64\"]", "linux/riscv64", "linux/amd64"),
        ("partly", "platforms = [\"linux/amd64\", \"linux/riscv64\"]", "linux/riscv64", "s390x"),
        ("single", "platforms = [\"linux/arm64\"]", "linux/arm64", "(available: linux/amd64)"),
        // `warn` allows some missing platforms, not all
        (
            "nothing",
            "missing_platform = \"warn\"\nplatforms = [\"linux/riscv64\"]",
            "riscv64",
            "linux/s390x",
        ),
        ("two-arms", "flatten = true\nplatforms = [\"linux/arm\"]", "2 images", "exactly one"),
    ];
    let mut world = World::new().await.image("quay.io/shapes/fine:1", ["linux/amd64"]);
    for (name, keys, ..) in cases {
        let reference = format!("quay.io/shapes/{name}:1");
        let image = world.upstream().image(&reference);
        match name {
            "single" => image.platforms(THREE).single().push(),
            "two-arms" => image.platforms(["linux/arm/v6", "linux/arm/v7"]).push(),
            _ => image.platforms(THREE).push(),
        };
        world = world.select(&reference, keys);
    }
    let run = world.sync().await;
    run.assert_exit(1);
    assert_eq!(run.row("shapes/fine").outcome, Outcome::Copied);
    for (name, _, wanted, there) in cases {
        let row = run.row(&format!("shapes/{name}:"));
        assert_eq!(row.outcome, Outcome::Failed, "{name}");
        let error = row.error.as_deref().unwrap();
        assert!(error.contains(wanted) && error.contains(there), "{name}: {error}");
        assert!(row.hint.is_some(), "{name}");
        assert_eq!(world.ecr().tag(&format!("shapes/{name}"), "1"), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_attestations_are_removed_from_nested_indexes_too() {
    let mut world = World::new().await;
    let image = world.upstream().image("quay.io/shapes/deep:1").platforms(THREE);
    image.nested().attestations().push();
    let of = |attestations: &str| {
        super::world::entry("quay.io/shapes/deep:1", &format!("attestations = \"{attestations}\""))
    };
    world.reconfigure(of("keep"));
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let whole = world.ecr().tag("shapes/deep", "1").unwrap();
    world.reconfigure(of("drop"));
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    assert_ne!(world.ecr().tag("shapes/deep", "1"), Some(whole));
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_copy_is_a_changed_filter_or_a_moved_tag() {
    const APP: &str = "quay.io/team/app:1";
    let mut world = World::new().await.select(APP, ARM);
    let push = |world: &World, seed| world.upstream().image(APP).platforms(THREE).seed(seed).push();
    let reason = async |world: &World| {
        let run = world.sync().await;
        run.assert_exit(0).assert_all(Outcome::Copied);
        run.row("team/app").reason
    };
    push(&world, 1);
    assert_eq!(reason(&world).await, Some(Reason::New));
    // the annotations of the filtered index name the source and the filter
    world.reconfigure(entry(APP, "platforms = [\"linux/s390x\"]"));
    assert_eq!(reason(&world).await, Some(Reason::FilterChanged));
    push(&world, 2);
    assert_eq!(reason(&world).await, Some(Reason::TagMoved));
    world.reconfigure(entry(APP, ""));
    assert_eq!(reason(&world).await, Some(Reason::TagMoved), "it has another image");
    // the source's own index
    world.reconfigure(entry(APP, ARM));
    assert_eq!(reason(&world).await, Some(Reason::FilterChanged));
    world.reconfigure(entry(APP, "platforms = [\"linux/arm64\"]\nflatten = true"));
    assert_eq!(reason(&world).await, Some(Reason::FilterChanged));
}
