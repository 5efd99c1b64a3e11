//! The account as a whole, in one region: whether blobs are mounted across repositories, what is
//! scanned, and whose pulls do not count.
//!
//! Guards that only what is written is changed, only in the account that the destination names,
//! and once a run.

use std::sync::Arc;

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        RegistryScanningRule, ScanFrequency, ScanType, ScanningRepositoryFilter,
        ScanningRepositoryFilterType,
    },
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{caller::principal, session::AwsSession};
use crate::{
    model::{
        EcrHost, Error, Host, Kind, Result, ecr_settings as written,
        ecr_settings::{ScanKind, Scanning},
        setting_change::{Action, Field, SettingChange, Subject},
    },
    remote::{Apply, Mounting, retry::Retry},
};

/// The account setting that lets blobs be mounted.
const BLOB_MOUNTING: &str = "BLOB_MOUNTING";

/// The account settings that decide how content travels, and what is wanted of them.
#[derive(Debug)]
pub(crate) struct EcrAccount {
    session: Arc<AwsSession>,
    written: written::AccountSettings,
    mounting: OnceCell<Mounting>,
    reconciled: OnceCell<Result<()>>,
    /// What was changed and is not told yet.
    unreported: Mutex<Option<SettingChange>>,
}

impl EcrAccount {
    /// The account of the session; nothing is asked yet.
    pub(crate) fn new(session: Arc<AwsSession>, written: written::AccountSettings) -> Self {
        let (mounting, settled, untold) = Default::default();
        Self { session, written, mounting, reconciled: settled, unreported: untold }
    }

    /// Whether ECR mounts: only what a committed manifest names, and only when `BLOB_MOUNTING` is on.
    ///
    /// Source: ECR user guide, "Blob mounting"; aws/containers-roadmap#2860.
    pub(crate) async fn mounting(&self) -> Mounting {
        match self.written.blob_mounting {
            // it was settled before, or nothing is copied
            Some(true) => Mounting::OnceCommitted,
            Some(false) => Mounting::Never,
            None => *self.mounting.get_or_init(|| self.query_mounting()).await,
        }
    }

    async fn query_mounting(&self) -> Mounting {
        // a saving is not worth a long wait, and an emulator may answer 500 to what it does not know
        let api = &self.session.api;
        let retry = Retry { attempts: 3, ..api.meter().policy.retry };
        let send = |ecr: Client| ecr.get_account_setting().name(BLOB_MOUNTING).send();
        let answer = api.call_with(retry, "GetAccountSetting", send).await;
        match answer.as_ref().map(|answer| answer.value()) {
            Ok(Some("ENABLED")) => return Mounting::OnceCommitted,
            Ok(_) => {}
            // an endpoint that does not know the setting does not mount
            Err(error) => tracing::debug!(?error, "cannot tell whether blobs can be mounted"),
        }
        tracing::info!(
            region = api.region(),
            "blob mounting is off: layers that repositories share are uploaded once for each; \
             to turn it on: `blob_mounting = true` in `[destination.account]`, or \
             `aws ecr put-account-setting --name BLOB_MOUNTING --value ENABLED`"
        );
        Mounting::Never
    }

    /// Brings the account to what is written, or looks what that would change, whoever asks first.
    ///
    /// # Errors
    /// What AWS refuses, for everyone who asks; [`Kind::Configuration`] where the registry
    /// `host` is not the caller's own, as these settings can only be those.
    pub(crate) async fn reconcile(&self, host: &Host, touch: Apply) -> Result<()> {
        let settle = async {
            let change = self.apply(host, touch).await.map_err(|error| {
                error.context(format!("cannot bring the account of {host} to its settings"))
            })?;
            *self.untold() = change;
            Ok(())
        };
        self.reconciled.get_or_init(|| settle).await.clone()
    }

    /// What settling changed, or would; told once.
    pub(crate) fn change(&self) -> Option<SettingChange> {
        self.untold().take()
    }

