//! Applies a plan for the pull-through cache of one registry, step by step.
//!
//! Each step is idempotent: a step whose answer was lost, or that another run has done, succeeds.
//! A failed step stops only the steps that need it. After an interruption a new plan continues from
//! the current state.

mod rules;
mod secrets;
mod templates;

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::SystemTime};

use aws_sdk_ecr::Client;

use super::{
    fetch_state,
    state::{CacheStep, Credential, DesiredRule, Planned},
};
use crate::{
    ecr::{AwsSession, account, repository_api::RepositoryApi},
    model::{Error, Host, Kind, NameError, Repository, Result, setting_change::Action},
    remote::Apply,
};

/// The hint for a state that differs from the plan's.
const STALE_PLAN: &str =
    "it changed after the plan was made: run again to plan from the current state";

#[derive(Debug, Default)]
pub(crate) struct Applied<'p> {
    /// The number of successful steps.
    pub(crate) made: usize,
    /// The failures, in the order of the plan.
    pub(crate) failures: Vec<Error>,
    /// Steps that did not start: a step that they need failed, or the run was stopped.
    pub(crate) left: Vec<&'p Planned>,
    /// Deleted secrets, and the end of their recovery window if AWS returned it.
    pub(crate) restorable: Vec<(String, Option<SystemTime>)>,
}

/// Applies the planned steps one after the other. A conflict has no step.
///
/// Calls `on_step` after each successful step; it decides whether to continue.
pub(crate) async fn apply<'p>(
    session: &AwsSession,
    host: &Host,
    planned: &'p [Planned],
    mut on_step: impl FnMut(&Planned) -> ControlFlow<()>,
) -> Applied<'p> {
    let mut applied = Applied::default();
    let mut work = ApplyWork { session, host, written: BTreeMap::new() };
    let mut not_done: Vec<&CacheStep> = Vec::new();
    let mut flow = ControlFlow::Continue(());
    for change in planned {
        let Some(step) = &change.step else { continue };
        if flow.is_break() || not_done.iter().any(|earlier| needs(step, earlier)) {
            not_done.push(step);
            applied.left.push(change);
            continue;
        }
        match work.apply_step(step).await {
            Ok(outcome) => {
                applied.made += 1;
                if let (CacheStep::DeleteSecret { name, .. }, StepOutcome::Restorable(until)) =
                    (step, outcome)
                {
                    applied.restorable.push((name.clone(), until));
                }
                flow = on_step(change);
            }
            Err(error) => {
                not_done.push(step);
                applied.failures.push(with_context(change, error));
            }
        }
    }
    applied
}

fn with_context(planned: &Planned, error: Error) -> Error {
    let change = &planned.change;
    let verb = match change.action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Replace => "replace",
        Action::Delete | Action::Conflict => "delete",
    };
    let is_gone = error.kind() == Kind::NotFound && error.remedy().is_none();
    let resource = format!("{} `{}` of {}", change.kind.word(), change.name, change.destination);
    let error = error.context(format!("cannot {verb} {resource}"));
    if is_gone { error.hint(STALE_PLAN) } else { error }
}

/// Returns `true` if the step is useless or harmful without the earlier one.
fn needs(step: &CacheStep, earlier: &CacheStep) -> bool {
    match (step, earlier) {
        (
            CacheStep::CreateRule(rule)
            | CacheStep::UpdateRule(rule)
            | CacheStep::ReplaceRule(rule),
            CacheStep::CreateSecret { name, .. }
            | CacheStep::RestoreSecret { name, .. }
            | CacheStep::WriteSecret { name, .. },
        ) => rule.credential.as_ref().is_some_and(|credential| match credential {
            Credential::Named(named) => named == name,
            Credential::Arn(arn) => arn.contains(&format!(":secret:{name}-")),
        }),
        // a rule that was not changed may still use any secret
        (CacheStep::DeleteSecret { .. }, CacheStep::DeleteRule(_)) => true,
        (
            CacheStep::DeleteSecret { .. },
            CacheStep::UpdateRule(rule) | CacheStep::ReplaceRule(rule),
        ) => rule.credential.is_some(),
        // only the rule shows the next run that its cache created the repository
        (CacheStep::DeleteRule(prefix), CacheStep::DeleteRepository { name, .. }) => {
            name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
        }
        (
            CacheStep::UpdateSecret { name, .. },
            CacheStep::CreateSecret { name: earlier, .. }
            | CacheStep::RestoreSecret { name: earlier, .. },
        ) => name == earlier,
        _ => false,
    }
}

/// The result of a successful step.
#[derive(Debug, PartialEq, Eq)]
enum StepOutcome {
    Done,
    /// The secret is deleted; it can be restored until this time.
    Restorable(Option<SystemTime>),
}

