//! Asks the questions of the checks: sends the requests, and hands the answers to [`judge`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_ecr::primitives::{DateTime, DateTimeFormat};
use futures::{FutureExt, StreamExt, TryStreamExt, future::LocalBoxFuture, stream};
use http::{HeaderMap, Method, header::DATE};
use tokio::net::lookup_host;
use url::Url;

use super::{
    judge::{self, Finding, RepositoryTags},
    specs::{CheckSubject, PlannedCheck, Question, is_writing},
};
use crate::{
    config::{Cache, Config, DestinationConfig, Entry, Tags},
    ecr::{
        Ecr, account,
        caller::identity,
        probe::{self, PROBES},
    },
    engine::{Mode, Options, Shutdown},
    iam::destination_actions,
    model::{
        Create, DestinationId, EcrHost, Error, Host, Kind, Repository, Result, TagQuery,
        check_report::CheckResult, ecr_settings::Reconcile, event::Silent, hints, outcome::Row,
        text,
    },
    registry::{PROXY_VARIABLES, Registry, Scheme, list_tags, settings::base},
    remote::{Mutability, Provision, PullLimits, Source},
    run::{
        pull_through::{rules::validate_cache, sites::sites},
        registries::Registries,
        sync::{ImagesToSync, SyncRequest, run},
    },
};

/// The most repositories that one check asks about, spread over all.
const SAMPLE: usize = 20;

/// Questions about repositories in parallel.
const PARALLEL: usize = 8;

pub(super) struct Queries<'a> {
    pub(super) registries: &'a Registries,
    /// The error of connections that cannot be set up.
    pub(super) connections: Result<()>,
    pub(super) config: &'a Config,
    /// Calls that leave something behind are allowed.
    pub(super) writes: bool,
}

/// A destination on ECR, with the repositories that are mirrored to it.
struct EcrTarget<'a> {
    id: DestinationId,
    config: &'a DestinationConfig,
    host: &'a Host,
}

