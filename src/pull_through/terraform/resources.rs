//! Writes the resources of one registry, and an import for each existing one.

use serde_json::{Value, json};

use super::{
    desired::ExportPart,
    hcl::{HclDocument, quoted},
    labels::Labels,
    variables::{Variable, short},
};
use crate::{
    ecr::settings,
    model::{
        UserPassword,
        ecr_settings::{Encryption, TagMutability},
    },
    pull_through::state::{CacheStep, Content, Credential, DesiredRule, DesiredTemplate},
};

const SECRET: &str = "aws_secretsmanager_secret";
const VERSION: &str = "aws_secretsmanager_secret_version";
const RULE: &str = "aws_ecr_pull_through_cache_rule";
const TEMPLATE: &str = "aws_ecr_repository_creation_template";
const POLICY: &str = "aws_ecr_registry_policy";

/// Writes one registry's resources.
pub(super) struct Writer<'a> {
    pub(super) part: &'a ExportPart<'a>,
    /// The provider's alias, if there are several registries.
    pub(super) alias: Option<&'a str>,
    pub(super) variables: &'a [Variable<'a>],
}

impl Writer<'_> {
    pub(super) fn write(&self, document: &mut HclDocument, labels: &mut Labels) {
        for step in self.part.planned.iter().filter_map(|planned| planned.step.as_ref()) {
            match step {
                CacheStep::CreateSecret { name, login } => {
                    self.secret(document, labels, name, login)
                }
                CacheStep::CreateRule(rule) => self.rule(document, labels, rule),
                CacheStep::CreateTemplate(template) => self.template(document, labels, template),
                CacheStep::PutRegistryPolicy(policy) => self.policy(document, labels, policy),
                // a plan from nothing has no other step
                _ => {}
            }
        }
    }

    fn label(&self, labels: &mut Labels, kind: &str, name: &str) -> String {
        match self.alias {
            Some(alias) => labels.of(kind, &format!("{alias}-{name}")),
            None => labels.of(kind, name),
        }
    }

    fn resource(
        &self,
        document: &mut HclDocument,
        kind: &str,
        label: &str,
        body: impl FnOnce(&mut HclDocument),
    ) {
        document.gap();
        document.block(&format!("resource {} {}", quoted(kind), quoted(label)), |block| {
            if let Some(alias) = self.alias {
                block.set_expression("provider", &format!("aws.{alias}"));
            }
            body(block);
        });
    }

    fn secret(
        &self,
        document: &mut HclDocument,
        labels: &mut Labels,
        name: &str,
        login: &UserPassword,
    ) {
        let label = self.label(labels, SECRET, short(name));
        self.resource(document, SECRET, &label, |block| {
            block.set("name", &json!(name));
            block.gap();
            block.comment(
                "Destroyed, it can be restored for 30 days, and nothing else can have its name.",
            );
            block.set("recovery_window_in_days", &json!(30));
        });
        if let Some(existing) = self.part.observed.secrets.get(name) {
            if matches!(existing.content, Content::PendingDeletion) {
                document.gap();
                let region = &self.part.registry.region;
                document.comment(&format!(
                    "It is deleted, and must be restored before it can be imported:\n\
                     aws secretsmanager restore-secret --region {region} --secret-id {name}"
                ));
            }
            import(document, &format!("{SECRET}.{label}"), &existing.arn);
        }
        let variable = self.variables.iter().find(|variable| variable.is(name, login));
        let variable = &variable.expect("every secret's login is a variable").name;
        self.resource(document, VERSION, &label, |block| {
            block.set_expression("secret_id", &format!("{SECRET}.{label}.id"));
            block.gap();
            block.set_call(
                "secret_string_wo",
                &[
                    ("username", &format!("var.{variable}.username")),
                    ("accessToken", &format!("var.{variable}.access_token")),
                ],
            );
            block.gap();
            block
                .comment("Raise it when the credentials change: only then are they written again.");
            block.set("secret_string_wo_version", &json!(1));
        });
    }

    fn rule(&self, document: &mut HclDocument, labels: &mut Labels, rule: &DesiredRule) {
        let label = self.label(labels, RULE, &rule.prefix);
        let credential = rule.credential.as_ref().map(|credential| match credential {
            Credential::Arn(arn) => quoted(arn),
            // depends on the version: ECR reads the secret when the rule is created
            Credential::Named(name) => {
                format!("{VERSION}.{}.arn", self.label(labels, SECRET, short(name)))
            }
        });
        self.resource(document, RULE, &label, |block| {
            block.set("ecr_repository_prefix", &json!(rule.prefix));
            block.set("upstream_registry_url", &json!(rule.url));
            set_some(block, "upstream_repository_prefix", rule.upstream_prefix.as_ref());
            if let Some(credential) = &credential {
                block.set_expression("credential_arn", credential);
            }
            set_some(block, "custom_role_arn", rule.role_arn.as_ref());
        });
        let Some(existing) = self.part.observed.rules.get(&rule.prefix) else { return };
        let upstream_prefix = rule.upstream_prefix.as_deref().unwrap_or("ROOT");
        if existing.url != rule.url || existing.upstream_prefix != upstream_prefix {
            document.gap();
            document.comment(&format!(
                "It is there for another upstream, {} ({}): Terraform will replace it.",
                existing.url, existing.upstream_prefix
            ));
        }
        import(document, &format!("{RULE}.{label}"), &rule.prefix);
    }

    fn template(
        &self,
        document: &mut HclDocument,
        labels: &mut Labels,
        template: &DesiredTemplate,
    ) {
        let label = self.label(labels, TEMPLATE, &template.prefix);
        self.resource(document, TEMPLATE, &label, |block| {
            block.set("prefix", &json!(template.prefix));
            block.set("applied_for", &json!(template.applied_for));
            if let Some(mutability) = &template.mutability {
                let (mutability, _) = settings::to_api(mutability);
                block.set("image_tag_mutability", &json!(mutability.as_str()));
            }
            set_some(block, "custom_role_arn", template.role_arn.as_ref());
            for wildcard in template.mutability.iter().flat_map(TagMutability::exclusions) {
                block.gap();
                block.block("image_tag_mutability_exclusion_filter", |block| {
                    block.set("filter", &json!(wildcard));
                    block.set("filter_type", &json!("WILDCARD"));
                });
            }
            if let Some(encryption) = &template.encryption {
                block.gap();
                encrypt(block, encryption);
            }
            if let Some(tags) = template.tags.as_ref().filter(|tags| !tags.is_empty()) {
                block.gap();
                block.set("resource_tags", &json!(tags));
            }
            let documents = [
                ("lifecycle_policy", &template.lifecycle),
                ("repository_policy", &template.policy),
            ];
            for (name, document) in documents {
                if let Some(document) = document {
                    block.gap();
                    block.set_json(name, document);
                }
            }
        });
        if self.part.observed.templates.contains_key(&template.prefix) {
            import(document, &format!("{TEMPLATE}.{label}"), &template.prefix);
        }
    }

    fn policy(&self, document: &mut HclDocument, labels: &mut Labels, policy: &Value) {
        let label = self.label(labels, POLICY, "registry");
        self.resource(document, POLICY, &label, |block| {
            block.comment("Whole: what it holds besides is what was there.");
            block.set_json("policy", policy);
        });
        if self.part.observed.registry_policy.is_some() {
            import(document, &format!("{POLICY}.{label}"), &self.part.registry.account);
        }
    }
}

/// An import uses its resource's provider.
fn import(document: &mut HclDocument, to: &str, id: &str) {
    document.gap();
    document.block("import", |block| {
        block.set_expression("to", to);
        block.set("id", &json!(id));
    });
}

fn set_some(block: &mut HclDocument, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        block.set(name, &json!(value));
    }
}

fn encrypt(block: &mut HclDocument, encryption: &Encryption) {
    let kind = settings::encryption_to_api(encryption).encryption_type;
    block.block("encryption_configuration", |block| {
        block.set("encryption_type", &json!(kind.as_str()));
        if let Some(key) = encryption.key() {
            block.set("kms_key", &json!(key));
        }
    });
}
