//! Plans applied to the sandbox's ECR and Secrets Manager, over a socket.

mod interruption;

use std::ops::ControlFlow;

use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    apply::{Applied, apply},
    changes::{CachedRepositories, Desired, Replace, changes, removals},
    fetch_state::{self, RepositoryQuery},
    state::{Content, EcrRegistry, Observed, Planned, PolicyScope},
};
use crate::{
    ecr::{AwsSession, Identity},
    model::{
        Kind,
        ecr_settings::RepositorySettings,
        pull_through::{Access, Cache, TemplateSettings, Upstream, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    registry::Network,
    remote::HostContext,
    sandbox::{Options, Sandbox},
};

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const HUB_SECRET: &str = "ecr-pullthroughcache/docker-hub";
const TOKEN: &str = "dckr_pat_hidden";

/// A registry and its configuration.
struct CacheFixture {
    sandbox: Sandbox,
    session: AwsSession,
    registry: EcrRegistry,
    caches: Vec<Cache>,
    replace: Replace,
    prune: bool,
    repositories: CachedRepositories,
}

impl CacheFixture {
    /// An empty registry, and a configuration with caches of Docker Hub and Quay.
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let host = HOST.parse().unwrap();
        let network = Network::Sandbox(sandbox.address());
        let session =
            AwsSession::open(Identity::of(&host), network, HostContext::default().into()).await;
        let registry = EcrRegistry::of(&host).unwrap();
        let caches = vec![hub(), cache(Upstream::Quay, UpstreamCredentials::Nothing)];
        let (replace, prune) = (Replace::Never, false);
        let repositories = CachedRepositories::Keep;
        Self { sandbox, session, registry, caches, replace, prune, repositories }
    }

    fn fault(&self, fault: &str) {
        self.sandbox.faults().add(fault.parse().unwrap());
    }

    async fn observed(&self) -> Observed {
        let caches: Vec<&Cache> = self.caches.iter().collect();
        let query = match self.repositories {
            CachedRepositories::Keep => RepositoryQuery::Settings,
            _ => RepositoryQuery::Images,
        };
        fetch_state::observe(&self.session, &caches, query).await.unwrap()
    }

    async fn decide<T>(&self, decide: impl FnOnce(&Desired<'_>, &Observed) -> T) -> T {
        let caches: Vec<&Cache> = self.caches.iter().collect();
        let Self { registry, replace, prune, repositories, .. } = self;
        let (replace, prune, repositories) = (*replace, *prune, *repositories);
        let desired =
            Desired { registry, caches: &caches, on_push: &[], replace, prune, repositories };
        decide(&desired, &self.observed().await)
    }

    async fn plan(&self) -> Vec<Planned> {
        self.decide(changes).await
    }

    async fn apply<'p>(&self, planned: &'p [Planned]) -> Applied<'p> {
        let host = &self.registry.host;
        apply(&self.session, host, planned, |_| ControlFlow::Continue(())).await
    }

    /// Plans and applies; both must succeed.
    async fn set_up(&self) {
        let planned = self.plan().await;
        let applied = self.apply(&planned).await;
        assert_eq!((applied.failures.len(), applied.left.len()), (0, 0), "{applied:?}");
    }

    async fn create_repository(&self, name: &str) {
        let create = self
            .session
            .api
            .call("CreateRepository", |ecr| ecr.create_repository().repository_name(name).send());
        create.await.unwrap();
    }

    /// The write operations so far.
    fn writes(&self) -> Vec<String> {
        let journal = self.sandbox.journal().into_iter();
        journal.filter(|entry| entry.is_write()).filter_map(|entry| entry.operation).collect()
    }
}

fn cache(upstream: Upstream, credentials: UpstreamCredentials) -> Cache {
    Cache { credentials, ..Cache::of(upstream) }
}

