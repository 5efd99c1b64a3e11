//! Tests the client of ECR's API against `moto`, an independent implementation of that API.
//!
//! `moto` has no registry, so these tests move no content. The table in `agreement` lists its calls
//! for the pull-through cache.

use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
};

use aws_sdk_ecr::{
    Client,
    types::{
        ImageTagMutability, ImageTagMutabilityExclusionFilter,
        ImageTagMutabilityExclusionFilterType,
    },
};
use ecr_mirror::{
    ecr::{AwsSession, AwsSessions, DataPlaneConfig, Ecr, Identity},
    model::{
        Create, Descriptor, Digest, Host, Kind, Repository, Tag,
        ecr_settings::{AccountSettings, RepositoryRules},
    },
    registry::{ConnectionSettings, Network, Transport},
    remote::{Destination, HostContext, Mounting, Mutability, Provision},
};

use super::{
    docker_registry::Registry,
    layout::Layout,
    peer::{self, Peer, Server, directory, text},
    product::{Run, ecr_mirror},
    skopeo::Skopeo,
};

/// The registry of the account that `moto` simulates.
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A running `moto` with an AWS session for it.
pub(crate) struct Moto {
    _server: Server,
    /// URL of its API.
    endpoint: String,
    network: Network,
    session: Arc<AwsSession>,
    context: Arc<HostContext>,
}

impl Moto {
    pub(crate) async fn start() -> Option<Self> {
        let mut command = peer::command(Peer::Moto.find()?);
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let mark = "Running on http://";
        let server = Server::start(command, directory(), mark);
        let address = server.text_after(mark).expect("the server has started");
        // the sandbox network sends requests without TLS; `moto` does not check credentials
        let network = Network::Sandbox(address.parse().expect("it prints an address"));
        let context = Arc::new(HostContext::default());
        let identity = Identity::of(&host());
        let session = AwsSessions::new(network, Arc::clone(&context)).session(identity).await;
        let endpoint = format!("http://{address}");
        Some(Self { _server: server, endpoint, network, session, context })
    }

    /// Creates the state of one run. It shares no cache with earlier runs.
    fn run(&self, create: Create) -> Ecr {
        self.run_with_rules(RepositoryRules { create, ..RepositoryRules::default() })
    }

    /// Creates the state of one run with these repository rules.
    pub(crate) fn run_with_rules(&self, repositories: RepositoryRules) -> Ecr {
        let transport = Transport::new(self.network);
        let settings = ConnectionSettings::default();
        let data_plane = DataPlaneConfig { settings, transport, context: Arc::default() };
        let account = AccountSettings::default();
        Ecr::new(host(), Arc::clone(&self.session), repositories, account, data_plane)
    }

    pub(crate) fn session(&self) -> &AwsSession {
        &self.session
    }

    /// A client of the AWS SDK.
    pub(crate) fn sdk(&self) -> Client {
        Client::new(&self.session.config)
    }
}

fn host() -> Host {
    ECR.parse().expect("it is a host")
}

fn repository() -> Repository {
    "mirror/team/app".parse().expect("it is a repository")
}

fn tag(name: &str) -> Tag {
    name.parse().expect("it is a tag")
}

#[tokio::test]
async fn a_repository_is_created_once_and_found_by_later_runs() {
    let Some(moto) = Moto::start().await else { return };
    let (first, tags) = (moto.run(Create::Missing), [tag("1.0")]);
    assert_eq!(first.current_tags(&repository(), &tags).await.unwrap(), None);
    first.ensure(&repository()).await.unwrap();
    let described = moto.sdk().describe_repositories().send().await.unwrap();
    let names: Vec<_> = described.repositories().iter().map(|it| it.repository_name()).collect();
    assert_eq!(names, [Some("mirror/team/app")]);
    // a second run that did not query the tags, and one that did
    moto.run(Create::Missing).ensure(&repository()).await.unwrap();
    let later = moto.run(Create::Never);
    assert_eq!(
        later.current_tags(&repository(), &tags).await.unwrap().map(|tags| tags.len()),
        Some(0)
    );
    later.ensure(&repository()).await.unwrap();
    assert_eq!(moto.context.stats.retries.value(), 0);
}

#[tokio::test]
async fn a_missing_repository_is_an_error_with_a_hint_when_create_is_off() {
    let Some(moto) = Moto::start().await else { return };
    let error = moto.run(Create::Never).ensure(&repository()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RepositoryMissing);
    assert!(error.remedy().unwrap().contains("aws ecr create-repository"), "{error}");
    let described = moto.sdk().describe_repositories().send().await.unwrap();
    assert_eq!(described.repositories().len(), 0);
}

#[tokio::test]
async fn tag_mutability_is_read_with_its_exclusions() {
    let Some(moto) = Moto::start().await else { return };
    let exclusion = ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("latest*")
        .build()
        .unwrap();
    for (name, setting, filters, on_release, on_latest) in [
        ("a", ImageTagMutability::Mutable, None, Mutability::Mutable, Mutability::Mutable),
        ("b", ImageTagMutability::Immutable, None, Mutability::Immutable, Mutability::Immutable),
        (
            "c",
            ImageTagMutability::ImmutableWithExclusion,
            Some(vec![exclusion]),
            Mutability::Immutable,
            Mutability::Mutable,
        ),
    ] {
        let create = moto.sdk().create_repository().repository_name(name);
        let create = create.image_tag_mutability(setting);
        create.set_image_tag_mutability_exclusion_filters(filters).send().await.unwrap();
        let (run, repository) = (moto.run(Create::Missing), name.parse().unwrap());
        for (tag_name, expected) in [("1.0", on_release), ("latest-slim", on_latest)] {
            assert_eq!(
                run.mutability(&repository, &tag(tag_name)).await.unwrap(),
                expected,
                "{name} {tag_name}"
            );
        }
    }
}

