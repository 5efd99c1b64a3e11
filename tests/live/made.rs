//! The things that probes make in the account, and their removal.

use std::{fmt, time::Duration};

use anyhow::{Result, bail};

use super::probe_run::{ApiAnswer, ProbeRun};

/// Attempts to remove a thing, and the longest pause between two. A restoration from the archive,
/// which may prevent a removal, takes up to 20 minutes.
const ATTEMPTS: u32 = 28;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A thing, or the former state of a setting. Its removal succeeds if it does not exist.
pub(crate) enum Made {
    Repository(String),
    Template(String),
    Rule(String),
    /// By name.
    Secret(String),
    /// The value of an account setting before the probe.
    Setting(&'static str, String),
    /// The registry policy before the probe.
    RegistryPolicy(Option<String>),
    /// The ARN of a principal whose pulls do not count.
    PullExclusion(String),
    /// The configuration of registry scanning before the probe: without rules of its own.
    BasicScanning,
}

impl Made {
    /// False for the former state of a setting.
    fn is_named(&self) -> bool {
        !matches!(self, Self::Setting(..) | Self::RegistryPolicy(_) | Self::BasicScanning)
    }
}

impl fmt::Display for Made {
    /// The command of the AWS CLI that removes the thing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) => {
                write!(f, "aws ecr delete-repository --force --repository-name {name}")
            }
            Self::Template(prefix) => {
                write!(f, "aws ecr delete-repository-creation-template --prefix {prefix}")
            }
            Self::Rule(prefix) => {
                write!(f, "aws ecr delete-pull-through-cache-rule --ecr-repository-prefix {prefix}")
            }
            Self::Secret(name) => {
                write!(
                    f,
                    "aws secretsmanager delete-secret --force-delete-without-recovery --secret-id {name}"
                )
            }
            Self::Setting(name, value) => {
                write!(f, "aws ecr put-account-setting --name {} --value {value}", name)
            }
            Self::RegistryPolicy(None) => write!(f, "aws ecr delete-registry-policy"),
            Self::RegistryPolicy(Some(text)) => {
                write!(f, "aws ecr put-registry-policy --policy-text '{text}'")
            }
            Self::PullExclusion(arn) => {
                write!(f, "aws ecr deregister-pull-time-update-exclusion --principal-arn {arn}")
            }
            Self::BasicScanning => {
                write!(
                    f,
                    "aws ecr put-registry-scanning-configuration --scan-type BASIC --rules '[]'"
                )
            }
        }
    }
}

/// Removes a thing, with further attempts at AWS.
pub(crate) async fn remove(run: &ProbeRun, thing: &Made) -> Result<()> {
    let attempts = if run.backend.sandbox().is_some() { 1 } else { ATTEMPTS };
    for attempt in 1.. {
        let removed = remove_once(run, thing).await;
        match removed {
            Ok(answer) => match answer.error.as_deref() {
                None => return Ok(()),
                Some(error) if error.contains("NotFound") => return Ok(()),
                // nothing can have a name that ECR refuses
                Some("InvalidParameterException") if thing.is_named() => return Ok(()),
                Some(error) if attempt >= attempts || error == "AccessDeniedException" => {
                    bail!("{error}: {}", answer.body["message"])
                }
                Some(_) => {}
            },
            Err(error) if attempt >= attempts => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_secs(5 * u64::from(attempt)).min(LONGEST_PAUSE)).await;
    }
    unreachable!("the last attempt returns")
}

async fn remove_once(run: &ProbeRun, thing: &Made) -> Result<ApiAnswer> {
    match thing {
        Made::Repository(name) => {
            run.api(|ecr| ecr.delete_repository().repository_name(name).force(true).send()).await
        }
        Made::Template(prefix) => {
            run.api(|ecr| ecr.delete_repository_creation_template().prefix(prefix).send()).await
        }
        Made::Rule(prefix) => {
            run.api(|ecr| ecr.delete_pull_through_cache_rule().ecr_repository_prefix(prefix).send())
                .await
        }
        Made::Secret(name) => {
            let delete = |secrets: aws_sdk_secretsmanager::Client| {
                secrets.delete_secret().secret_id(name).force_delete_without_recovery(true).send()
            };
            run.secrets(delete).await
        }
        Made::Setting(name, value) => {
            run.api(|ecr| ecr.put_account_setting().name(*name).value(value).send()).await
        }
        Made::RegistryPolicy(None) => run.api(|ecr| ecr.delete_registry_policy().send()).await,
        Made::RegistryPolicy(Some(text)) => {
            run.api(|ecr| ecr.put_registry_policy().policy_text(text).send()).await
        }
        Made::PullExclusion(arn) => {
            let deregister = |ecr: aws_sdk_ecr::Client| {
                ecr.deregister_pull_time_update_exclusion().principal_arn(arn).send()
            };
            run.api(deregister).await
        }
        Made::BasicScanning => {
            let kind = aws_sdk_ecr::types::ScanType::Basic;
            run.api(|ecr| ecr.put_registry_scanning_configuration().scan_type(kind).send()).await
        }
    }
}
