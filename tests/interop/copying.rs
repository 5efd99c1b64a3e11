//! Copies images from one `docker-registry` to another and compares them with the images that
//! `skopeo` pushed.

use std::fs;

use ecr_mirror::model::Digest;

use super::{
    docker_registry::{LOGIN, Pair, Registry, RegistryVariant},
    layout::{Layout, NAME, PLATFORMS, SHELL, children, content},
    peer::{directory, text},
    product::{Run, ecr_mirror},
    skopeo::Skopeo,
};

/// Asserts that the image has the content that [`Layout::new`] gives an image of this name.
#[track_caller]
fn assert_unpacks(skopeo: &Skopeo, at: &str, name: &str, platform: &str) {
    let root = skopeo.pull(at, platform);
    let shell = fs::read(root.path().join(SHELL)).expect("the image has it");
    let expected = fs::read(format!("/{SHELL}")).expect("it was packed from there");
    assert_eq!(Digest::of(&shell), Digest::of(&expected));
    let found = fs::read_to_string(root.path().join(NAME)).expect("the image has it");
    assert_eq!(found, content(name, platform));
}

fn is_write(request: &str) -> bool {
    ["PUT", "POST", "PATCH", "DELETE"].iter().any(|method| request.starts_with(method))
}

fn reads_content(request: &str) -> bool {
    request.starts_with("GET") && (request.contains("/manifests/") || request.contains("/blobs/"))
}

#[test]
fn an_index_arrives_bit_for_bit_and_a_second_run_moves_nothing() {
    for variant in [RegistryVariant::AbsoluteLocation, RegistryVariant::RelativeLocation] {
        let Some(Pair { source, destination, skopeo }) = Pair::start(variant) else { return };
        let layout = Layout::new("app");
        let (from, to) =
            (source.reference("team/app:1.0"), destination.reference("mirror/team/app:1.0"));
        skopeo.push(&layout, &from);

        let first = Run::copy(&from, &to, &[]).ended(0, &["copied"]);
        let raw = skopeo.raw(&to);
        assert_eq!(raw, layout.raw(), "{variant:?}");
        assert_eq!(first.text("/images/0/digest"), Digest::of(&raw).as_str());
        assert_eq!(first.number("/bytes/from_source"), first.number("/bytes/to_destination"));
        for platform in PLATFORMS {
            assert_unpacks(&skopeo, &to, "app", platform);
        }

        let (reads, writes) = (source.requests(), destination.requests());
        assert!(reads.iter().any(|request| reads_content(request)), "{reads:?}");
        assert!(writes.iter().any(|request| is_write(request)), "{writes:?}");
        let (read, written) = (reads.len(), writes.len());
        let second = Run::copy(&from, &to, &[]).ended(0, &["up_to_date"]);
        assert_eq!(second.number("/bytes/to_destination"), 0);
        let writes: Vec<_> = destination.requests().split_off(written);
        assert!(!writes.iter().any(|request| is_write(request)), "{writes:?}");
        let reads: Vec<_> = source.requests().split_off(read);
        assert!(!reads.iter().any(|request| reads_content(request)), "{reads:?}");
    }
}

