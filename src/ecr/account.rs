//! The settings of an account in one region: blob mounting, scanning, pull time exclusions.
//!
//! Changes only configured settings, only in the account of the destination, and once a run.

use std::sync::Arc;

use aws_sdk_ecr::{
    Client,
    types::{
        RegistryScanningRule, ScanFrequency, ScanType, ScanningRepositoryFilter,
        ScanningRepositoryFilterType,
    },
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{api::Api, caller::principal, pages, session::AwsSession, settings::field};
use crate::{
    model::{
        EcrHost, Error, Host, Kind, Result,
        ecr_settings::{AccountSettings, ScanKind, Scanning},
        hints,
        setting_change::{Action, Field, SettingChange, Subject},
    },
    remote::{Apply, Mounting},
};

/// The account setting that allows blob mounts.
const BLOB_MOUNTING: &str = "BLOB_MOUNTING";

const UNKNOWN_MOUNTING: &str =
    "cannot read whether ECR mounts blobs, so shared layers are uploaded to each repository";

/// The session's account and its configured settings.
#[derive(Debug)]
pub(crate) struct EcrAccount {
    session: Arc<AwsSession>,
    written: AccountSettings,
    mounting: OnceCell<Mounting>,
    reconciled: OnceCell<Result<()>>,
    /// A change that no caller has taken yet.
    unreported: Mutex<Option<SettingChange>>,
}

impl EcrAccount {
    pub(crate) fn new(session: Arc<AwsSession>, written: AccountSettings) -> Self {
        Self {
            session,
            written,
            mounting: OnceCell::new(),
            reconciled: OnceCell::new(),
            unreported: Mutex::default(),
        }
    }

    /// When ECR mounts: only blobs that a committed manifest names, and only with `BLOB_MOUNTING`.
    ///
    /// Source: ECR user guide, "Blob mounting"; aws/containers-roadmap#2860.
    pub(crate) async fn mounting(&self) -> Mounting {
        match self.written.blob_mounting {
            // reconciled before, or a dry run
            Some(true) => Mounting::OnceCommitted,
            Some(false) => Mounting::Never,
            None => *self.mounting.get_or_init(|| self.query_mounting()).await,
        }
    }

    async fn query_mounting(&self) -> Mounting {
        let api = &self.session.api;
        let region = api.region();
        match mounts(api).await {
            Ok(true) => return Mounting::OnceCommitted,
            Ok(false) => tracing::info!(
                region,
                "blob mounting is off: shared layers are uploaded to each repository; set \
                 `blob_mounting = true` in `[destination.account]`, or run `aws ecr put-account-setting --name BLOB_MOUNTING --value ENABLED`"
            ),
            Err(error) if error.kind() == Kind::Denied => {
                let remedy = error.remedy().unwrap_or_default();
                tracing::warn!(
                    region,
                    "{UNKNOWN_MOUNTING}: {}; {remedy}",
                    error.chain().join(": ")
                );
            }
            // an endpoint may lack the setting or the action: then it does not mount
            Err(error) => tracing::info!(region, ?error, "{UNKNOWN_MOUNTING}"),
        }
        Mounting::Never
    }

    /// Reconciles the settings with the configuration, once: all callers share the result.
    pub(crate) async fn reconcile(&self, host: &Host, apply: Apply) -> Result<()> {
        let reconcile = async {
            *self.unreported.lock() = reconcile(&self.session, &self.written, host, apply).await?;
            Ok(())
        };
        self.reconciled.get_or_init(|| reconcile).await.clone()
    }

    /// The change that [`Self::reconcile`] made or found; `None` at every later call.
    pub(crate) fn take_change(&self) -> Option<SettingChange> {
        self.unreported.lock().take()
    }
}

/// Returns `true` if the account mounts blobs of one repository into another.
pub(crate) async fn mounts(api: &Api) -> Result<bool> {
    let get = |ecr: Client| ecr.get_account_setting().name(BLOB_MOUNTING).send();
    let answer = api.call_with(api.short_retry(), "GetAccountSetting", get).await?;
    Ok(answer.value() == Some("ENABLED"))
}

/// Compares the account's settings with the configured ones and, with [`Apply::Change`], writes
/// those that differ. Returns the change; `None` if nothing differs.
pub(crate) async fn reconcile(
    session: &AwsSession,
    written: &AccountSettings,
    host: &Host,
    apply: Apply,
) -> Result<Option<SettingChange>> {
    if written.is_empty() {
        return Ok(None);
    }
    let change = AccountChange { session, written }.reconcile(host, apply).await;
    change
        .map_err(|error| error.context(format!("cannot reconcile the account settings of {host}")))
}

/// The comparison of an account with its configured settings.
struct AccountChange<'a> {
    session: &'a AwsSession,
    written: &'a AccountSettings,
}