#[tokio::test]
async fn without_account_settings_no_blob_is_mounted_and_the_api_is_queried_once() {
    let Some(moto) = Moto::start().await else { return };
    let run = moto.run(Create::Missing);
    assert_eq!(run.mounting().await, Mounting::Never);
    let requests = moto.context.stats.requests.value();
    assert_eq!(run.mounting().await, Mounting::Never);
    assert_eq!(moto.context.stats.requests.value(), requests);
}

#[tokio::test]
async fn existing_tags_and_manifests_are_told_apart_from_missing_ones() {
    let Some(moto) = Moto::start().await else { return };
    let (run, sdk, name) = (moto.run(Create::Missing), moto.sdk(), "mirror/team/app");
    run.ensure(&repository()).await.unwrap();
    let index = Layout::new("app").raw();
    let (existing, absent) = (Digest::of(&index), Digest::of(b"something else"));
    let put =
        sdk.put_image().repository_name(name).image_tag("1.0").image_digest(existing.as_str());
    put.image_manifest(String::from_utf8(index.clone()).unwrap()).send().await.unwrap();

    let current =
        run.current_tags(&repository(), &[tag("1.0"), tag("2.0")]).await.unwrap().unwrap();
    assert_eq!(current, HashMap::from([(tag("1.0"), existing.clone())]));
    let both = [existing.clone(), absent.clone()];
    let missing = run.missing_manifests(&repository(), &both).await.unwrap();
    assert_eq!(missing, HashSet::from([absent.clone()]));
    let manifests = run.manifests(&repository(), &both).await.unwrap();
    assert_eq!(manifests.len(), 1);
    assert_eq!(manifests[&existing].bytes().as_ref(), index);
}

#[tokio::test]
async fn missing_blobs_are_found_in_bulk() {
    let Some(moto) = Moto::start().await else { return };
    let (run, sdk, name) = (moto.run(Create::Missing), moto.sdk(), "mirror/team/app");
    run.ensure(&repository()).await.unwrap();
    let Ok(upload) = sdk.initiate_layer_upload().repository_name(name).send().await else {
        return peer::not_tested("this `moto_server` has no layer uploads, 5.2.5 has");
    };
    let layer = b"a layer";
    let part =
        sdk.upload_layer_part().repository_name(name).set_upload_id(upload.upload_id.clone());
    let part = part.part_first_byte(0).part_last_byte(6).layer_part_blob(layer.to_vec().into());
    part.send().await.unwrap();
    let done = sdk.complete_layer_upload().repository_name(name).set_upload_id(upload.upload_id);
    done.layer_digests(Digest::of(layer).as_str()).send().await.unwrap();
    let absent = Digest::of(b"something else");
    let describe = |digest: &Digest| -> Descriptor {
        serde_json::from_value(serde_json::json!({ "digest": digest, "size": 7 })).unwrap()
    };
    let blobs = [describe(&Digest::of(layer)), describe(&absent)];
    let missing = run.missing_blobs(&repository(), &blobs).await.unwrap();
    assert_eq!(missing, HashSet::from([absent]));
}

#[tokio::test]
async fn plan_and_sync_skip_an_image_that_moto_already_has() {
    let Some(moto) = Moto::start().await else { return };
    let (Some(source), Some(skopeo)) = (Registry::start(Default::default()), Skopeo::find()) else {
        return;
    };
    let layout = Layout::new("app");
    skopeo.push(&layout, &source.reference("team/app:1.0"));
    let files = directory();
    let file = files.path().join("mirror.toml");
    let configuration = format!(
        "[[destination]]\nregistry = \"{ECR}\"\nprefix = \"mirror\"\nendpoint_url = \"{}\"\n\
         [[image]]\nsource = \"{}/team/app\"\ntags = [\"1.0\"]\n",
        moto.endpoint, source.address
    );
    fs::write(&file, configuration).unwrap();
    let run = |verb: &str| {
        let mut command = ecr_mirror(&[verb, "-c", text(&file)]);
        command.env("AWS_ACCESS_KEY_ID", "interop").env("AWS_SECRET_ACCESS_KEY", "interop");
        Run::of(&mut command)
    };
    let planned = run("plan").ended(0, &["planned"]);
    assert!(planned.number("/bytes/to_destination") > 0);
    let described = moto.sdk().describe_repositories().send().await.unwrap();
    assert_eq!(described.repositories().len(), 0, "a plan creates nothing");

    moto.run(Create::Missing).ensure(&repository()).await.unwrap();
    let put = moto.sdk().put_image().repository_name("mirror/team/app").image_tag("1.0");
    let put = put.image_digest(Digest::of(&layout.raw()).as_str());
    put.image_manifest(String::from_utf8(layout.raw()).unwrap()).send().await.unwrap();
    for verb in ["plan", "sync"] {
        let run = run(verb).ended(0, &["up_to_date"]);
        assert_eq!(run.number("/bytes/to_destination"), 0, "{verb}");
    }
}
