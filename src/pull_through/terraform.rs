//! Exports the pull-through cache's configuration as Terraform configuration.
//!
//! Pure. Exports what `apply` would create, without members that are not configured and without
//! credentials. Existing resources are imported.
//!
//! Source of names: Terraform AWS provider, `aws_ecr_pull_through_cache_rule`,
//! `aws_ecr_repository_creation_template`, `aws_ecr_registry_policy`, `aws_ecr_account_setting`,
//! `aws_ecr_registry_scanning_configuration`, `aws_ecr_pull_time_update_exclusion`,
//! `aws_iam_policy`, `aws_iam_role_policy_attachment`, `aws_secretsmanager_secret`,
//! `aws_secretsmanager_secret_version`.

mod account;
mod desired;
mod hcl;
mod labels;
mod policies;
mod resources;
#[cfg(test)]
mod tests;
mod variables;

use serde_json::json;

use self::{hcl::HclDocument, labels::Labels, resources::Writer};
use super::state::EcrRegistry;
pub(crate) use desired::{ExportPart, from_nothing};
pub(crate) use policies::ExportedPolicy;

const HEAD: &str = "\
ECR's pull-through cache, as `ecr-mirror pull-through apply` sets it up.
Written by `ecr-mirror pull-through export terraform`; keep using one of the two.";

/// The Terraform configuration of these registries, which must be distinct, and of these policies,
/// which belong to the account of the first one.
pub(crate) fn terraform(parts: &[ExportPart<'_>], policies: &[ExportedPolicy]) -> String {
    let mut document = HclDocument::default();
    document.comment(HEAD);
    // the provider supports `CREATE_ON_PUSH` since 6.28, Terraform write-only arguments since 1.11
    document.section("terraform", |block| {
        block.set("required_version", ">= 1.11");
        block.section("required_providers", |block| {
            block.set("aws", json!({ "source": "hashicorp/aws", "version": ">= 6.28" }));
        });
    });
    let aliases = aliases(parts);
    for (part, alias) in parts.iter().zip(&aliases) {
        provider(&mut document, part, alias.as_deref());
    }
    let mut labels = Labels::default();
    let variables = variables::variables(parts, &mut labels);
    variables::declare(&mut document, &variables);
    let mut uris = Vec::new();
    for (part, alias) in parts.iter().zip(&aliases) {
        let (document, labels, variables) = (&mut document, &mut labels, &variables[..]);
        let (alias, uris) = (alias.as_deref(), &mut uris);
        Writer { part, alias, variables, document, labels, uris }.write();
    }
    let alias = aliases.first().and_then(|alias| alias.as_deref());
    policies::write(&mut document, &mut labels, policies, alias);
    policies::write_outputs(&mut document, policies, &uris);
    document.to_string()
}

/// The provider's alias of each registry; none for a single registry.
fn aliases(parts: &[ExportPart<'_>]) -> Vec<Option<String>> {
    let alias = |part: &ExportPart<'_>| {
        let EcrRegistry { region, account, .. } = part.registry;
        let alike = parts.iter().filter(|other| other.registry.region == *region).count();
        let name = if alike == 1 { region.clone() } else { format!("{region}-{account}") };
        Some(hcl::label(&name))
    };
    match parts {
        [_] => vec![None],
        parts => parts.iter().map(alias).collect(),
    }
}

fn provider(document: &mut HclDocument, part: &ExportPart<'_>, alias: Option<&str>) {
    let ExportPart { registry, identity, .. } = part;
    document.section("provider \"aws\"", |block| {
        block.set_some("alias", alias);
        block.set("region", &registry.region);
        block.set("allowed_account_ids", [&registry.account]);
        block.set_some("profile", identity.profile.as_deref());
        if let Some(role) = &identity.role_arn {
            block.section("assume_role", |block| {
                block.set("role_arn", role);
                block.set_some("external_id", identity.external_id.as_deref());
            });
        }
        if let Some(endpoint) = &identity.endpoint_url {
            block.section("endpoints", |block| {
                block.set("ecr", endpoint.as_str().trim_end_matches('/'));
            });
        }
    });
}