impl AccountChange<'_> {
    async fn reconcile(&self, host: &Host, apply: Apply) -> Result<Option<SettingChange>> {
        let name = own_account(self.session, host, hints::ACCOUNT_SETTINGS).await?;
        let mounting = self.blob_mounting(apply).await?;
        let exclusion = self.pull_time_exclusion(apply).await?;
        let fields: Vec<_> =
            [mounting, exclusion, self.scanning(apply).await?].into_iter().flatten().collect();
        Ok((!fields.is_empty()).then(|| SettingChange {
            destination: host.to_string(),
            action: Action::Update,
            kind: Subject::Account,
            name,
            fields,
            hint: None,
        }))
    }

    async fn blob_mounting(&self, apply: Apply) -> Result<Option<Field>> {
        let Some(wanted) = self.written.blob_mounting else { return Ok(None) };
        let api = &self.session.api;
        let get = |ecr: Client| ecr.get_account_setting().name(BLOB_MOUNTING).send();
        let is_on = api.call("GetAccountSetting", get).await?.value() == Some("ENABLED");
        if is_on == wanted {
            return Ok(None);
        }
        if apply == Apply::Change {
            let value = if wanted { "ENABLED" } else { "DISABLED" };
            let put =
                |ecr: Client| ecr.put_account_setting().name(BLOB_MOUNTING).value(value).send();
            api.call("PutAccountSetting", put).await?;
        }
        Ok(Some(field("blob_mounting", is_on, wanted)))
    }

    /// Excludes the pulls of this run's role or user from the time of the last pull.
    async fn pull_time_exclusion(&self, apply: Apply) -> Result<Option<Field>> {
        let Some(wanted) = self.written.pull_time_exclusion else { return Ok(None) };
        let arn = principal(self.session).await?;
        let is_excluded = self.exclusions().await?.contains(&arn);
        if is_excluded == wanted {
            return Ok(None);
        }
        if apply == Apply::Change {
            self.exclude(&arn, wanted).await?;
        }
        let value = |is_excluded: bool| if is_excluded { json!(arn) } else { Value::Null };
        Ok(Some(field("pull_time_exclusion", value(is_excluded), value(wanted))))
    }

    async fn exclude(&self, arn: &str, wanted: bool) -> Result<()> {
        let api = &self.session.api;
        // another run may have done it in the meantime
        if wanted {
            let action = "RegisterPullTimeUpdateExclusion";
            let register =
                |ecr: Client| ecr.register_pull_time_update_exclusion().principal_arn(arn).send();
            api.call_unless("ExclusionAlreadyExistsException", action, register).await.map(drop)
        } else {
            let action = "DeregisterPullTimeUpdateExclusion";
            let deregister =
                |ecr: Client| ecr.deregister_pull_time_update_exclusion().principal_arn(arn).send();
            api.call_unless("ExclusionNotFoundException", action, deregister).await.map(drop)
        }
    }

    async fn exclusions(&self) -> Result<Vec<String>> {
        let action = "ListPullTimeUpdateExclusions";
        let arns = pages::collect(action, async |token| {
            let page = self.session.api.call(action, |ecr| {
                ecr.list_pull_time_update_exclusions().set_next_token(token.clone()).send()
            });
            let page = page.await?;
            Ok((page.pull_time_update_exclusions.unwrap_or_default(), page.next_token))
        });
        arns.await
    }

    async fn scanning(&self, apply: Apply) -> Result<Option<Field>> {
        let Some(wanted) = &self.written.scanning else { return Ok(None) };
        let api = &self.session.api;
        let get = |ecr: Client| ecr.get_registry_scanning_configuration().send();
        let answer = api.call("GetRegistryScanningConfiguration", get).await?;
        let current = answer.scanning_configuration();
        let rules = current.map_or(&[][..], |it| it.rules());
        let current = Scanning {
            kind: match current.and_then(|it| it.scan_type()) {
                Some(ScanType::Enhanced) => ScanKind::Enhanced,
                _ => ScanKind::Basic,
            },
            continuous: wildcards(rules, &ScanFrequency::ContinuousScan),
            on_push: wildcards(rules, &ScanFrequency::ScanOnPush),
        };
        if current == *wanted {
            return Ok(None);
        }
        if apply == Apply::Change {
            let kind = match wanted.kind {
                ScanKind::Basic => ScanType::Basic,
                ScanKind::Enhanced => ScanType::Enhanced,
            };
            let put = |ecr: Client| {
                ecr.put_registry_scanning_configuration()
                    .scan_type(kind.clone())
                    .set_rules(Some(scanning_rules(wanted)))
                    .send()
            };
            api.call("PutRegistryScanningConfiguration", put).await?;
        }
        Ok(Some(field("scanning", current.to_string(), wanted.to_string())))
    }
}