/// The secret of a rule to create or update.
struct RuleCredential {
    arn: Option<String>,
    /// This plan wrote the secret: ECR may not see it yet.
    is_new: bool,
}

/// The steps of one plan.
struct ApplyWork<'s> {
    session: &'s AwsSession,
    /// The registry's host, as errors name it.
    host: &'s Host,
    /// The ARNs of the secrets that this plan wrote, by name.
    written: BTreeMap<String, String>,
}

impl ApplyWork<'_> {
    async fn apply_step(&mut self, step: &CacheStep) -> Result<StepOutcome> {
        let session = self.session;
        match step {
            CacheStep::CreateSecret { name, login, description } => {
                let arn = secrets::create(session, name, login, description.as_deref()).await?;
                self.written.insert(name.clone(), arn);
            }
            CacheStep::UpdateSecret { name, description, policy } => {
                secrets::update(session, name, description.as_deref(), policy.as_ref()).await?;
            }
            CacheStep::RestoreSecret { name, login } | CacheStep::WriteSecret { name, login } => {
                if let CacheStep::RestoreSecret { .. } = step {
                    secrets::restore(session, name).await?;
                }
                self.written.insert(name.clone(), secrets::write(session, name, login).await?);
            }
            CacheStep::CreateRule(rule) => {
                rules::create(session, rule, &self.credential(rule).await?).await?;
            }
            CacheStep::UpdateRule(rule) => {
                rules::update(session, rule, &self.credential(rule).await?).await?;
            }
            CacheStep::ReplaceRule(rule) => {
                rules::delete(session, &rule.prefix).await?;
                let create =
                    async { rules::create(session, rule, &self.credential(rule).await?).await };
                create.await.map_err(|error| {
                    error.context(
                        "the old rule is deleted and the new one is not created: no new image can be \
                         pulled below its prefix; run again to create it",
                    )
                })?;
            }
            CacheStep::CreateTemplate(template) => templates::create(session, template).await?,
            CacheStep::UpdateTemplate(template) => templates::update(session, template).await?,
            CacheStep::PutRegistryPolicy(policy) => {
                let text = policy.to_string();
                let put = |ecr: Client| ecr.put_registry_policy().policy_text(&text).send();
                session.api.call("PutRegistryPolicy", put).await?;
            }
            CacheStep::DeleteRule(prefix) => rules::delete(session, prefix).await?,
            CacheStep::DeleteTemplate(prefix) => templates::delete(session, prefix).await?,
            CacheStep::DeleteSecret { name, recovery_window_days } => {
                return secrets::delete(session, name, *recovery_window_days).await;
            }
            CacheStep::DeleteRegistryPolicy => {
                let missing = "RegistryPolicyNotFoundException";
                let delete = |ecr: Client| ecr.delete_registry_policy().send();
                session.api.call_unless(missing, "DeleteRegistryPolicy", delete).await?;
            }
            CacheStep::SetAccount(settings) => {
                account::reconcile(session, settings, self.host, Apply::Change).await?;
            }
            CacheStep::UpdateRepository { name, updates } => {
                let (api, repository) = self.repository(name)?;
                for update in updates {
                    api.update(&repository, update).await?;
                }
            }
            CacheStep::DeleteRepository { name, force } => {
                let (api, repository) = self.repository(name)?;
                api.delete(&repository, *force).await?;
            }
        }
        Ok(StepOutcome::Done)
    }

    fn repository(&self, name: &str) -> Result<(RepositoryApi, Repository)> {
        let repository = name.parse().map_err(|error: NameError| {
            Error::new(Kind::Protocol, format!("invalid repository `{name}`")).because(error)
        })?;
        Ok((RepositoryApi { api: Arc::clone(&self.session.api), account: None }, repository))
    }

    async fn credential(&self, rule: &DesiredRule) -> Result<RuleCredential> {
        let arn = match &rule.credential {
            None => None,
            Some(Credential::Arn(arn)) => Some(arn.clone()),
            Some(Credential::Named(name)) => Some(match self.written.get(name) {
                Some(arn) => arn.clone(),
                None => match fetch_state::describe(self.session, name).await? {
                    Some(secret) if !secret.is_deleted => secret.arn,
                    _ => {
                        let problem = format!("secret `{name}` does not exist");
                        return Err(Error::new(Kind::NotFound, problem));
                    }
                },
            }),
        };
        let is_new = arn.as_ref().is_some_and(|arn| self.written.values().any(|it| it == arn));
        Ok(RuleCredential { arn, is_new })
    }
}

/// The error for a different resource of this name that was created after the plan.
fn created_concurrently(resource: &str) -> Error {
    let problem = format!("{resource} was created after the plan was made, with other settings");
    Error::new(Kind::Configuration, problem).hint(STALE_PLAN)
}
