//! Carries out a plan for the pull-through cache of one registry, step by step, in its order.
//!
//! Guards that each step may be carried out twice: one whose answer was lost, or that somebody
//! else took in the meantime, is done. A step that fails holds up those that need it and no
//! others. Whatever ends this, planning again from what is there is the recovery.

mod rules;
mod secrets;
mod templates;

use std::{collections::BTreeMap, ops::ControlFlow, time::SystemTime};

use aws_sdk_ecr::error::ProvideErrorMetadata;

use super::state::{CacheStep, Credential, Planned};
use crate::{
    ecr::AwsSession,
    model::{Error, Kind, Result, setting_change::Action},
};

/// What to do when there is something else by now than the plan is from.
const AGAIN: &str = "it has changed meanwhile; run again: that plans from what is there now";

/// What came of a plan.
#[derive(Debug, Default)]
pub(crate) struct Applied<'p> {
    /// How many steps were carried out.
    pub made: usize,
    /// What failed, in the order of the plan.
    pub failures: Vec<Error>,
    /// What was not begun: a step that it needs failed, or there was to be an end.
    pub left: Vec<&'p Planned>,
    /// The secrets that were removed, and until when they can be restored, where AWS says so.
    pub restorable: Vec<(String, Option<SystemTime>)>,
}

/// Carries out what is planned, one step after the other; conflicts have none.
///
/// `tell` hears of each step that is done, and whether to go on is its answer.
pub(crate) async fn apply<'p>(
    session: &AwsSession,
    planned: &'p [Planned],
    mut tell: impl FnMut(&Planned) -> ControlFlow<()>,
) -> Applied<'p> {
    let mut applied = Applied::default();
    let mut work = ApplyWork { session, written: BTreeMap::new() };
    let mut not_done: Vec<&CacheStep> = Vec::new();
    let mut flow = ControlFlow::Continue(());
    for one in planned {
        let Some(step) = &one.step else { continue };
        if flow.is_break() || not_done.iter().any(|earlier| needs(step, earlier)) {
            not_done.push(step);
            applied.left.push(one);
            continue;
        }
        match work.apply_step(step).await {
            Ok(done) => {
                applied.made += 1;
                if let (CacheStep::DeleteSecret(name), StepOutcome::Restorable(until)) =
                    (step, done)
                {
                    applied.restorable.push((name.clone(), until));
                }
                flow = tell(one);
            }
            Err(error) => {
                not_done.push(step);
                applied.failures.push(of(one, error));
            }
        }
    }
    applied
}

/// The failure of a planned step.
fn of(planned: &Planned, error: Error) -> Error {
    let change = &planned.change;
    let verb = match change.action {
        Action::Create => "make",
        Action::Update => "update",
        Action::Replace => "replace",
        Action::Delete | Action::Conflict => "remove",
    };
    let is_gone = error.kind() == Kind::NotFound && error.remedy().is_none();
    let thing = format!("{} `{}` of {}", change.kind.word(), change.name, change.destination);
    let error = error.context(format!("cannot {verb} {thing}"));
    if is_gone { error.hint(AGAIN) } else { error }
}

/// Whether a step is pointless, or does harm, where the earlier one was not done.
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
        // a rule that stays goes on using its secret
        (CacheStep::DeleteSecret(name), CacheStep::DeleteRule(prefix)) => {
            name.strip_prefix("ecr-pullthroughcache/") == Some(prefix)
        }
        _ => false,
    }
}

/// How a step ended well.
#[derive(Debug, PartialEq, Eq)]
enum StepOutcome {
    /// It is as it is to be.
    Whole,
    /// It is removed, and can be restored until then.
    Restorable(Option<SystemTime>),
}

/// Steps of one plan.
struct ApplyWork<'s> {
    session: &'s AwsSession,
    /// The ARNs of the secrets that were written, by name.
    written: BTreeMap<String, String>,
}

impl ApplyWork<'_> {
    async fn apply_step(&mut self, step: &CacheStep) -> Result<StepOutcome> {
        match step {
            CacheStep::CreateSecret { name, login } => self.create_secret(name, login).await?,
            CacheStep::RestoreSecret { name, login } => self.restore_secret(name, login).await?,
            CacheStep::WriteSecret { name, login } => self.write_secret(name, login).await?,
            CacheStep::CreateRule(rule) => self.create_rule(rule).await?,
            CacheStep::UpdateRule(rule) => self.update_rule(rule).await?,
            CacheStep::ReplaceRule(rule) => self.replace_rule(rule).await?,
            CacheStep::CreateTemplate(template) => self.create_template(template).await?,
            CacheStep::UpdateTemplate(template) => self.update_template(template).await?,
            CacheStep::PutRegistryPolicy(policy) => self.put_policy(&policy.to_string()).await?,
            CacheStep::DeleteRule(prefix) => self.delete_rule(prefix).await?,
            CacheStep::DeleteTemplate(prefix) => self.delete_template(prefix).await?,
            CacheStep::DeleteSecret(name) => return self.delete_secret(name).await,
            CacheStep::DeleteRegistryPolicy => self.delete_policy().await?,
        }
        Ok(StepOutcome::Whole)
    }

    async fn put_policy(&self, text: &str) -> Result<()> {
        let api = &self.session.api;
        let put = |ecr: aws_sdk_ecr::Client| ecr.put_registry_policy().policy_text(text).send();
        api.call("PutRegistryPolicy", put).await.map(drop)
    }

    async fn delete_policy(&self) -> Result<()> {
        let api = &self.session.api;
        let delete = |ecr: aws_sdk_ecr::Client| async move {
            match ecr.delete_registry_policy().send().await {
                Err(e) if e.code() == Some("RegistryPolicyNotFoundException") => Ok(()),
                answer => answer.map(drop),
            }
        };
        api.call("DeleteRegistryPolicy", delete).await
    }
}

/// Somebody made a thing of this name since the plan was made, and made it otherwise.
fn created_concurrently(what: &str) -> Error {
    Error::new(Kind::Configuration, format!("{what} has come about meanwhile, and is another one"))
        .hint(AGAIN)
}