fn hub() -> Cache {
    let access_token = TOKEN.to_owned().into();
    let credentials = UpstreamCredentials::Written { username: "someone".to_owned(), access_token };
    let lifecycle = json!({ "rules": [{
        "rulePriority": 1,
        "selection": {
            "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days",
            "countNumber": 30,
        },
        "action": { "type": "expire" },
    }] });
    let settings =
        RepositorySettings { lifecycle: Some(lifecycle), ..RepositorySettings::default() };
    let accounts = vec!["210987654321".to_owned()];
    Cache {
        template: Some(TemplateSettings { settings, ..TemplateSettings::default() }),
        access: Some(Access { accounts, ..Access::default() }),
        ..cache(Upstream::DockerHub, credentials)
    }
}

fn names(planned: &[Planned]) -> Vec<(Action, Subject)> {
    planned.iter().map(|planned| (planned.change.action, planned.change.kind)).collect()
}

#[tokio::test]
async fn an_applied_plan_leaves_nothing_to_plan() {
    let fixture = CacheFixture::new().await;
    let planned = fixture.plan().await;
    let applied = fixture.apply(&planned).await;
    assert_eq!((applied.made, applied.failures.len()), (planned.len(), 0), "{applied:?}");
    let observed = fixture.observed().await;
    assert_eq!(observed.rules.keys().collect::<Vec<_>>(), ["docker-hub", "quay"]);
    let secret = &observed.secrets[HUB_SECRET];
    assert_eq!(observed.rules["docker-hub"].credential_arn.as_ref(), Some(&secret.arn));
    let Content::Login(login) = &secret.content else { panic!("{secret:?}") };
    assert_eq!(login.username, "someone");
    assert_eq!(login.password.expose_secret(), TOKEN);
    assert!(observed.templates["docker-hub"].lifecycle.is_some());
    assert_eq!(names(&fixture.plan().await), []);
}

#[tokio::test]
async fn every_step_is_idempotent() {
    let fixture = CacheFixture::new().await;
    let planned = fixture.plan().await;
    fixture.apply(&planned).await;
    let again = fixture.apply(&planned).await;
    assert_eq!((again.made, again.failures.len()), (planned.len(), 0), "{again:?}");
    assert_eq!(names(&fixture.plan().await), []);
    let planned = fixture.decide(removals).await;
    fixture.apply(&planned).await;
    let again = fixture.apply(&planned).await;
    assert_eq!((again.made, again.failures.len()), (planned.len(), 0), "{again:?}");
    assert_eq!(names(&fixture.decide(removals).await), []);
}

#[tokio::test]
async fn a_different_rule_created_meanwhile_stays_and_stops_no_other_step() {
    let fixture = CacheFixture::new().await;
    let planned = fixture.plan().await;
    let foreign = fixture.session.api.call("CreatePullThroughCacheRule", |ecr| {
        let rule = ecr.create_pull_through_cache_rule().ecr_repository_prefix("quay");
        rule.upstream_registry_url("registry.k8s.io").send()
    });
    foreign.await.unwrap();
    let applied = fixture.apply(&planned).await;
    let [failure] = &applied.failures[..] else { panic!("{applied:?}") };
    assert!(failure.chain()[0].contains("rule `quay`"), "{failure:?}");
    assert!(failure.remedy().unwrap().contains("run again"), "{failure:?}");
    assert_eq!(applied.made, planned.len() - 1);
    assert_eq!(fixture.observed().await.rules["quay"].url, "registry.k8s.io");
}

#[tokio::test]
async fn a_different_secret_created_meanwhile_is_not_overwritten() {
    let fixture = CacheFixture::new().await;
    let planned = fixture.plan().await;
    let client = fixture.session.secrets();
    let theirs = r#"{"username":"other","accessToken":"theirs"}"#;
    client.create_secret().name(HUB_SECRET).secret_string(theirs).send().await.unwrap();
    let applied = fixture.apply(&planned).await;
    assert_eq!(applied.failures.len(), 1, "{applied:?}");
    let kept = client.get_secret_value().secret_id(HUB_SECRET).send().await.unwrap();
    assert_eq!(kept.secret_string(), Some(theirs));
}

