//! Writes IAM policies, their attachments to roles, and the outputs of an export.

use std::iter;

use serde_json::Value;

use super::{
    hcl::{HclDocument, label, quoted},
    labels::Labels,
    resources::{RepositoryUri, resource},
};

const POLICY: &str = "aws_iam_policy";
const ATTACHMENT: &str = "aws_iam_role_policy_attachment";

/// One of the policies that `iam` prints, with the roles that get it.
#[derive(Debug)]
pub(crate) struct ExportedPolicy {
    /// The name of the policy, like `pull-through`.
    pub(crate) name: &'static str,
    /// Documents that fit IAM's limit and together are the policy.
    pub(crate) documents: Vec<Value>,
    /// The names of the roles.
    pub(crate) roles: Vec<String>,
}

impl ExportedPolicy {
    /// The label of each document; numbered from the second one on.
    fn labels(&self) -> Vec<String> {
        let first = label(self.name);
        let numbered = (2..).map(|number| format!("{first}_{number}"));
        iter::once(first.clone()).chain(numbered).take(self.documents.len()).collect()
    }
}

/// Writes the policies. IAM belongs to an account: `alias` is a provider of it.
pub(super) fn write(
    document: &mut HclDocument,
    labels: &mut Labels,
    policies: &[ExportedPolicy],
    alias: Option<&str>,
) {
    for policy in policies {
        for (label, content) in policy.labels().iter().zip(&policy.documents) {
            resource(document, alias, POLICY, label, |block| {
                // IAM names are unique in an account: several exports can be applied in one
                block.set("name_prefix", format!("ecr-mirror-{}-", policy.name));
                block.set("description", format!("Printed by ecr-mirror iam {}", policy.name));
                block.gap();
                block.set_json("policy", content);
            });
            for role in &policy.roles {
                let attachment = labels.of(ATTACHMENT, &format!("{label}-{role}"));
                resource(document, alias, ATTACHMENT, &attachment, |block| {
                    block.set("role", role);
                    block.set_expression("policy_arn", &format!("{POLICY}.{label}.arn"));
                });
            }
        }
    }
}

/// Writes an output for the ARN and the name of each policy, and one for the caches.
pub(super) fn write_outputs(
    document: &mut HclDocument,
    policies: &[ExportedPolicy],
    caches: &[RepositoryUri],
) {
    let mut output = |name: &str, description: &str, body: &mut dyn FnMut(&mut HclDocument)| {
        document.section(&format!("output {}", quoted(name)), |block| {
            block.set("description", description);
            body(block);
        });
    };
    if !caches.is_empty() {
        let description = "The prefix of the references to pull, for each cache.";
        output("repository_uris", description, &mut |block| {
            let members: Vec<(&str, &str)> =
                caches.iter().map(|uri| (&*uri.label, &*uri.expression)).collect();
            block.set_object("value", &members);
        });
    }
    for (policy, label) in
        policies.iter().flat_map(|it| it.labels().into_iter().map(move |label| (it, label)))
    {
        for (member, word) in [("arn", "ARN"), ("name", "name")] {
            let description =
                format!("The {word} of the policy of `ecr-mirror iam {}`.", policy.name);
            output(&format!("{label}_policy_{member}"), &description, &mut |block| {
                block.set_expression("value", &format!("{POLICY}.{label}.{member}"));
            });
        }
    }
}
