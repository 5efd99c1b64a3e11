//! The set-up of the pull-through cache as Terraform configuration, for those who would rather
//! apply it with that.
//!
//! Pure. Guards that it is what `apply` would make: the same steps, from nothing, with what nobody
//! asked for left as it is; and that no credential is in it. What is there already is imported.
//!
//! Source of names: Terraform AWS provider, `aws_ecr_pull_through_cache_rule`,
//! `aws_ecr_repository_creation_template`, `aws_ecr_registry_policy`, `aws_secretsmanager_secret`,
//! `aws_secretsmanager_secret_version`.

mod desired;
mod hcl;
mod labels;
mod resources;
#[cfg(test)]
mod tests;

use secrecy::ExposeSecret;
use serde_json::json;

use self::{
    hcl::{HclDocument, quoted},
    labels::Labels,
    resources::Writer,
};
use super::state::{CacheStep, EcrRegistry, Observed, Planned, SecretLogin};
use crate::ecr::Identity;
pub(crate) use desired::from_nothing;

/// What is exported of one registry.
#[derive(Debug)]
pub(crate) struct ExportPart<'a> {
    /// The registry.
    pub registry: &'a EcrRegistry,
    /// Who sets it up.
    pub identity: &'a Identity,
    /// Everything that is wanted, as [`from_nothing`] gives it.
    pub planned: &'a [Planned],
    /// What there is.
    pub actual: &'a Observed,
}

const HEAD: &str = "\
ECR's pull-through cache, as `ecr-mirror pull-through apply` sets it up.
Written by `ecr-mirror pull-through export terraform`; keep using one of the two.";

const SECRETS: &str = "\
No credentials are in this file or in Terraform's state: they are variables, to be given with
every run, as in TF_VAR_NAME='{\"username\":\"…\",\"access_token\":\"…\"}'.";

/// The configuration of these registries, each once, as the file that Terraform reads.
pub(crate) fn terraform(parts: &[ExportPart<'_>]) -> String {
    let mut document = HclDocument::default();
    document.comment(HEAD);
    document.gap();
    requirements(&mut document);
    let aliases = aliases(parts);
    for (part, alias) in parts.iter().zip(&aliases) {
        document.gap();
        provider(&mut document, part, alias.as_deref());
    }
    let mut labels = Labels::default();
    let variables = variables(parts, &mut labels);
    if !variables.is_empty() {
        document.gap();
        document.comment(SECRETS);
    }
    for (at, variable) in variables.iter().enumerate() {
        if at > 0 {
            document.gap();
        }
        declare(&mut document, variable);
    }
    for (at, part) in parts.iter().enumerate() {
        let alias = aliases[at].as_deref();
        let writer = Writer { part, alias, variables: &variables };
        writer.write(&mut document, &mut labels);
    }
    document.to_string()
}

/// `CREATE_ON_PUSH` came to the provider with 6.28, write-only arguments to Terraform with 1.11.
fn requirements(document: &mut HclDocument) {
    document.block("terraform", |block| {
        block.set("required_version", &json!(">= 1.11"));
        block.gap();
        block.block("required_providers", |block| {
            block.set("aws", &json!({ "source": "hashicorp/aws", "version": ">= 6.28" }));
        });
    });
}

/// What the provider of each registry is called: nothing, where there is one registry.
fn aliases(parts: &[ExportPart<'_>]) -> Vec<Option<String>> {
    let alias = |part: &ExportPart<'_>| {
        let EcrRegistry { region, account, .. } = part.registry;
        let alike = parts.iter().filter(|other| other.registry.region == *region).count();
        Some(hcl::label(&match alike {
            1 => region.clone(),
            _ => format!("{region}-{account}"),
        }))
    };
    match parts {
        [_] => vec![None],
        parts => parts.iter().map(alias).collect(),
    }
}

fn provider(document: &mut HclDocument, part: &ExportPart<'_>, alias: Option<&str>) {
    let ExportPart { registry, identity, .. } = part;
    document.block("provider \"aws\"", |block| {
        if let Some(alias) = alias {
            block.set("alias", &json!(alias));
        }
        block.set("region", &json!(registry.region));
        block.set("allowed_account_ids", &json!([registry.account]));
        if let Some(profile) = &identity.profile {
            block.set("profile", &json!(profile));
        }
        if let Some(role) = &identity.role_arn {
            block.gap();
            block.block("assume_role", |block| {
                block.set("role_arn", &json!(role));
                if let Some(id) = &identity.external_id {
                    block.set("external_id", &json!(id));
                }
            });
        }
        if let Some(endpoint) = &identity.endpoint_url {
            block.gap();
            block.block("endpoints", |block| {
                block.set("ecr", &json!(endpoint.as_str().trim_end_matches('/')));
            });
        }
    });
}

/// The credentials of one secret, as a variable; registries that are to have the same share it.
struct Variable<'a> {
    name: String,
    secret: &'a str,
    login: &'a SecretLogin,
}

impl Variable<'_> {
    fn is(&self, secret: &str, login: &SecretLogin) -> bool {
        let token = |login: &SecretLogin| login.access_token.expose_secret().to_owned();
        self.secret == secret
            && self.login.username == login.username
            && token(self.login) == token(login)
    }
}

fn variables<'a>(parts: &[ExportPart<'a>], labels: &mut Labels) -> Vec<Variable<'a>> {
    let mut variables: Vec<Variable<'a>> = Vec::new();
    let steps = parts.iter().flat_map(|part| part.planned).filter_map(|it| it.step.as_ref());
    for step in steps {
        let CacheStep::CreateSecret { name, login } = step else { continue };
        if !variables.iter().any(|known| known.is(name, login)) {
            let label = labels.free("variable", &format!("{}-credentials", short(name)));
            variables.push(Variable { name: label, secret: name, login });
        }
    }
    variables
}

/// A secret's name without what all of them begin with.
fn short(secret: &str) -> &str {
    secret.strip_prefix("ecr-pullthroughcache/").unwrap_or(secret)
}

fn declare(document: &mut HclDocument, variable: &Variable<'_>) {
    document.block(&format!("variable {}", quoted(&variable.name)), |block| {
        let what = format!("What ECR logs in with: the content of secret {}.", variable.secret);
        block.set("description", &json!(what));
        block.set_type("type", &["username", "access_token"]);
        block.set("sensitive", &json!(true));
        block.set("ephemeral", &json!(true));
    });
}
