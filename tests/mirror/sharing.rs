//! Tests that concurrent consumers share requests and reads.

use std::{collections::BTreeSet, sync::Arc};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::{event::Silent, outcome::Outcome},
    registry::{Network, Transport},
    remote::RetryPolicy,
    run::registries,
    sandbox::{self, BlobMounting, Options, Sandbox, upstream::media},
};
use http::Method;

use super::world::{ACCOUNT, TRANSFERS, World, mirror};

#[tokio::test(flavor = "multi_thread")]
async fn an_up_to_date_pinned_image_sends_no_request_to_its_source() {
    let world = World::new().await;
    let digest = world.upstream().image("quay.io/team/app:1").push();
    let world = world
        .select(&format!("quay.io/team/app:1-pinned@{digest}"), "repository = \"whole\"")
        .select(
            &format!("quay.io/team/app:1-pinned@{digest}"),
            "repository = \"part\"\nplatforms = [\"linux/arm64\"]",
        );
    let plan = world.plan(Mode::PlanWithoutPulls).await;
    let bytes = |name: &str| plan.row(name).bytes_pushed;
    assert!(
        bytes("/whole:").is_some() && bytes("/part:").is_some(),
        "no limit: manifests are read"
    );
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(world.ecr().tag("whole", "1-pinned"), Some(digest));
    assert_eq!(first.manifests(Method::HEAD), Vec::<String>::new());

    let second = world.sync().await;
    second.assert_no_op();
    assert_eq!(second.source_requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tags_of_one_image_are_pulled_once() {
    let world = World::new().await;
    let put = |tag| world.upstream().image(&format!("team/app:{tag}")).seed(7).push();
    assert_eq!(put("1"), put("1.0"));
    let world = world.configured("[[image]]\nsource = \"team/app\"\ntags = [\"1\", \"1.0\"]");
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let pulls = run.manifests(Method::GET);
    assert_eq!(pulls.len(), 3, "the index and two images, each once: {pulls:#?}");
    let pushed: u64 = run.report.images.iter().map(|row| row.bytes_pushed.unwrap()).sum();
    assert_eq!(run.report.bytes.from_source, Some(pushed));
    let mut uploads = run.uploads();
    uploads.sort();
    uploads.dedup();
    assert_eq!(uploads.len(), run.uploads().len(), "no blob was uploaded twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destinations_share_one_read_of_the_source() {
    let west = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let other = "210987654321.dkr.ecr.ap-south-1.amazonaws.com";
    let world = World::new()
        .await
        .configured(&format!(
            "[[destination]]\nregistry = \"{west}\"\nprefix = \"a\"\n\
             [[destination]]\nregistry = \"{other}\""
        ))
        .image("quay.io/team/app:1", ["linux/amd64", "linux/arm64"]);
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.report.images.len(), 2);
    let [read, written] = [run.report.bytes.from_source, run.report.bytes.to_destination];
    assert_eq!(read.unwrap() * 2, written.unwrap());
    // the first one again with a login
    let read: BTreeSet<String> = run.manifests(Method::GET).into_iter().collect();
    assert_eq!(read.len(), 3);
    let digest = world.source("quay.io/team/app:1").digest;
    let store = |account, region| world.sandbox.ecr_store(account, region);
    assert_eq!(store(ACCOUNT, "eu-west-1").tag("a/team/app", "1"), Some(digest.clone()));
    assert_eq!(store("210987654321", "ap-south-1").tag("team/app", "1"), Some(digest));
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_with_the_image_stays_up_to_date_where_another_lacks_it_and_it_cannot_be_read()
 {
    let destination = |region: &str| {
        format!("[[destination]]\nregistry = \"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com\"\n")
    };
    let world = World::new().await.configured(&destination("eu-west-1"));
    let world = world.image("registry.example/team/app:1", ["linux/amd64"]);
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let world = world.configured(&destination("ap-south-1"));
    world.fault("status=403@upstream:GET/v2/team/app/manifests/");
    let run = world.sync().await;
    run.assert_exit(1);
    let outcomes: Vec<Outcome> = run.report.images.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::UpToDate, Outcome::Failed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_base_is_read_once_when_blobs_can_be_mounted() {
    use ecr_mirror::sandbox::BlobMounting;
    let world =
        World::with(Options { blob_mounting: BlobMounting::On, ..Options::default() }).await;
    let mut world = world;
    for name in ["a", "b", "c"] {
        let reference = format!("quay.io/team/{name}:1");
        let image = world.upstream().image(&reference);
        image.platforms(["linux/amd64"]).base("debian").layer_size(1 << 20).push();
        world = world.select(&reference, "");
    }
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.report.blobs.mounted, Some(2), "{:?}", run.report.blobs);
    assert_eq!(run.report.bytes.from_source, run.report.bytes.to_destination);
    let mut uploads = run.uploads();
    uploads.sort();
    uploads.dedup();
    assert_eq!(uploads.len(), run.uploads().len(), "no blob was uploaded twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_listing_resolves_many_tags_of_docker_hub() {
    let tags = ["1.0", "1.1", "1.2", "1.3", "latest"];
    let selected = format!("[[image]]\nsource = \"team/app\"\ntags = {tags:?}");
    let world = World::new().await.configured(&selected);
    let image = |tag| world.upstream().image(&format!("team/app:{tag}")).platforms(["linux/amd64"]);
    for tag in tags {
        image(tag).push();
    }
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let second = world.sync().await;
    second.assert_no_op();
    let requests = second.source_requests();
    assert!(requests.len() == 1 && requests[0].contains("hub.docker.com"), "{requests:#?}");
    // the listing is only used to skip images: changed tags are resolved before the copy
    image("1.2").seed(2).push();
    let third = world.sync().await;
    third.assert_exit(0);
    assert_eq!((third.report.totals.copied, third.report.totals.up_to_date), (1, 4));
    let resolved = third.manifests(Method::HEAD);
    assert!(!resolved.is_empty());
    assert!(resolved.iter().all(|head| head.ends_with("/1.2")), "{resolved:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_oci_registry_can_be_a_destination() {
    let start = async |mode| Sandbox::start(Options { mode, ..Options::default() }).await.unwrap();
    let (upstream, plain) =
        (start(sandbox::Mode::Standing).await, start(sandbox::Mode::Plain).await);
    let source = format!("{}/quay.io/team/app", upstream.address());
    let root = upstream.upstream().image("quay.io/team/app:1").attestations().push();
    let toml = format!(
        "[[destination]]\nregistry = \"{}\"\nprefix = \"mirror\"\n\
         [[image]]\nsource = \"{source}\"\ntags = [\"1\"]\nrepository = \"whole\"\n\
         [[image]]\nsource = \"{source}\"\ntags = [\"1\"]\nrepository = \"part\"\n\
         platforms = [\"linux/amd64\"]\n",
        plain.address()
    );
    let run = async || {
        let registries = registries::Registries::with_transport(
            Transport::new(Network::Direct),
            TRANSFERS,
            &RetryPolicy::default(),
        );
        mirror(&registries, &toml, Mode::Mirror, Arc::new(Silent), Shutdown::default()).await
    };
    let first = run().await;
    assert_eq!((first.exit, first.totals.copied), (0, 2), "{:#?}", first.images);
    let store = plain.plain().store();
    assert_eq!(store.tag("mirror/whole", "1"), Some(root.clone()));
    assert_ne!(store.tag("mirror/part", "1"), Some(root));
    super::content::assert_whole(store);
    // a plain registry mounts blobs across repositories: no blob was uploaded twice
    assert_eq!(first.bytes.from_source, first.bytes.to_destination);
    assert!(first.blobs.mounted > Some(0), "{:?}", first.blobs);

    let (before, second) = (plain.journal().len(), run().await);
    assert_eq!((second.exit, second.totals.up_to_date), (0, 2), "{:#?}", second.images);
    assert_eq!(second.bytes.to_destination, Some(0));
    assert!(!plain.journal()[before..].iter().any(|entry| entry.is_write()));
    assert_eq!(second.requests.ecr_api, 0);
}

/// Pushes a single image with these layers to the source.
fn push_layered_image(world: &World, repository: &str, layers: &[String]) {
    let (upstream, host) = (world.upstream(), "registry.example");
    let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"of\":\"{repository}\"}}");
    let described = |media_type: &str, content: &str| {
        let digest = upstream.put_blob(host, repository, content.as_bytes());
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": described("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| described(media::OCI_LAYER, layer)).collect::<Vec<_>>(),
    });
    let bytes = manifest.to_string();
    upstream.put_manifest(host, repository, Some("1"), media::OCI_MANIFEST, bytes.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_repository_mounts_blobs_that_an_earlier_run_pushed_to_another() {
    let options = Options { blob_mounting: BlobMounting::On, ..Options::default() };
    let world = World::with(options).await;
    let mut layers: Vec<String> = (0..6).map(|n| format!("layer {n}")).collect();
    push_layered_image(&world, "team/old", &layers);
    layers[5] = "another layer".to_owned();
    push_layered_image(&world, "team/new", &layers);
    let world = world.select("registry.example/team/old:1", "");
    world.sync().await.assert_exit(0);

    let world = world.select("registry.example/team/new:1", "");
    let run = world.sync().await;

    run.assert_exit(0);
    let blobs = run.report.blobs;
    // the new layer, and the configuration, which differs between images
    assert_eq!((blobs.mounted, blobs.pushed), (Some(5), Some(2)), "{blobs:?}");
    assert_eq!(run.uploads().len(), 2);
}