#[tokio::test]
async fn a_failed_step_stops_only_the_steps_that_need_it() {
    let fixture = CacheFixture::new().await;
    fixture.fault("deny=CreateSecret");
    let planned = fixture.plan().await;
    let applied = fixture.apply(&planned).await;
    let [failure] = &applied.failures[..] else { panic!("{applied:?}") };
    assert_eq!(failure.kind(), Kind::Denied);
    assert!(failure.remedy().unwrap().contains("`ecr-mirror iam pull-through`"), "{failure:?}");
    assert!(!format!("{failure:?}").contains(TOKEN));
    let left: Vec<&str> = applied.left.iter().map(|left| left.change.name.as_str()).collect();
    assert_eq!(left, ["docker-hub"]);
    let observed = fixture.observed().await;
    assert_eq!(observed.rules.keys().collect::<Vec<_>>(), ["quay"]);
    assert!(observed.templates.contains_key("docker-hub"));
}

#[tokio::test]
async fn a_remaining_rule_keeps_its_secret() {
    let fixture = CacheFixture::new().await;
    fixture.set_up().await;
    fixture.fault("deny=DeletePullThroughCacheRule");
    let planned = fixture.decide(removals).await;
    let applied = fixture.apply(&planned).await;
    assert_eq!(applied.failures.len(), 2, "{applied:?}");
    let observed = fixture.observed().await;
    assert_eq!(observed.rules.len(), 2);
    assert!(matches!(observed.secrets[HUB_SECRET].content, Content::Login(_)));
}

#[tokio::test]
async fn a_rule_that_was_not_moved_away_keeps_a_secret_of_another_name() {
    let mut fixture = CacheFixture::new().await;
    fixture.caches = vec![hub()];
    fixture.set_up().await;
    let github = |arn: String| cache(Upstream::GitHub, UpstreamCredentials::Secret(arn));
    let theirs = fixture.observed().await.secrets[HUB_SECRET].arn.clone();
    fixture.caches.push(github(theirs));
    fixture.set_up().await;
    let client = fixture.session.secrets();
    let login = r#"{"username":"other","accessToken":"t"}"#;
    let made = client.create_secret().name("ecr-pullthroughcache/mine").secret_string(login);
    fixture.caches = vec![github(made.send().await.unwrap().arn.unwrap())];
    fixture.prune = true;
    let planned = fixture.plan().await;
    let deletion = (Action::Delete, Subject::Secret);
    assert!(names(&planned).contains(&deletion), "{planned:?}");
    fixture.fault("deny=UpdatePullThroughCacheRule");
    let applied = fixture.apply(&planned).await;
    assert_eq!(applied.failures.len(), 1, "{applied:?}");
    let left = applied.left.iter().map(|left| (left.change.action, left.change.kind));
    assert_eq!(left.collect::<Vec<_>>(), [deletion]);
    fixture.sandbox.faults().clear();
    fixture.set_up().await;
    assert_eq!(fixture.writes().last().map(String::as_str), Some("DeleteSecret"));
}

#[tokio::test]
async fn a_rule_stays_until_its_repositories_are_deleted() {
    let mut fixture = CacheFixture::new().await;
    fixture.set_up().await;
    fixture.create_repository("quay/a/b").await;
    fixture.repositories = CachedRepositories::DeleteAll;
    fixture.fault("deny=DeleteRepository");
    let planned = fixture.decide(removals).await;
    let applied = fixture.apply(&planned).await;
    assert_eq!(applied.failures.len(), 1, "{applied:?}");
    assert_eq!(fixture.observed().await.rules.keys().collect::<Vec<_>>(), ["quay"]);
    fixture.sandbox.faults().clear();
    let planned = fixture.decide(removals).await;
    let deleted = [(Action::Delete, Subject::Repository), (Action::Delete, Subject::Rule)];
    assert_eq!(names(&planned)[..2], deleted);
    fixture.apply(&planned).await;
    let observed = fixture.observed().await;
    assert!(observed.rules.is_empty() && observed.repositories.is_empty(), "{observed:?}");
}

