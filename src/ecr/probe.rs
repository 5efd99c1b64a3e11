//! The cheapest harmless call of each action that a push needs, to find missing permissions before
//! a run.
//!
//! AWS checks the permission before it looks at the request, so that a call about content that
//! cannot exist tells it. A call with [`Effect::Nothing`] cannot write.

use http::Method;

use super::{
    Ecr, account, cache_api,
    repository_api::RepositoryApi,
    settings::{self, SettingUpdate},
};
use crate::model::{
    Digest, Error, Kind, MediaType, Repository, Result, ecr_settings::RepositorySettings,
};

/// The call that asks for the permission of an action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// As IAM names it, like `ecr:PutImage`.
    pub(crate) action: &'static str,
    pub(crate) effect: Effect,
    /// The call, and the reason why it is harmless.
    pub(crate) asks: &'static str,
}

/// The effect of a call that ECR allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// It writes, without a change of content or settings.
    Writes,
}

const fn reads(action: &'static str, asks: &'static str) -> Probe {
    Probe { action, effect: Effect::Nothing, asks }
}

const fn writes(action: &'static str, asks: &'static str) -> Probe {
    Probe { action, effect: Effect::Writes, asks }
}

/// The actions that [`ask`] asks for.
pub(crate) const PROBES: [Probe; 25] = [
    reads("ecr:BatchCheckLayerAvailability", "asks for a layer that cannot exist"),
    reads("ecr:BatchGetImage", "reads an image that cannot exist; no image counts as pulled"),
    reads("ecr:CompleteLayerUpload", "completes an upload that does not exist"),
    reads("ecr:DescribeImages", "describes an image that cannot exist"),
    reads("ecr:DescribePullThroughCacheRules", "lists the rules"),
    reads("ecr:DescribeRepositories", "describes a repository"),
    reads("ecr:DescribeRepositoryCreationTemplates", "lists the templates"),
    reads("ecr:GetAccountSetting", "reads the setting `BLOB_MOUNTING`"),
    reads("ecr:GetDownloadUrlForLayer", "asks for the URL of a layer that cannot exist"),
    reads("ecr:GetLifecyclePolicy", "reads a policy"),
    reads("ecr:GetRegistryScanningConfiguration", "reads the setting"),
    reads("ecr:GetRepositoryPolicy", "reads a policy"),
    reads("ecr:ListImages", "lists one image"),
    reads("ecr:ListPullTimeUpdateExclusions", "lists one exclusion"),
    reads("ecr:ListTagsForResource", "lists the tags of a repository"),
    reads("ecr:PutImage", "pushes a manifest whose layers cannot exist, which ECR refuses"),
    reads("ecr:UpdateImageStorageClass", "restores an image that cannot exist"),
    reads("ecr:UploadLayerPart", "sends a part of an upload that does not exist"),
    writes("ecr:CreateRepository", "creates a repository that exists, which ECR refuses"),
    writes("ecr:InitiateLayerUpload", "opens an upload, which ECR forgets without its end"),
    writes("ecr:PutImageScanningConfiguration", "writes the current setting"),
    writes("ecr:PutImageTagMutability", "writes the current setting"),
    writes("ecr:PutLifecyclePolicy", "writes the current policy"),
    writes("ecr:SetRepositoryPolicy", "writes the current policy"),
    writes("ecr:TagResource", "writes the current tags"),
];

/// A digest that no content has.
fn missing_digest() -> Digest {
    let text = format!("sha256:{}", "0".repeat(64));
    text.parse().expect("it is a digest")
}

/// A manifest that no registry accepts: its configuration and its layer cannot exist.
fn impossible_manifest() -> String {
    let digest = missing_digest();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":2}}]}}"#,
        oci = MediaType::OciManifest,
    )
}