#[test]
fn a_filtered_index_has_one_digest_and_the_images_of_the_source() {
    let Some(Pair { source, destination, skopeo }) = Pair::start(RegistryVariant::default()) else {
        return;
    };
    let (from, kept) = (source.reference("app:1.0"), ["linux/amd64", "linux/arm64/v8"]);
    skopeo.push(&Layout::new("app"), &from);
    let options = ["--platform", "linux/arm64", "--platform", "linux/amd64"];

    let (one, other) =
        (destination.reference("one:1.0"), destination.reference("other/app:latest"));
    let first = Run::copy(&from, &one, &options).ended(0, &["copied"]);
    Run::copy(&from, &other, &[options[2], options[3], options[0], options[1]])
        .ended(0, &["copied"]);
    let raw = skopeo.raw(&one);
    assert_eq!(raw, skopeo.raw(&other));
    assert_eq!(first.text("/images/0/digest"), Digest::of(&raw).as_str());
    let expected: Vec<_> = children(&skopeo.raw(&from))
        .into_iter()
        .filter(|(platform, _)| kept.contains(&platform.as_str()))
        .collect();
    assert_eq!(children(&raw), expected);
    for (platform, digest) in &expected {
        assert_eq!(
            skopeo.raw(&destination.reference(&format!("one@{digest}"))),
            skopeo.raw(&source.reference(&format!("app@{digest}")))
        );
        assert_unpacks(&skopeo, &one, "app", platform);
    }

    let read = source.requests().len();
    let again = Run::copy(&from, &one, &options).ended(0, &["up_to_date"]);
    assert_eq!(again.number("/bytes/to_destination"), 0);
    let reads: Vec<_> = source.requests().split_off(read);
    assert!(!reads.iter().any(|request| reads_content(request)), "{reads:?}");

    Run::copy(&from, &one, &options[2..]).ended(0, &["copied"]);
    assert_eq!(children(&skopeo.raw(&one)), expected[..1]);
    Run::copy(&from, &one, &[]).ended(0, &["copied"]);
    assert_eq!(skopeo.raw(&one), skopeo.raw(&from));
}

#[test]
fn a_docker_manifest_list_stays_a_manifest_list() {
    let Some(Pair { source, destination, skopeo }) = Pair::start(RegistryVariant::default()) else {
        return;
    };
    let from = source.reference("app:1.0");
    skopeo.push_docker(&Layout::new("app"), &from);
    let list = skopeo.raw(&from);
    assert!(String::from_utf8_lossy(&list).contains("docker.distribution.manifest.list.v2+json"));

    let (whole, part) = (destination.reference("whole:1.0"), destination.reference("part:1.0"));
    let filter = ["--platform", "linux/arm/v7"];
    for (to, options) in [(&whole, &[][..]), (&part, &filter)] {
        Run::copy(&from, to, options).ended(0, &["copied"]);
        let again = Run::copy(&from, to, options).ended(0, &["up_to_date"]);
        assert_eq!(again.number("/bytes/to_destination"), 0);
    }
    assert_eq!(skopeo.raw(&whole), list);
    assert_eq!(children(&skopeo.raw(&part)), children(&list)[2..]);
    assert_unpacks(&skopeo, &whole, "app", "linux/amd64");
    assert_unpacks(&skopeo, &part, "app", "linux/arm/v7");
}

#[test]
fn a_flattened_image_has_the_digest_of_the_source() {
    let Some(Pair { source, destination, skopeo }) = Pair::start(RegistryVariant::default()) else {
        return;
    };
    let (from, to) = (source.reference("app:1.0"), destination.reference("app:1.0"));
    skopeo.push(&Layout::new("app"), &from);
    let options = ["--platform", "linux/arm64", "--flatten"];
    let first = Run::copy(&from, &to, &options).ended(0, &["copied"]);
    let expected = &children(&skopeo.raw(&from))[1].1;
    assert_eq!(first.text("/images/0/digest"), expected);
    assert_eq!(Digest::of(&skopeo.raw(&to)).as_str(), expected);
    Run::copy(&from, &to, &options).ended(0, &["up_to_date"]);
}

#[test]
fn a_deleted_tag_is_copied_again_without_its_blobs() {
    let Some(Pair { source, destination, skopeo }) = Pair::start(RegistryVariant::default()) else {
        return;
    };
    let (from, to) = (source.reference("app:1.0"), destination.reference("app:1.0"));
    skopeo.push(&Layout::new("app"), &from);
    Run::copy(&from, &to, &[]).ended(0, &["copied"]);
    skopeo.delete(&to);
    let repaired = Run::copy(&from, &to, &[]).ended(0, &["copied"]);
    assert_eq!(repaired.number("/bytes/to_destination"), 0);
    assert_eq!(skopeo.raw(&to), skopeo.raw(&from));

    let child = &children(&skopeo.raw(&to))[0].1;
    skopeo.delete(&destination.reference(&format!("app@{child}")));
    skopeo.delete(&to);
    Run::copy(&from, &to, &[]).ended(0, &["copied"]);
    assert_unpacks(&skopeo, &to, "app", "linux/amd64");
}