/// The caller's account, which must be the registry's: AWS reads and changes account-wide settings
/// of the caller's account only.
///
/// Another account is a [`Kind::Configuration`]. `feature` is what needs the account, as the
/// configuration writes it.
pub(crate) async fn own_account(
    session: &AwsSession,
    host: &Host,
    feature: &str,
) -> Result<String> {
    let named = session.login.endpoint().await?;
    let named: Option<Host> = named.host_str().unwrap_or_default().parse().ok();
    let account = |host: &Host| Some(EcrHost::parse(host)?.account().to_owned());
    match (named.as_ref().and_then(account), account(host)) {
        (Some(own), Some(wanted)) if own != wanted => Err(Error::new(
            Kind::Configuration,
            format!("the registry is in account {wanted}, the credentials are of account {own}"),
        )
        .hint(hints::own_account(&wanted, feature))),
        (Some(own), _) | (None, Some(own)) => Ok(own),
        // an emulator that names itself
        (None, None) => Ok(named.map_or_else(|| host.to_string(), |host| host.to_string())),
    }
}

/// The wildcards of this frequency, sorted and distinct.
fn wildcards(rules: &[RegistryScanningRule], frequency: &ScanFrequency) -> Vec<String> {
    let mut wildcards: Vec<String> = rules
        .iter()
        .filter(|rule| rule.scan_frequency() == frequency)
        .flat_map(|rule| rule.repository_filters())
        .map(|filter| filter.filter().to_owned())
        .collect();
    wildcards.sort();
    wildcards.dedup();
    wildcards
}

/// The API's rules, without one for a frequency that has no wildcards.
fn scanning_rules(wanted: &Scanning) -> Vec<RegistryScanningRule> {
    let filter = |wildcard: &String| {
        ScanningRepositoryFilter::builder()
            .filter(wildcard)
            .filter_type(ScanningRepositoryFilterType::Wildcard)
            .build()
            .expect("both members are set")
    };
    let rule = |frequency, wildcards: &Vec<String>| {
        RegistryScanningRule::builder()
            .scan_frequency(frequency)
            .set_repository_filters(Some(wildcards.iter().map(filter).collect()))
            .build()
            .expect("both members are set")
    };
    let continuous = (ScanFrequency::ContinuousScan, &wanted.continuous);
    let all = [continuous, (ScanFrequency::ScanOnPush, &wanted.on_push)].into_iter();
    let all = all.filter(|(_, wildcards)| !wildcards.is_empty());
    all.map(|(frequency, wildcards)| rule(frequency, wildcards)).collect()
}