/// Asks ECR for this action of [`PROBES`].
///
/// # Errors
/// [`Kind::Denied`] without the permission. [`Kind::NotFound`], [`Kind::RepositoryMissing`] and
/// [`Kind::ContentMissing`] are answers of an allowed call.
pub(crate) async fn ask(ecr: &Ecr, action: &str, repository: &Repository) -> Result<()> {
    let repositories = &ecr.repositories().api;
    let (api, account) = (&repositories.api, &repositories.account);
    let digest = missing_digest();
    match action {
        "ecr:BatchCheckLayerAvailability" => {
            ecr.images().blob_sizes(repository, &[digest]).await.map(drop)
        }
        "ecr:BatchGetImage" => ecr.images().manifests(repository, &[digest]).await.map(drop),
        "ecr:CompleteLayerUpload" => continue_upload(ecr, repository, Method::PUT).await,
        "ecr:DescribeImages" => ecr.images().pushed_at(repository, &digest).await.map(drop),
        "ecr:DescribePullThroughCacheRules" => {
            cache_api::rules(api, account.as_deref()).await.map(drop)
        }
        "ecr:DescribeRepositories" => repositories.describe(repository).await.map(drop),
        "ecr:DescribeRepositoryCreationTemplates" => {
            cache_api::templates(api, account.as_deref()).await.map(drop)
        }
        "ecr:GetAccountSetting" => account::mounts(api).await.map(drop),
        "ecr:GetDownloadUrlForLayer" => {
            let call = api.call("GetDownloadUrlForLayer", |ecr| {
                let request = in_repository!(ecr.get_download_url_for_layer(), account, repository);
                request.layer_digest(digest.as_str()).send()
            });
            call.await.map(drop)
        }
        "ecr:GetLifecyclePolicy" => repositories.lifecycle(repository).await.map(drop),
        "ecr:GetRegistryScanningConfiguration" => {
            let call = api.call("GetRegistryScanningConfiguration", |ecr| {
                ecr.get_registry_scanning_configuration().send()
            });
            call.await.map(drop)
        }
        "ecr:GetRepositoryPolicy" => repositories.policy(repository).await.map(drop),
        "ecr:InitiateLayerUpload" => {
            let opened = ecr.data_plane().await?.pull_push(repository).open_upload().await;
            opened.map(drop).map_err(super::failure::explain_denied)
        }
        "ecr:ListImages" => repositories.is_empty(repository).await.map(drop),
        "ecr:ListPullTimeUpdateExclusions" => {
            let call = api.call("ListPullTimeUpdateExclusions", |ecr| {
                ecr.list_pull_time_update_exclusions().max_results(1).send()
            });
            call.await.map(drop)
        }
        "ecr:ListTagsForResource" => {
            let described = repositories.describe(repository).await?;
            repositories.tags(described.repository_arn().unwrap_or_default()).await.map(drop)
        }
        "ecr:PutImage" => {
            let manifest = impossible_manifest();
            let call = api.call("PutImage", |ecr| {
                in_repository!(ecr.put_image(), account, repository)
                    .image_manifest(&manifest)
                    .image_manifest_media_type(MediaType::OciManifest.as_str())
                    .send()
            });
            call.await.map(drop)
        }
        "ecr:UpdateImageStorageClass" => ecr.images().restore(repository, &digest).await.map(drop),
        "ecr:UploadLayerPart" => continue_upload(ecr, repository, Method::PATCH).await,
        _ => write_back(repositories, action, repository).await,
    }
}

/// Writes a setting of an existing repository back, so that nothing changes.
///
/// # Errors
/// [`Kind::Unsupported`] if there is nothing to write back.
async fn write_back(api: &RepositoryApi, action: &str, repository: &Repository) -> Result<()> {
    let nothing = |problem: &str| Err(Error::new(Kind::Unsupported, problem));
    let described = match api.describe(repository).await {
        Err(error) if error.kind() == Kind::RepositoryMissing => {
            return nothing("the repository does not exist yet");
        }
        described => described?,
    };
    let current = settings::current(&described);
    let update = match action {
        "ecr:CreateRepository" => {
            let settings = RepositorySettings::default();
            return api.create(repository, &settings).await.map(drop);
        }
        "ecr:PutImageScanningConfiguration" => {
            Some(SettingUpdate::ScanOnPush(current.scan_on_push))
        }
        "ecr:PutImageTagMutability" => Some(SettingUpdate::Mutability(current.mutability)),
        "ecr:PutLifecyclePolicy" => api.lifecycle(repository).await?.map(SettingUpdate::Lifecycle),
        "ecr:SetRepositoryPolicy" => api.policy(repository).await?.map(SettingUpdate::Policy),
        "ecr:TagResource" => {
            let tags = api.tags(described.repository_arn().unwrap_or_default()).await?;
            Some(tags).filter(|tags| !tags.is_empty()).map(SettingUpdate::Tags)
        }
        _ => return nothing("no harmless call asks for the action"),
    };
    match update {
        Some(update) => api.update(repository, &update).await,
        None => nothing("the repository has no such setting to write back"),
    }
}

async fn continue_upload(ecr: &Ecr, repository: &Repository, method: Method) -> Result<()> {
    let asked = ecr.data_plane().await?.continue_missing_upload(repository, method).await;
    asked.map_err(super::failure::explain_denied)
}