/// Writes a configuration with these images to a temporary directory.
fn configuration(source: &Registry, destination: &Registry, images: &str) -> tempfile::TempDir {
    let files = directory();
    let images = images.replace("SOURCE", &source.address);
    let text = format!("[[destination]]\nregistry = \"{}\"\n{images}", destination.address);
    fs::write(files.path().join("mirror.toml"), text).expect("the directory is new");
    files
}

#[test]
fn shared_layers_are_copied_once_and_a_missing_image_fails_alone() {
    let Some(Pair { source, destination, skopeo }) = Pair::start(RegistryVariant::default()) else {
        return;
    };
    for name in ["first", "second"] {
        skopeo.push(&Layout::new(name), &source.reference(&format!("{name}:1.0")));
    }
    let images = "[[image]]\nsource = \"SOURCE/first\"\ntags = [\"1.0\"]\n\
                  [[image]]\nsource = \"SOURCE/second\"\ntags = [\"1.0\"]\n\
                  [[image]]\nsource = \"SOURCE/none\"\ntags = [\"1.0\"]\n";
    let files = configuration(&source, &destination, images);
    let file = files.path().join("mirror.toml");
    let sync = || Run::of(&mut ecr_mirror(&["sync", "-c", text(&file)]));

    let first = sync().ended(1, &["copied", "copied", "failed"]);
    assert!(first.text("/images/2/error").contains("404"), "{first}");
    // the shared layer, and a configuration and a layer for each image and platform
    let blobs = |what: &str| first.number(&format!("/blobs/{what}"));
    assert_eq!((blobs("pushed"), blobs("mounted")), (1 + 2 * 3 * 2, 1), "{first}");
    for name in ["first", "second"] {
        assert_unpacks(&skopeo, &destination.reference(&format!("{name}:1.0")), name, PLATFORMS[0]);
    }
    let second = sync().ended(1, &["up_to_date", "up_to_date", "failed"]);
    assert_eq!(second.number("/bytes/to_destination"), 0);
}

#[test]
fn a_login_of_skopeo_is_used_and_a_missing_login_fails_with_401() {
    let Some(Pair { source, destination, skopeo }) = Pair::start(RegistryVariant::RequiresLogin)
    else {
        return;
    };
    let (from, to) = (source.reference("app:1.0"), destination.reference("app:1.0"));
    skopeo.push(&Layout::new("app"), &from);

    let refused = Run::copy(&from, &to, &[]).ended(1, &["failed"]);
    assert!(refused.text("/images/0/error").contains("401"), "{refused}");
    let home = skopeo.home.path();
    Run::of(ecr_mirror(&["copy", &from, &to]).env("DOCKER_CONFIG", home)).ended(0, &["copied"]);
    assert_eq!(skopeo.raw(&to), skopeo.raw(&from));

    let logins = "[registry.\"SOURCE\"]\nusername = \"${WHO}\"\npassword = \"${SECRET}\"\n\
                  [registry.\"DESTINATION\"]\nusername = \"${WHO}\"\npassword = \"${SECRET}\"\n\
                  [[image]]\nsource = \"SOURCE/app\"\ntags = [\"1.0\"]\nretag = \"{tag}-again\"\n"
        .replace("DESTINATION", &destination.address);
    let files = configuration(&source, &destination, &logins);
    let mut sync = ecr_mirror(&["sync", "-c", text(&files.path().join("mirror.toml"))]);
    sync.env("WHO", LOGIN.0).env("SECRET", LOGIN.1);
    let second = Run::of(&mut sync).ended(0, &["copied"]);
    assert_eq!(second.number("/bytes/to_destination"), 0);
    assert_eq!(skopeo.tags(&destination.reference("app")), ["1.0", "1.0-again"]);
}
