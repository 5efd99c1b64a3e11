//! The destination against the sandbox, which refuses the same requests as ECR.

use aws_sdk_ecr::types::ImageTagMutability;
use bytes::Bytes;
use futures::stream;
use serde_json::json;

use super::*;
use crate::{
    ecr::{AwsSessions, Identity},
    model::Create,
    registry::{Network, tests::push},
    remote::{
        SideContexts,
        conformance_tests::{DigestCheck, check_destination, check_source},
    },
    sandbox::{BlobMounting, Options, Sandbox},
};

/// Not the caller's own account: a request without the account fails.
const HOST: &str = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";

struct EcrFixture {
    sandbox: Sandbox,
    contexts: SideContexts,
    ecr: Ecr,
}

impl EcrFixture {
    async fn new() -> Self {
        Self::with(BlobMounting::Off, Create::Missing).await
    }

    async fn with(blob_mounting: BlobMounting, create: Create) -> Self {
        let options = Options { blob_mounting, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let network = Network::Sandbox(sandbox.address());
        let contexts = SideContexts::default();
        let host: Host = HOST.parse().unwrap();
        let sessions = AwsSessions::new(network, Arc::clone(&contexts.ecr_api));
        // the credentials are of another account than the registry
        let identity = Identity { account: None, ..Identity::of(&host) };
        let session = sessions.session(identity).await;
        let data_plane = DataPlaneConfig {
            settings: ConnectionSettings::default(),
            transport: Transport::new(network),
            context: Arc::clone(&contexts.destination),
        };
        let repositories = RepositoryRules { create, ..Default::default() };
        let ecr = Ecr::new(host, session, repositories, AccountSettings::default(), data_plane);
        Self { sandbox, contexts, ecr }
    }

    fn fault(&self, text: &str) {
        self.sandbox.faults().add(text.parse().unwrap());
    }

    /// The method of every request of the registry protocol, in order.
    fn protocol(&self) -> Vec<String> {
        let entries = self.sandbox.journal();
        let requests = entries.iter().filter(|entry| entry.operation.is_none());
        requests.map(|entry| entry.method.to_string()).collect()
    }

    /// The operations of the API, in order.
    fn operations(&self) -> Vec<String> {
        self.sandbox.journal().into_iter().filter_map(|entry| entry.operation).collect()
    }

    async fn push(&self, repository: &Repository, content: &'static str) -> Descriptor {
        let blob = blob(content);
        push(&self.ecr, repository, &blob, body(content)).await.unwrap();
        blob
    }

    /// Pushes an image of one layer; without a tag, by its digest.
    async fn commit(&self, repository: &Repository, layer: &'static str, tag: Option<&Tag>) {
        let image = image(layer);
        self.push(repository, layer).await;
        self.push(repository, CONFIG).await;
        self.ecr.push_manifest(repository, &image, tag).await.unwrap();
    }

    async fn create_immutable(&self, repository: &Repository) {
        let create = |ecr: aws_sdk_ecr::Client| {
            ecr.create_repository()
                .registry_id("210987654321")
                .repository_name(repository.as_str())
                .image_tag_mutability(ImageTagMutability::Immutable)
                .send()
        };
        self.ecr.session.api.call("CreateRepository", create).await.unwrap();
    }
}

const CONFIG: &str = "{}";

fn blob(content: &str) -> Descriptor {
    let (digest, size) = (Digest::of(content.as_bytes()), content.len());
    serde_json::from_value(json!({ "digest": digest, "size": size })).unwrap()
}

fn body(content: &'static str) -> Body {
    Body::new(content.len() as u64, stream::iter([Ok(Bytes::from_static(content.as_bytes()))]))
}

fn image(layer: &str) -> RawManifest {
    let part = |media_type: &str, content: &str| {
        json!({
            "mediaType": media_type,
            "digest": Digest::of(content.as_bytes()),
            "size": content.len(),
        })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [part("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    RawManifest::new(manifest.to_string().into(), None).unwrap()
}

fn named(name: &str) -> Repository {
    name.parse().unwrap()
}

fn tagged(name: &str) -> Tag {
    name.parse().unwrap()
}

#[tokio::test]
async fn an_image_is_pushed_by_the_protocol_and_found_by_the_api() {
    let fixture = EcrFixture::new().await;
    let (ecr, nginx, tag) = (&fixture.ecr, named("mirror/nginx"), tagged("1.27"));
    let (image, layer) = (image("layer"), blob("layer"));
    let asked = [layer.clone(), blob(CONFIG)];

    assert_eq!(ecr.current_tags(&nginx, std::slice::from_ref(&tag)).await.unwrap(), None);
    ecr.ensure(&nginx).await.unwrap();
    assert_eq!(ecr.missing_blobs(&nginx, &asked).await.unwrap().len(), 2);
    fixture.commit(&nginx, "layer", Some(&tag)).await;

    let current = ecr.current_tags(&nginx, &[tag.clone(), tagged("other")]).await.unwrap().unwrap();
    assert_eq!(current, HashMap::from([(tag, image.digest().clone())]));
    assert!(ecr.missing_blobs(&nginx, &asked).await.unwrap().is_empty());
    let manifests = [image.digest().clone(), Digest::of(b"another")];
    let missing = ecr.missing_manifests(&nginx, &manifests).await.unwrap();
    assert_eq!(missing, HashSet::from([Digest::of(b"another")]));
    let read = ecr.manifests(&nginx, &manifests).await.unwrap();
    assert_eq!(read, HashMap::from([(image.digest().clone(), image)]));

    assert_eq!(fixture.protocol(), ["POST", "PUT", "POST", "PUT", "PUT"]);
    let hosts: HashSet<String> = fixture
        .sandbox
        .journal()
        .into_iter()
        .filter(|entry| entry.operation.is_none())
        .map(|entry| entry.host)
        .collect();
    assert_eq!(hosts, HashSet::from([HOST.to_owned()]));
    assert_eq!(fixture.operations().iter().filter(|o| *o == "GetAuthorizationToken").count(), 1);
    assert_eq!(fixture.contexts.destination.stats.requests.value(), 5);
    assert_eq!(fixture.contexts.ecr_api.stats.requests.value(), fixture.operations().len() as u64);
    assert_eq!(fixture.contexts.destination.stats.bytes.value(), layer.size + 2);
}

#[tokio::test]
async fn account_settings_of_another_account_are_refused() {
    let mut fixture = EcrFixture::new().await;
    let owner = AccountSettings { blob_mounting: Some(true), ..Default::default() };
    fixture.ecr.account = EcrAccount::new(Arc::clone(&fixture.ecr.session), owner).into();
    for _ in 0..2 {
        let result = fixture.ecr.reconcile(&named("a/b"), Presence::Missing, Apply::Change).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        let said = error.chain().join(": ");
        assert!(
            said.ends_with("in account 210987654321, the credentials are of account 123456789012")
        );
    }
    assert_eq!(fixture.operations(), ["GetAuthorizationToken"]);
}

#[tokio::test]
async fn templates_of_the_callers_account_do_not_apply_to_another_account() {
    let fixture = EcrFixture::with(BlobMounting::Off, Create::Unclaimed).await;
    let template = |ecr: aws_sdk_ecr::Client| {
        ecr.create_repository_creation_template()
            .prefix("ROOT")
            .applied_for(aws_sdk_ecr::types::RctAppliedFor::CreateOnPush)
            .send()
    };
    fixture.ecr.session.api.call("CreateRepositoryCreationTemplate", template).await.unwrap();
    fixture.ecr.ensure(&named("team/a")).await.unwrap();
    assert_eq!(
        fixture.operations()[1..],
        ["DescribeRepositoryCreationTemplates", "CreateRepository"]
    );
}

#[tokio::test]
async fn a_blob_is_mounted_once_a_manifest_names_it() {
    let fixture = EcrFixture::with(BlobMounting::On, Create::Missing).await;
    let (ecr, from, to) = (&fixture.ecr, named("team/a"), named("team/b"));
    for repository in [&from, &to] {
        ecr.ensure(repository).await.unwrap();
    }
    assert_eq!(ecr.mounting().await, Mounting::OnceCommitted);
    let layer = fixture.push(&from, "layer").await;
    let Mount::Session(session) = ecr.mount(&to, &layer, &from).await.unwrap() else {
        panic!("nothing is committed yet")
    };
    drop(session);
    fixture.commit(&from, "layer", None).await;
    assert!(matches!(ecr.mount(&to, &layer, &from).await.unwrap(), Mount::Mounted));
    assert!(ecr.missing_blobs(&to, &[layer]).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_session_of_a_refused_mount_accepts_the_blob() {
    let fixture = EcrFixture::new().await;
    let (ecr, from, to) = (&fixture.ecr, named("team/a"), named("team/b"));
    for repository in [&from, &to] {
        ecr.ensure(repository).await.unwrap();
    }
    assert_eq!(ecr.mounting().await, Mounting::Never);
    fixture.commit(&from, "layer", None).await;
    let layer = blob("layer");
    let before = fixture.protocol().len();
    let Mount::Session(session) = ecr.mount(&to, &layer, &from).await.unwrap() else {
        panic!("mounting is off")
    };
    ecr.push_blob(&to, &layer, session, body("layer")).await.unwrap();
    assert_eq!(fixture.protocol()[before..], ["POST", "PUT"]);
    assert!(ecr.missing_blobs(&to, &[layer]).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_immutable_tag_accepts_only_the_same_manifest() {
    let fixture = EcrFixture::new().await;
    let (ecr, nginx, tag) = (&fixture.ecr, named("nginx"), tagged("1.27"));
    fixture.create_immutable(&nginx).await;
    for _ in 0..2 {
        fixture.commit(&nginx, "layer", Some(&tag)).await;
    }
    fixture.commit(&nginx, "other layer", None).await;
    let error = ecr.push_manifest(&nginx, &image("other layer"), Some(&tag)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TagImmutable);
    for _ in 0..2 {
        assert_eq!(ecr.mutability(&nginx, &tag).await.unwrap(), Mutability::Immutable);
    }
    let described = fixture.operations().iter().filter(|o| *o == "DescribeRepositories").count();
    assert_eq!(described, 1);
}

#[tokio::test]
async fn refused_pushes_have_different_kinds() {
    let fixture = EcrFixture::new().await;
    let (ecr, nginx, gone) = (&fixture.ecr, named("nginx"), named("gone"));
    ecr.ensure(&nginx).await.unwrap();
    let layer = blob("layer");
    for (case, result, expected) in [
        (
            "content is missing",
            ecr.push_manifest(&nginx, &image("layer"), None).await,
            Kind::ContentMissing,
        ),
        (
            "no repository for a manifest",
            ecr.push_manifest(&gone, &image("layer"), None).await,
            Kind::RepositoryMissing,
        ),
        (
            "no repository for a blob",
            push(ecr, &gone, &layer, body("layer")).await,
            Kind::RepositoryMissing,
        ),
    ] {
        assert_eq!(result.map_err(|error| error.kind()), Err(expected), "{case}");
    }
}

#[tokio::test]
async fn an_empty_blob_is_refused_before_any_request() {
    let fixture = EcrFixture::new().await;
    let (nginx, empty) = (named("nginx"), blob(""));
    let pushed = push(&fixture.ecr, &nginx, &empty, body("")).await.unwrap_err();
    let mounted = fixture.ecr.mount(&nginx, &empty, &named("team/b")).await.unwrap_err();
    for error in [pushed, mounted] {
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.remedy().is_some());
    }
    assert_eq!(fixture.sandbox.journal(), []);
}

#[tokio::test]
async fn a_closed_connection_is_a_missing_repository_only_if_it_is_missing() {
    let fixture = EcrFixture::new().await;
    fixture.ecr.ensure(&named("there")).await.unwrap();
    for (name, kind, expected) in [
        ("gone", Kind::Unavailable, Kind::RepositoryMissing),
        ("there", Kind::Unavailable, Kind::Unavailable),
        ("gone", Kind::Denied, Kind::Denied),
    ] {
        let closed: Result<()> = Err(Error::new(kind, "closed"));
        let error = fixture.ecr.explain_push(&named(name), closed).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_login_that_expires_during_a_run_is_renewed() {
    let fixture = EcrFixture::new().await;
    let nginx = named("nginx");
    fixture.ecr.ensure(&nginx).await.unwrap();
    fixture.push(&nginx, "one").await;
    fixture.fault("expire-tokens*1");
    fixture.push(&nginx, "two").await;
    assert_eq!(fixture.operations().iter().filter(|o| *o == "GetAuthorizationToken").count(), 2);
}

#[tokio::test]
async fn throttled_commits_continue_at_half_the_rate() {
    let fixture = EcrFixture::new().await;
    let nginx = named("nginx");
    fixture.ecr.ensure(&nginx).await.unwrap();
    fixture.commit(&nginx, "layer", None).await;
    fixture.fault("throttle@ecr:PUT/manifests*1");
    fixture.ecr.push_manifest(&nginx, &image("layer"), None).await.unwrap();
    assert_eq!(fixture.contexts.destination.stats.throttled.value(), 1);
    let commits = fixture.ecr.session.api.quotas().of_registry().commit.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    for _ in 0..20 {
        commits.acquire().await;
    }
    // at 8 a second, two of them at once, it would be 2.5 s
    let seconds = begun.elapsed().as_secs_f64();
    assert!(seconds > 2.6, "{seconds}");
}

#[tokio::test]
async fn optional_permissions_can_be_missing() {
    let fixture = EcrFixture::new().await;
    let (nginx, tag) = (named("nginx"), tagged("1"));
    fixture.ecr.ensure(&nginx).await.unwrap();
    fixture.commit(&nginx, "layer", Some(&tag)).await;
    for action in ["ListImages", "GetAccountSetting"] {
        fixture.fault(&format!("deny={action}"));
    }
    let current = fixture.ecr.current_tags(&nginx, std::slice::from_ref(&tag)).await.unwrap();
    assert_eq!(current.unwrap()[&tag], *image("layer").digest());
    assert_eq!(fixture.ecr.mounting().await, Mounting::Never);

    fixture.fault("deny=BatchGetImage");
    let error = fixture.ecr.current_tags(&nginx, &[tag]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.remedy().unwrap().contains("ecr:BatchGetImage"), "{error:?}");
}

#[tokio::test]
async fn a_repository_that_cannot_be_created_fails_with_the_command_that_creates_it() {
    let fixture = EcrFixture::with(BlobMounting::Off, Create::Never).await;
    let error = fixture.ecr.ensure(&named("nginx")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RepositoryMissing);
    assert!(error.remedy().unwrap().contains("aws ecr create-repository"), "{error:?}");

    let fixture = EcrFixture::new().await;
    fixture.fault("deny=CreateRepository");
    let error = fixture.ecr.ensure(&named("nginx")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.remedy().unwrap().contains("ecr:CreateRepository"), "{error:?}");
}

#[tokio::test]
async fn a_role_is_assumed_in_the_sandbox_too() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let sessions = AwsSessions::new(Network::Sandbox(sandbox.address()), Arc::default());
    let host: Host = HOST.parse().unwrap();
    let identity = Identity {
        role_arn: Some("arn:aws:iam::210987654321:role/mirror".to_owned()),
        external_id: Some("e1".to_owned()),
        ..Identity::of(&host)
    };
    let session = sessions.session(identity).await;
    assert_eq!(session.login.endpoint().await.unwrap().host_str(), Some(HOST));
}

#[test]
fn only_an_emulator_names_the_registrys_url() {
    let ecr = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
    let own = "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    for (configured, named, expected) in [
        (ecr, own, format!("https://{ecr}/")),
        (ecr, "http://127.0.0.1:4566", "http://127.0.0.1:4566/".to_owned()),
        ("localhost:4566", "http://127.0.0.1:5000", "http://127.0.0.1:5000/".to_owned()),
        ("localhost:4566", own, format!("{own}/")),
    ] {
        let actual = registry_url(&configured.parse().unwrap(), named.parse().unwrap());
        assert_eq!(actual.as_str(), expected, "{configured} {named}");
    }
}

#[tokio::test]
async fn ecr_conforms_to_the_traits_of_the_seam() {
    for mounting in [BlobMounting::Off, BlobMounting::On] {
        let world = EcrFixture::with(mounting, Create::Missing).await;
        check_destination(&world.ecr, DigestCheck::ByDestination).await;
        check_source(Arc::clone(world.ecr.data_plane().await.unwrap())).await;
    }
}
