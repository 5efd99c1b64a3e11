//! Writes the resources of one registry, and an import for each existing one.

use serde_json::Value;

use super::{
    desired::ExportPart,
    hcl::{HclDocument, quoted},
    labels::Labels,
    variables::{Variable, short},
};
use crate::{
    ecr::settings,
    model::{UserPassword, ecr_settings::TagMutability},
    pull_through::state::{CacheStep, Content, Credential, DesiredRule, DesiredTemplate},
};

const SECRET: &str = "aws_secretsmanager_secret";
const VERSION: &str = "aws_secretsmanager_secret_version";
const RULE: &str = "aws_ecr_pull_through_cache_rule";
const TEMPLATE: &str = "aws_ecr_repository_creation_template";
const POLICY: &str = "aws_ecr_registry_policy";

pub(super) struct Writer<'a> {
    pub(super) part: &'a ExportPart<'a>,
    /// The provider's alias, if there are several registries.
    pub(super) alias: Option<&'a str>,
    pub(super) variables: &'a [Variable<'a>],
    pub(super) document: &'a mut HclDocument,
    pub(super) labels: &'a mut Labels,
}

impl Writer<'_> {
    pub(super) fn write(&mut self) {
        for step in self.part.planned.iter().filter_map(|planned| planned.step.as_ref()) {
            match step {
                CacheStep::CreateSecret { name, login, .. } => self.secret(name, login),
                CacheStep::CreateRule(rule) => self.rule(rule),
                CacheStep::CreateTemplate(template) => self.template(template),
                CacheStep::PutRegistryPolicy(policy) => self.policy(policy),
                // a plan from nothing has no other step
                _ => {}
            }
        }
    }

    fn label(&mut self, kind: &str, name: &str) -> String {
        match self.alias {
            Some(alias) => self.labels.of(kind, &format!("{alias}-{name}")),
            None => self.labels.of(kind, name),
        }
    }

    fn resource(&mut self, kind: &str, label: &str, body: impl FnOnce(&mut HclDocument)) {
        let (head, alias) = (format!("resource {} {}", quoted(kind), quoted(label)), self.alias);
        self.document.section(&head, |block| {
            if let Some(alias) = alias {
                block.set_expression("provider", &format!("aws.{alias}"));
            }
            body(block);
        });
    }

    fn secret(&mut self, name: &str, login: &UserPassword) {
        let label = self.label(SECRET, short(name));
        self.resource(SECRET, &label, |block| {
            block.set("name", name);
            block.gap();
            block.comment(
                "Destroyed, it can be restored for 30 days, and nothing else can have its name.",
            );
            block.set("recovery_window_in_days", 30);
        });
        if let Some(existing) = self.part.observed.secrets.get(name) {
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

    fn template(&mut self, template: &DesiredTemplate) {
        let label = self.label(TEMPLATE, &template.prefix);
        self.resource(TEMPLATE, &label, |block| {
            block.set("prefix", &template.prefix);
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