    fn untold(&self) -> MutexGuard<'_, Option<SettingChange>> {
        self.unreported.lock()
    }

    async fn apply(&self, host: &Host, touch: Apply) -> Result<Option<SettingChange>> {
        if self.written.is_empty() {
            return Ok(None);
        }
        let name = own(&self.session, host, "`[destination.account]`").await?;
        let mut fields = Vec::new();
        fields.extend(self.blob_mounting(touch).await?);
        fields.extend(self.pull_time_exclusion(touch).await?);
        fields.extend(self.scanning(touch).await?);
        let change = |fields| SettingChange {
            destination: host.to_string(),
            action: Action::Update,
            kind: Subject::Account,
            name,
            fields,
            hint: None,
        };
        Ok((!fields.is_empty()).then(|| change(fields)))
    }

    async fn blob_mounting(&self, touch: Apply) -> Result<Option<Field>> {
        let Some(wanted) = self.written.blob_mounting else { return Ok(None) };
        let api = &self.session.api;
        let asked = |ecr: Client| ecr.get_account_setting().name(BLOB_MOUNTING).send();
        let told = api.call("GetAccountSetting", asked).await?;
        let is_on = told.value() == Some("ENABLED");
        if is_on == wanted {
            return Ok(None);
        }
        if touch == Apply::Change {
            let value = if wanted { "ENABLED" } else { "DISABLED" };
            let put =
                |ecr: Client| ecr.put_account_setting().name(BLOB_MOUNTING).value(value).send();
            api.call("PutAccountSetting", put).await?;
        }
        Ok(Some(field("blob_mounting", is_on, wanted)))
    }

    /// Whether the role or user of this run is among those whose pulls do not count.
    async fn pull_time_exclusion(&self, touch: Apply) -> Result<Option<Field>> {
        let Some(wanted) = self.written.pull_time_exclusion else { return Ok(None) };
        let arn = principal(&self.session).await?;
        let is_excluded = self.exclusions().await?.contains(&arn);
        if is_excluded == wanted {
            return Ok(None);
        }
        if touch == Apply::Change {
            self.exclude(&arn, wanted).await?;
        }
        let named = |is_excluded: bool| if is_excluded { json!(arn) } else { Value::Null };
        Ok(Some(field("pull_time_exclusion", named(is_excluded), named(wanted))))
    }

    async fn exclude(&self, arn: &str, wanted: bool) -> Result<()> {
        let api = &self.session.api;
        // another run may have done it in between
        if wanted {
            let register = |ecr: Client| {
                let request = ecr.register_pull_time_update_exclusion().principal_arn(arn);
                async move {
                    match request.send().await {
                        Err(e) if e.code() == Some("ExclusionAlreadyExistsException") => Ok(()),
                        answer => answer.map(drop),
                    }
                }
            };
            return api.call("RegisterPullTimeUpdateExclusion", register).await;
        }
        let deregister = |ecr: Client| {
            let request = ecr.deregister_pull_time_update_exclusion().principal_arn(arn);
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("ExclusionNotFoundException") => Ok(()),
                    answer => answer.map(drop),
                }
            }
        };
        api.call("DeregisterPullTimeUpdateExclusion", deregister).await
    }

    async fn exclusions(&self) -> Result<Vec<String>> {
        let (mut arns, mut next) = (Vec::new(), None);
        loop {
            let page = self.session.api.call("ListPullTimeUpdateExclusions", |ecr| {
                ecr.list_pull_time_update_exclusions().set_next_token(next.clone()).send()
            });
            let page = page.await?;
            arns.extend(page.pull_time_update_exclusions.into_iter().flatten());
            next = page.next_token;
            if next.is_none() {
                return Ok(arns);
            }
        }
    }

    async fn scanning(&self, touch: Apply) -> Result<Option<Field>> {
        let Some(wanted) = &self.written.scanning else { return Ok(None) };
        let api = &self.session.api;
        let asked = |ecr: Client| ecr.get_registry_scanning_configuration().send();
        let told = api.call("GetRegistryScanningConfiguration", asked).await?;
        let told = told.scanning_configuration();
        let actual = Scanning {
            kind: match told.and_then(|told| told.scan_type()) {
                Some(ScanType::Enhanced) => ScanKind::Enhanced,
                _ => ScanKind::Basic,
            },
            continuous: wildcards(
                told.map_or(&[], |it| it.rules()),
                &ScanFrequency::ContinuousScan,
            ),
            on_push: wildcards(told.map_or(&[], |it| it.rules()), &ScanFrequency::ScanOnPush),
        };
        if actual == *wanted {
            return Ok(None);
        }
        if touch == Apply::Change {
            let kind = match wanted.kind {
                ScanKind::Basic => ScanType::Basic,
                ScanKind::Enhanced => ScanType::Enhanced,
            };
            let put = |ecr: Client| {
                ecr.put_registry_scanning_configuration()
                    .scan_type(kind.clone())
                    .set_rules(Some(rules(wanted)))
                    .send()
            };
            api.call("PutRegistryScanningConfiguration", put).await?;
        }
        Ok(Some(field("scanning", actual.to_string(), wanted.to_string())))
    }
}

