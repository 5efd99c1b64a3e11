//! Writes the resources of one registry, and an import for each existing one.

use serde_json::Value;

use super::{
    desired::ExportPart,
    hcl::{HclDocument, quoted},
    labels::Labels,
    variables::{Variable, short},
};
use crate::{
    ecr::{cache_api::ROOT, settings},
    model::{UserPassword, ecr_settings::TagMutability},
    pull_through::{
        fetch_state::SECRET_DESCRIPTION,
        state::{CacheStep, Content, Credential, DesiredRule, DesiredTemplate},
    },
};

const SECRET: &str = "aws_secretsmanager_secret";
const VERSION: &str = "aws_secretsmanager_secret_version";
const RULE: &str = "aws_ecr_pull_through_cache_rule";
const TEMPLATE: &str = "aws_ecr_repository_creation_template";
const POLICY: &str = "aws_ecr_registry_policy";

/// The days in which a deleted secret can be restored, unless others are configured.
const DEFAULT_RECOVERY_DAYS: u32 = 30;

pub(super) struct Writer<'a> {
    pub(super) part: &'a ExportPart<'a>,
    /// The provider's alias, if there are several registries.
    pub(super) alias: Option<&'a str>,
    pub(super) variables: &'a [Variable<'a>],
    pub(super) document: &'a mut HclDocument,
    pub(super) labels: &'a mut Labels,
    /// One for each rule that was written.
    pub(super) uris: &'a mut Vec<RepositoryUri>,
}

/// The prefix of the references that are pulled through a cache.
pub(super) struct RepositoryUri {
    /// The label of its rule.
    pub(super) label: String,
    pub(super) expression: String,
}

/// Writes a resource of the provider with this alias.
pub(super) fn resource(
    document: &mut HclDocument,
    alias: Option<&str>,
    kind: &str,
    label: &str,
    body: impl FnOnce(&mut HclDocument),
) {
    document.section(&format!("resource {} {}", quoted(kind), quoted(label)), |block| {
        if let Some(alias) = alias {
            block.set_expression("provider", &format!("aws.{alias}"));
        }
        body(block);
    });
}