#[tokio::test]
async fn an_interrupted_replacement_names_the_missing_rule_and_the_next_run_creates_it() {
    let mut fixture = CacheFixture::new().await;
    fixture.set_up().await;
    let quay = fixture.caches.last_mut().unwrap();
    (quay.upstream, quay.url) = (Upstream::K8s, "registry.k8s.io".to_owned());
    assert_eq!(names(&fixture.plan().await), [(Action::Conflict, Subject::Rule)]);
    fixture.replace = Replace::Differing;
    fixture.fault("deny=CreatePullThroughCacheRule");
    let planned = fixture.plan().await;
    assert_eq!(names(&planned), [(Action::Replace, Subject::Rule)]);
    let applied = fixture.apply(&planned).await;
    let [failure] = &applied.failures[..] else { panic!("{applied:?}") };
    assert!(failure.chain()[1].contains("the old rule is deleted"), "{failure:?}");
    fixture.sandbox.faults().clear();
    fixture.set_up().await;
    assert_eq!(fixture.observed().await.rules["quay"].url, "registry.k8s.io");
}

#[tokio::test]
async fn changed_credentials_are_written_to_the_same_secret() {
    let mut fixture = CacheFixture::new().await;
    fixture.set_up().await;
    let before = fixture.observed().await.secrets[HUB_SECRET].arn.clone();
    let access_token = "another".to_owned().into();
    fixture.caches[0].credentials =
        UpstreamCredentials::Written { username: "someone".to_owned(), access_token };
    fixture.set_up().await;
    let secret = &fixture.observed().await.secrets[HUB_SECRET];
    assert_eq!(secret.arn, before);
    assert!(
        matches!(&secret.content, Content::Login(it) if it.password.expose_secret() == "another")
    );
    assert_eq!(fixture.writes().last().map(String::as_str), Some("PutSecretValue"));
}

#[tokio::test]
async fn a_stop_between_two_steps_leaves_the_rest() {
    let fixture = CacheFixture::new().await;
    let planned = fixture.plan().await;
    let mut told = 0;
    let applied = apply(&fixture.session, &fixture.registry.host, &planned, |_| {
        told += 1;
        ControlFlow::Break(())
    });
    let applied = applied.await;
    assert_eq!((applied.made, applied.left.len()), (1, planned.len() - 1));
    assert_eq!((told, fixture.writes().len()), (1, 1));
}

#[tokio::test]
async fn unusable_secrets_are_reported_without_their_content() {
    let mut fixture = CacheFixture::new().await;
    let client = fixture.session.secrets();
    let wrong = r#"{"username":"u","password":"hidden"}"#;
    let made = client.create_secret().name("ecr-pullthroughcache/theirs").secret_string(wrong);
    let arn = made.send().await.unwrap().arn.unwrap();
    let elsewhere = arn.replace("eu-west-1", "us-west-2");
    fixture.caches = vec![
        cache(Upstream::GitHub, UpstreamCredentials::Secret(arn.clone())),
        cache(Upstream::GitLab, UpstreamCredentials::Secret(elsewhere)),
    ];
    fixture.fault("deny=GetAccountSetting");
    let observed = fixture.observed().await;
    assert_eq!(observed.scope, PolicyScope::Importing);
    assert_eq!(observed.registry_policy, None);
    assert_eq!(observed.secrets.keys().collect::<Vec<_>>(), [&arn]);
    let Content::Malformed(reason) = observed.secrets[&arn].content else { panic!("{observed:?}") };
    assert!(reason.contains("accessToken"), "{reason}");
    assert!(!format!("{observed:?}").contains("hidden"));
}