/// The account that is the registry's and the caller's: what is account-wide can be asked and
/// set from within only.
///
/// `what` is what needs it, as the configuration writes it.
///
/// # Errors
/// Those of `GetAuthorizationToken`, and [`Kind::Configuration`] when the two are not the same.
pub(crate) async fn own(session: &AwsSession, host: &Host, what: &str) -> Result<String> {
    let named = session.login.endpoint().await?;
    let named = named.host_str().unwrap_or_default().parse().ok();
    let own = named.as_ref().and_then(EcrHost::parse);
    let of = |ecr: &EcrHost| ecr.account().to_owned();
    match (own.as_ref().map(of), EcrHost::parse(host).as_ref().map(of)) {
        (Some(own), Some(wanted)) if own != wanted => Err(Error::new(
            Kind::Configuration,
            format!("the registry is of account {wanted}, the credentials are of {own}"),
        )
        .hint(format!(
            "{what} needs a role in account {wanted} (`role_arn` of the destination); or leave it away"
        ))),
        (Some(own), _) | (None, Some(own)) => Ok(own),
        // an emulator that names itself
        (None, None) => Ok(named.map_or_else(|| host.to_string(), |host: Host| host.to_string())),
    }
}

fn field(name: &str, old: impl Into<Value>, new: impl Into<Value>) -> Field {
    Field { name: name.to_owned(), old: old.into(), new: new.into() }
}

/// The wildcards of this frequency, sorted.
fn wildcards(rules: &[RegistryScanningRule], frequency: &ScanFrequency) -> Vec<String> {
    let those = rules.iter().filter(|rule| rule.scan_frequency() == frequency);
    let mut wildcards: Vec<String> = those
        .flat_map(|rule| rule.repository_filters())
        .map(|filter| filter.filter().to_owned())
        .collect();
    wildcards.sort();
    wildcards.dedup();
    wildcards
}

/// The rules as the API takes them; what has no wildcards has none.
fn rules(wanted: &Scanning) -> Vec<RegistryScanningRule> {
    let filter = |wildcard: &String| {
        ScanningRepositoryFilter::builder()
            .filter(wildcard)
            .filter_type(ScanningRepositoryFilterType::Wildcard)
            .build()
            .expect("both members are set")
    };
    let rule = |(frequency, wildcards): (ScanFrequency, &Vec<String>)| {
        RegistryScanningRule::builder()
            .scan_frequency(frequency)
            .set_repository_filters(Some(wildcards.iter().map(filter).collect()))
            .build()
            .expect("both members are set")
    };
    [
        (ScanFrequency::ContinuousScan, &wanted.continuous),
        (ScanFrequency::ScanOnPush, &wanted.on_push),
    ]
    .into_iter()
    .filter(|(_, wildcards)| !wildcards.is_empty())
    .map(rule)
    .collect()
}