impl Writer<'_> {
    pub(super) fn write(&mut self) {
        for step in self.part.planned.iter().filter_map(|planned| planned.step.as_ref()) {
            match step {
                CacheStep::CreateSecret { name, login, description } => {
                    self.secret(name, login, description.as_deref());
                }
                CacheStep::CreateRule(rule) => self.rule(rule),
                CacheStep::CreateTemplate(template) => self.template(template),
                CacheStep::PutRegistryPolicy(policy) => self.policy(policy),
                // a plan from nothing has no other step, but the policy of a secret
                _ => {}
            }
        }
        for account in &self.part.accounts {
            self.account(account);
        }
    }

    pub(super) fn label(&mut self, kind: &str, name: &str) -> String {
        match self.alias {
            Some(alias) => self.labels.of(kind, &format!("{alias}-{name}")),
            None => self.labels.of(kind, name),
        }
    }

    pub(super) fn resource(
        &mut self,
        kind: &str,
        label: &str,
        body: impl FnOnce(&mut HclDocument),
    ) {
        resource(self.document, self.alias, kind, label, body);
    }

    fn secret(&mut self, name: &str, login: &UserPassword, description: Option<&str>) {
        let label = self.label(SECRET, short(name));
        let settings = self.part.caches.iter().find(|cache| cache.secret_name() == name);
        let settings = settings.map(|cache| cache.secret.clone()).unwrap_or_default();
        let existing = self.part.observed.secrets.get(name);
        // Terraform removes a description that the configuration omits
        let kept = existing.and_then(|secret| secret.description.as_deref());
        let description = description.or(kept).unwrap_or(SECRET_DESCRIPTION);
        let days = settings.recovery_window_days.unwrap_or(DEFAULT_RECOVERY_DAYS);
        self.resource(SECRET, &label, |block| {
            block.set("name", name);
            block.set("description", description);
            if let Some(policy) = &settings.policy {
                block.gap();
                block.set_json("policy", policy);
            }
            block.gap();
            block.comment(&format!(
                "Destroyed, it can be restored for {days} days, and nothing else can have its name."
            ));
            block.set("recovery_window_in_days", days);
        });
        if let Some(existing) = existing {
            if matches!(existing.content, Content::PendingDeletion) {
                self.document.gap();
                let region = &self.part.registry.region;
                self.document.comment(&format!(
                    "It is deleted, and must be restored before it can be imported:\n\
                     aws secretsmanager restore-secret --region {region} --secret-id {name}"
                ));
            }
            self.import(&format!("{SECRET}.{label}"), &existing.arn);
        }
        let variable = self.variables.iter().find(|variable| variable.is(name, login));
        let variable = &variable.expect("every secret's login is a variable").name;
        self.resource(VERSION, &label, |block| {
            block.set_expression("secret_id", &format!("{SECRET}.{label}.id"));
            block.gap();
            let username = format!("var.{variable}.username");
            let token = format!("var.{variable}.access_token");
            let members = [("username", &*username), ("accessToken", &*token)];
            block.set_call("secret_string_wo", "jsonencode", &members);
            block.gap();
            block
                .comment("Raise it when the credentials change: only then are they written again.");
            block.set("secret_string_wo_version", 1);
        });
    }

    fn rule(&mut self, rule: &DesiredRule) {
        let label = self.label(RULE, &rule.prefix);
        let credential = rule.credential.as_ref().map(|credential| match credential {
            Credential::Arn(arn) => quoted(arn),
            // depends on the version: ECR reads the secret when the rule is created
            Credential::Named(name) => {
                format!("{VERSION}.{}.arn", self.label(SECRET, short(name)))
            }
        });
        self.resource(RULE, &label, |block| {
            block.set("ecr_repository_prefix", &rule.prefix);
            block.set("upstream_registry_url", &rule.url);
            block.set_some("upstream_repository_prefix", rule.upstream_prefix.as_deref());
            if let Some(credential) = &credential {
                block.set_expression("credential_arn", credential);
            }
            block.set_some("custom_role_arn", rule.role_arn.as_deref());
        });
        self.uris.push(RepositoryUri {
            expression: self.repository_uri(&rule.prefix, &label),
            label: label.clone(),
        });
        let Some(existing) = self.part.observed.rules.get(&rule.prefix) else { return };
        let upstream_prefix = rule.upstream_prefix.as_deref().unwrap_or("ROOT");
        if existing.url != rule.url || existing.upstream_prefix != upstream_prefix {
            self.document.gap();
            self.document.comment(&format!(
                "It is there for another upstream, {} ({}): Terraform will replace it.",
                existing.url, existing.upstream_prefix
            ));
        }
        self.import(&format!("{RULE}.{label}"), &rule.prefix);
    }

    /// The expression depends on the rule: with it the references can be pulled.
    fn repository_uri(&self, prefix: &str, label: &str) -> String {
        let host = &self.part.registry.host;
        match prefix {
            ROOT => quoted(host.as_str()),
            _ => format!("\"{host}/${{{RULE}.{label}.ecr_repository_prefix}}\""),
        }
    }

    fn template(&mut self, template: &DesiredTemplate) {
        let label = self.label(TEMPLATE, &template.prefix);
        self.resource(TEMPLATE, &label, |block| {
            block.set("prefix", &template.prefix);
            block.set_some("description", template.description.as_deref());
            block.set("applied_for", &template.applied_for);
            if let Some(mutability) = &template.mutability {
                let (mutability, _) = settings::to_api(mutability);
                block.set("image_tag_mutability", mutability.as_str());
            }
            block.set_some("custom_role_arn", template.role_arn.as_deref());
            for wildcard in template.mutability.iter().flat_map(TagMutability::exclusions) {
                block.section("image_tag_mutability_exclusion_filter", |block| {
                    block.set("filter", wildcard);
                    block.set("filter_type", "WILDCARD");
                });
            }
            if let Some(encryption) = &template.encryption {
                block.section("encryption_configuration", |block| {
                    block.set("encryption_type", settings::encryption_type(encryption).as_str());
                    block.set_some("kms_key", encryption.key());
                });
            }
            if let Some(tags) = template.tags.as_ref().filter(|tags| !tags.is_empty()) {
                block.gap();
                block.set("resource_tags", tags);
            }
            for (name, policy) in
                [("lifecycle_policy", &template.lifecycle), ("repository_policy", &template.policy)]
            {
                if let Some(policy) = policy {
                    block.gap();
                    block.set_json(name, policy);
                }
            }
        });
        if self.part.observed.templates.contains_key(&template.prefix) {
            self.import(&format!("{TEMPLATE}.{label}"), &template.prefix);
        }
    }

    fn policy(&mut self, policy: &Value) {
        let label = self.label(POLICY, "registry");
        self.resource(POLICY, &label, |block| {
            block.comment("Whole: what it holds besides is what was there.");
            block.set_json("policy", policy);
        });
        if self.part.observed.registry_policy.is_some() {
            self.import(&format!("{POLICY}.{label}"), &self.part.registry.account);
        }
    }

    /// An import uses its resource's provider.
    fn import(&mut self, to: &str, id: &str) {
        self.document.section("import", |block| {
            block.set_expression("to", to);
            block.set("id", id);
        });
    }
}
