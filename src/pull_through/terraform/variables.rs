//! The variables of an export: the credentials, which are in no file.

use super::{
    desired::ExportPart,
    hcl::{HclDocument, quoted},
    labels::Labels,
};
use crate::{model::UserPassword, pull_through::state::CacheStep};

const HEAD: &str = "\
No credentials are in this file or in Terraform's state: they are variables, to be given with
every run, as in TF_VAR_NAME='{\"username\":\"…\",\"access_token\":\"…\"}'.";

/// The credentials of one secret. Registries with the same secret share a variable.
pub(super) struct Variable<'a> {
    pub(super) name: String,
    secret: &'a str,
    login: &'a UserPassword,
}

impl Variable<'_> {
    pub(super) fn is(&self, secret: &str, login: &UserPassword) -> bool {
        (self.secret, self.login) == (secret, login)
    }
}

pub(super) fn variables<'a>(parts: &[ExportPart<'a>], labels: &mut Labels) -> Vec<Variable<'a>> {
    let mut variables: Vec<Variable<'a>> = Vec::new();
    let steps = parts.iter().flat_map(|part| part.planned).filter_map(|it| it.step.as_ref());
    for step in steps {
        let CacheStep::CreateSecret { name, login, .. } = step else { continue };
        if !variables.iter().any(|known| known.is(name, login)) {
            let label = labels.free("variable", &format!("{}-credentials", short(name)));
            variables.push(Variable { name: label, secret: name, login });
        }
    }
    variables
}

/// A secret's name without the prefix that ECR requires.
pub(super) fn short(secret: &str) -> &str {
    secret.strip_prefix("ecr-pullthroughcache/").unwrap_or(secret)
}

pub(super) fn declare(document: &mut HclDocument, variables: &[Variable<'_>]) {
    if !variables.is_empty() {
        document.gap();
        document.comment(HEAD);
    }
    for (at, variable) in variables.iter().enumerate() {
        if at > 0 {
            document.gap();
        }
        document.block(&format!("variable {}", quoted(&variable.name)), |block| {
            let description =
                format!("What ECR logs in with: the content of secret {}.", variable.secret);
            block.set("description", description);
            let members = [("username", "string"), ("access_token", "string")];
            block.set_call("type", "object", &members);
            block.set("sensitive", true);
            block.set("ephemeral", true);
        });
    }
}