impl<'a> Queries<'a> {
    /// Asks one check. Boxed: the futures of all questions are large together.
    pub(super) fn ask(&'a self, check: &'a PlannedCheck<'a>) -> LocalBoxFuture<'a, Finding> {
        async move { self.answer(check).await.unwrap_or_else(|error| Finding::fail(&error)) }
            .boxed_local()
    }

    async fn answer(&self, check: &PlannedCheck<'_>) -> Result<Finding> {
        match check.subject {
            CheckSubject::Machine => self.of_machine(check.spec.question).await,
            CheckSubject::Destination { id, config, host } if config.is_ecr() => {
                self.of_ecr(check, &EcrTarget { id, config, host }).await
            }
            CheckSubject::Destination { id, host, .. } => self.registry_login(id, host).await,
            CheckSubject::Source(host) => self.of_source(check.spec.question, host).await,
            CheckSubject::Cache { cache, destination } => self.cache_rule(cache, destination).await,
        }
    }

    async fn of_machine(&self, question: Question) -> Result<Finding> {
        Ok(match question {
            Question::Configuration => match self.config.warnings.len() {
                0 => Finding::ok("valid, without warnings"),
                count => Finding::warn(text::count(count, "warning"), "run `ecr-mirror check`"),
            },
            Question::OpenFiles => {
                let images = ImagesToSync::all(self.config);
                let fits = self.registries.fit_open_files(self.config, &images);
                Finding::of(fits, |()| "the limit allows a connection to each registry".to_owned())
            }
            Question::Network => Finding::of(self.connections.clone(), |()| self.route()),
            _ => self.names().await,
        })
    }

    /// The way of requests, without the value of a variable.
    fn route(&self) -> String {
        if self.registries.is_sandbox() {
            return "embedded registries on loopback".to_owned();
        }
        match &proxy_variables()[..] {
            [] => "direct, without a proxy".to_owned(),
            names => format!("through a proxy, for registries and AWS ({})", names.join(", ")),
        }
    }

    async fn names(&self) -> Finding {
        if self.registries.is_sandbox() {
            return Finding::skip("embedded registries need no names");
        }
        if proxy_variables().iter().any(|name| !name.eq_ignore_ascii_case("no_proxy")) {
            return Finding::skip("the proxy resolves names");
        }
        let mut urls: Vec<Url> = Vec::new();
        let sources = self.config.entries.iter().map(|entry| &entry.host);
        let destinations = self.config.destinations.iter().filter_map(|to| to.registry.host());
        urls.extend(sources.chain(destinations).filter_map(|host| base(host, Scheme::Usual).ok()));
        let names: BTreeSet<(String, u16)> = urls.iter().filter_map(address).collect();
        let resolve = async |name: String, port: u16| {
            let error = lookup_host((name.as_str(), port)).await.err()?;
            Some((name, error.to_string()))
        };
        let all = names.len();
        let found = stream::iter(names).map(|(name, port)| resolve(name, port)).buffered(PARALLEL);
        judge::names(&found.filter_map(async |it| it).collect::<Vec<_>>().await, all)
    }

    async fn of_ecr(&self, check: &PlannedCheck<'_>, to: &EcrTarget<'_>) -> Result<Finding> {
        let EcrTarget { id, config, host } = *to;
        Ok(match check.spec.question {
            Question::Api => {
                let headers = self.reach_api(to).await?;
                let date = if headers.contains_key(DATE) { "" } else { " without a date" };
                Finding::ok(format!("answers{date}"))
            }
            Question::Clock => match self.reach_api(to).await?.get(DATE) {
                Some(date) => {
                    let date = date.to_str().unwrap_or_default();
                    match DateTime::from_str(date, DateTimeFormat::HttpDate) {
                        Ok(date) => judge::clock(
                            SystemTime::now(),
                            SystemTime::UNIX_EPOCH
                                + Duration::from_secs(date.secs().try_into().unwrap_or_default()),
                        ),
                        Err(_) => Finding::skip("the answer of AWS has no valid date"),
                    }
                }
                None => Finding::skip("the answer of AWS has no date"),
            },
            Question::DataPlane if config.aws.endpoint_url.is_some() => {
                Finding::ok("the API of `endpoint_url` names its address, which `ecr-login` asks")
            }
            Question::DataPlane => {
                let mut url = base(host, Scheme::Https)?;
                url.set_path("/v2/");
                self.registries.reach(self.config, Method::GET, url).await?;
                Finding::ok("answers")
            }
            Question::Storage => match EcrHost::parse(host) {
                // a push does not read layers; clients that pull do
                Some(ecr) => match self.reach_storage(&ecr).await {
                    Ok(()) => Finding::ok("answers"),
                    Err(error) => Finding::fail(&error).into_warning(),
                },
                None => Finding::skip("an emulator has its own storage"),
            },
            Question::Identity => {
                let session = self.registries.session(config, host).await;
                let renews = session.api.identity().role_arn.is_some();
                judge::identity(identity(&session).await, renews, SystemTime::now())
            }
            Question::Login => {
                let ecr = self.ecr(to).await?;
                let repository = self.repositories(id).into_iter().next();
                let registry = ecr.data_plane().await?;
                match repository {
                    Some(repository) => registry.check_login(&repository).await?,
                    None => drop(ecr.session().login.endpoint().await?),
                }
                Finding::ok("the registry accepts the login")
            }
            Question::Account => self.account(to).await?,
            Question::Action => self.action(check, to).await?,
            Question::OtherActions => self.other_actions(id),
            Question::PullThroughOverlap => {
                let ecr = self.ecr(to).await?;
                let checked = each(self.repositories(id), async |it| ecr.check_writable(it).await);
                judge::repositories(checked.await, "no pull-through rule covers one of them")
            }
            Question::Repositories => self.required_repositories(to).await?,
            Question::Immutability => self.immutability(to).await?,
            Question::Lifecycle => self.lifecycle(to).await?,
            Question::ImageQuota => self.image_quota(to).await?,
            Question::BlobMounting => {
                let session = self.registries.session(config, host).await;
                Finding::of(account::mounts(&session.api).await, |is_on| match is_on {
                    true => "on: shared layers are mounted".to_owned(),
                    false => "off: shared layers are uploaded to each repository; set \
                              `blob_mounting = true` in `[destination.account]` to mount them"
                        .to_owned(),
                })
            }
            _ => {
                let session = self.registries.session(config, host).await;
                let puts = to.config.rates.steady("PutImage").unwrap_or_default();
                Finding::ok(format!(
                    "a run sends at most {puts} PutImage a second: 80 % of `rates`, by default of ECR's published rates; `aws service-quotas list-service-quotas --service-code ecr --region {}` prints the granted ones",
                    session.api.region()
                ))
            }
        })
    }

    async fn ecr(&self, to: &EcrTarget<'_>) -> Result<Ecr> {
        self.registries.ecr(self.config, to.config, to.host).await
    }

    async fn reach_api(&self, to: &EcrTarget<'_>) -> Result<HeaderMap> {
        let session = self.registries.session(to.config, to.host).await;
        self.registries.reach(self.config, Method::POST, session.endpoint().await?).await
    }

    /// Source: ECR user guide, "Interface VPC endpoints": the bucket of a region's layers.
    async fn reach_storage(&self, ecr: &EcrHost) -> Result<()> {
        let (region, partition) = (ecr.region(), ecr.partition());
        let suffix = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = format!("https://prod-{region}-starport-layer-bucket.s3.{region}.{suffix}/");
        let url = Url::parse(&url).map_err(|error| {
            Error::new(Kind::Configuration, "the region has no bucket of layers").because(error)
        })?;
        self.registries.reach(self.config, Method::GET, url).await.map(drop)
    }

    /// Up to [`SAMPLE`] of the repositories that are mirrored to a destination.
    fn repositories(&self, id: DestinationId) -> Vec<Repository> {
        sample(destination_actions(self.config, id).repositories)
    }

    async fn account(&self, to: &EcrTarget<'_>) -> Result<Finding> {
        let session = self.registries.session(to.config, to.host).await;
        let has_caches = self.config.caches.iter().any(|it| it.destinations.contains(&to.id));
        let feature = match (to.config.account.is_empty(), has_caches) {
            (false, _) => Some(hints::ACCOUNT_SETTINGS),
            (true, true) => Some(hints::CACHE),
            (true, false) => None,
        };
        if let Some(feature) = feature {
            let own = account::own_account(&session, to.host, feature).await?;
            return Ok(judge::account(&own, &own));
        }
        let Some(wanted) = EcrHost::parse(to.host) else {
            return Ok(Finding::skip("an emulator has its own account"));
        };
        let named = session.login.endpoint().await?;
        let own = named.host_str().and_then(|host| EcrHost::parse(&host.parse().ok()?));
        Ok(match own {
            Some(own) => judge::account(own.account(), wanted.account()),
            None => Finding::skip("the login names no account"),
        })
    }

    async fn action(&self, check: &PlannedCheck<'_>, to: &EcrTarget<'_>) -> Result<Finding> {
        if is_writing(check.spec) && !self.writes {
            return Ok(Finding::skip("asked only with `--write`"));
        }
        let (ecr, action) = (self.ecr(to).await?, check.spec.id);
        let all = match takes_repository(action) {
            true => destination_actions(self.config, to.id).repositories,
            // the call names none
            false => vec!["none".parse().expect("it is a name")],
        };
        let count = all.len();
        let answers = each(sample(all), async |it| probe::ask(&ecr, action, it).await).await;
        let finding = judge::action(answers, count);
        // a run that lacks it does not name the time of a push
        let is_failed = finding.result == CheckResult::Fail;
        let is_optional = is_failed && action == "ecr:DescribeImages";
        Ok(if is_optional { finding.into_warning() } else { finding })
    }

    fn other_actions(&self, id: DestinationId) -> Finding {
        let is_asked = |action: &&str| {
            *action == "ecr:GetAuthorizationToken"
                || PROBES.iter().any(|probe| probe.action == *action)
        };
        let mut actions = destination_actions(self.config, id).actions;
        actions.retain(|action| !is_asked(action));
        match actions.is_empty() {
            true => Finding::ok("every action is asked for"),
            false => {
                Finding::skip(format!("only a run asks for {}", Vec::from_iter(actions).join(", ")))
            }
        }
    }

    /// The repositories that a run does not create must exist.
    async fn required_repositories(&self, to: &EcrTarget<'_>) -> Result<Finding> {
        if to.config.repositories.create.is_ours() {
            return Ok(Finding::ok("a run creates missing repositories"));
        }
        let (ecr, is_on_push) =
            (self.ecr(to).await?, to.config.repositories.create == Create::OnPush);
        let repositories = ecr.repositories();
        let check = async |repository: &Repository| match is_on_push
            && repositories.prefix_rules.creates_on_push(repository).await
        {
            true => Ok(()),
            false => repositories.require(repository).await,
        };
        let checked = each(self.repositories(to.id), check).await;
        Ok(judge::repositories(checked, "exist, or a push creates them"))
    }

    /// Plans the images of the repositories with immutable tags, without a pull.
    async fn immutability(&self, to: &EcrTarget<'_>) -> Result<Finding> {
        let ecr = &self.ecr(to).await?;
        let selected = selected_tags(self.config, to.id);
        let sampled: Vec<_> = sample(selected.into_iter().collect());
        let is_immutable = async |(repository, tags): &(&Repository, RepositoryTags)| {
            for tag in &tags.known {
                match ecr.mutability(repository, tag).await {
                    Ok(Mutability::Immutable) => return Ok(true),
                    Ok(Mutability::Mutable) => {}
                    Err(error) if error.kind() == Kind::RepositoryMissing => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Ok(false)
        };
        let answers: Vec<Result<bool>> = each(sampled.clone(), is_immutable).await;
        let mut immutable: BTreeSet<&Repository> = BTreeSet::new();
        for ((repository, _), answer) in sampled.iter().zip(answers) {
            if answer? {
                immutable.insert(repository);
            }
        }
        let goes_there = |entry: &&Entry| {
            let mut targets = entry.mirrored.iter();
            targets.any(|it| it.destination == to.id && immutable.contains(&it.repository))
        };
        let entries: Vec<&Entry> = self.config.entries.iter().filter(goes_there).collect();
        let rows = if entries.is_empty() { Vec::new() } else { self.plan(entries).await? };
        Ok(judge::immutability(&rows, immutable.len()))
    }

    async fn plan(&self, entries: Vec<&Entry>) -> Result<Vec<Row>> {
        let (mode, transfers) = (Mode::PlanWithoutPulls, PARALLEL);
        let options = Options { mode, transfers, ..Options::default() };
        let images = ImagesToSync::Entries(entries);
        let request = SyncRequest { config: self.config, images, options };
        let shutdown = Shutdown::default();
        Ok(run(self.registries, request, Arc::new(Silent), &shutdown).boxed_local().await?.images)
    }

    /// The policies that the repositories have, or will get when they are created.
    async fn lifecycle(&self, to: &EcrTarget<'_>) -> Result<Finding> {
        let ecr = &self.ecr(to).await?;
        let rules = &to.config.repositories;
        let policy = async |(repository, tags): &(&Repository, RepositoryTags)| {
            let written = rules.settings.lifecycle.clone();
            let keeps_own = rules.reconcile == Reconcile::Never || written.is_none();
            let policy = match ecr.repositories().api.lifecycle(repository).await {
                Ok(existing) if keeps_own => existing,
                Ok(_) => written,
                Err(error) if error.kind() == Kind::RepositoryMissing => written,
                // not an action of `iam mirror` unless the configuration has a lifecycle
                Err(error) if error.kind() == Kind::Denied && written.is_none() => None,
                Err(error) => return Err(error),
            };
            Ok((Repository::clone(repository), policy, tags.clone()))
        };
        let selected = sample(selected_tags(self.config, to.id).into_iter().collect());
        let policies: Vec<Result<_>> = each(selected, policy).await;
        Ok(judge::lifecycle(&policies.into_iter().collect::<Result<Vec<_>>>()?))
    }

    async fn image_quota(&self, to: &EcrTarget<'_>) -> Result<Finding> {
        let ecr = &self.ecr(to).await?;
        let repositories = self.repositories(to.id);
        let count = async |repository: &Repository| match ecr.images().count(repository).await {
            Err(error) if error.kind() == Kind::RepositoryMissing => Ok(0),
            counted => counted,
        };
        let counts: Vec<Result<usize>> = each(repositories.clone(), count).await;
        let counts: Vec<usize> = counts.into_iter().collect::<Result<_>>()?;
        let counts: Vec<_> = repositories.iter().zip(counts).collect();
        Ok(judge::image_quota(&counts))
    }

    async fn registry_login(&self, id: DestinationId, host: &Host) -> Result<Finding> {
        let targets = self.config.entries.iter().flat_map(|entry| &entry.mirrored);
        let Some(target) = targets.into_iter().find(|target| target.destination == id) else {
            return Ok(Finding::skip("nothing is mirrored to it"));
        };
        let registry = self.registries.plain_destination(self.config, host).await?;
        registry.check_login(&target.repository).await?;
        Ok(Finding::ok(format!("answers, {}", login(&registry, &target.repository))))
    }

    async fn of_source(&self, question: Question, host: &Host) -> Result<Finding> {
        let registry = self.registries.source(self.config, host).await?;
        let entries = self.config.entries.iter();
        let entries: Vec<&Entry> =
            entries.filter(|it| it.host == *host && !it.mirrored.is_empty()).collect();
        if question == Question::PullLimit {
            let table = self.config.registries.get(host);
            let reserved = table.map_or(0, |table| table.reserve_pulls);
            let tags = entries.iter().map(|entry| match &entry.tags {
                Tags::Exact(tags) => tags.len(),
                Tags::Pinned { .. } => 1,
                Tags::Selected(selection) => selection.newest.unwrap_or(1),
            });
            return Ok(judge::pull_limit(registry.allowance(), reserved, tags.sum()));
        }
        if let Some(ecr) = EcrHost::parse(host) {
            self.reach_storage(&ecr).await?;
        }
        let sampled = sample(entries);
        let asked = each(sampled.clone(), async |entry| self.read(&registry, entry).await).await;
        let text = match sampled.first() {
            Some(entry) => login(&registry, &entry.repository),
            None => "nothing is mirrored from it",
        };
        Ok(judge::repositories(asked, &format!("can be read, {text}")))
    }

    /// Resolves a tag of the entry, or the first one that its repository lists.
    async fn read(&self, registry: &Registry, entry: &Entry) -> Result<()> {
        let repository = &entry.repository;
        match &entry.tags {
            Tags::Exact(tags) => registry.resolve(repository, &tags[0]).await.map(drop),
            // the embedded upstreams cannot make up a digest
            Tags::Pinned { .. } if self.registries.is_sandbox() => Ok(()),
            Tags::Pinned { digest, .. } => registry.probe_manifest(repository, digest).await,
            Tags::Selected(_) => {
                let page = list_tags(registry, repository, TagQuery::Names).try_next().await?;
                match page.and_then(|tags| tags.into_iter().next()) {
                    Some(listed) => registry.resolve(repository, &listed.tag).await.map(drop),
                    None => Ok(()),
                }
            }
        }
    }

    async fn cache_rule(&self, cache: &Cache, to: &DestinationConfig) -> Result<Finding> {
        let sites = sites(self.config, std::slice::from_ref(&to.name))?;
        let Some(site) = sites.first() else {
            return Ok(Finding::skip("the destination is not on ECR"));
        };
        Ok(judge::cache_rule(validate_cache(self.registries, site, cache).boxed_local().await))
    }
}

/// The variables that name a proxy or its exceptions. Their values can contain a password.
fn proxy_variables() -> Vec<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let exceptions = ["NO_PROXY", "no_proxy"];
    PROXY_VARIABLES.into_iter().flatten().chain(exceptions).filter(is_set).collect()
}

/// The name and port to resolve; `None` for this machine and for addresses.
fn address(url: &Url) -> Option<(String, u16)> {
    let name = url.domain().filter(|name| *name != "localhost")?;
    Some((name.to_owned(), url.port_or_known_default()?))
}

fn login(registry: &Registry, repository: &Repository) -> &'static str {
    if registry.has_credentials(repository) { "with credentials" } else { "without credentials" }
}

/// Returns `true` for an action whose permission depends on the repository.
fn takes_repository(action: &str) -> bool {
    const WITHOUT: [&str; 5] = [
        "ecr:DescribePullThroughCacheRules",
        "ecr:DescribeRepositoryCreationTemplates",
        "ecr:GetAccountSetting",
        "ecr:GetRegistryScanningConfiguration",
        "ecr:ListPullTimeUpdateExclusions",
    ];
    !WITHOUT.contains(&action)
}

/// Up to [`SAMPLE`] items, spread over all.
fn sample<T>(items: Vec<T>) -> Vec<T> {
    let step = items.len().div_ceil(SAMPLE).max(1);
    items.into_iter().step_by(step).collect()
}

/// Asks about each item, some of them in parallel; the answers in the order of the items.
async fn each<T, R>(items: Vec<T>, ask: impl AsyncFn(&T) -> R) -> Vec<R> {
    let ask = &ask;
    stream::iter(items)
        .map(|item| async move { ask(&item).await })
        .buffered(PARALLEL)
        .collect()
        .await
}

/// The tags that are mirrored to each repository of a destination.
pub(super) fn selected_tags(
    config: &Config,
    id: DestinationId,
) -> BTreeMap<&Repository, RepositoryTags> {
    let mut all: BTreeMap<&Repository, RepositoryTags> = BTreeMap::new();
    for entry in &config.entries {
        for target in entry.mirrored.iter().filter(|target| target.destination == id) {
            let tags = all.entry(&target.repository).or_default();
            match &entry.tags {
                Tags::Selected(selection) => tags.unknown += selection.newest.unwrap_or(1),
                Tags::Exact(names) if entry.retag.needs_digest() => tags.unknown += names.len(),
                Tags::Exact(names) => {
                    tags.known
                        .extend(names.iter().filter_map(|it| entry.retag.apply(it, None).ok()));
                }
                Tags::Pinned { digest, tag } => {
                    tags.known.extend(entry.retag.apply(tag, Some(digest)).ok());
                }
            }
        }
    }
    all
}
