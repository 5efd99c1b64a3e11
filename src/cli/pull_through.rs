//! The commands of `pull-through`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};

use super::{
    IamPolicy,
    exit::{self, REFUSED, rules},
    name,
};
use crate::model::NameError;

const DIFFERENT: &str = "a configured rule is missing or differs, or an AWS error";
const INVALID: &str = "a configured rule fails or is missing, or an AWS error";
const UNEXPORTED: &str = "a conflict, an AWS error, or cannot write the output";

#[derive(Debug, Subcommand)]
pub enum PullThrough {
    /// Show the changes that `apply` would make; writes nothing
    #[command(after_help = exit::pull_through_plan())]
    Plan(PullThroughPlanArgs),
    /// Create and update the configured secrets, rules, templates and access
    #[command(after_help = rules("everything configured is set up", REFUSED))]
    Apply(ApplyArgs),
    /// Show each rule, the repositories that it created, and what is left over
    #[command(after_help = rules("every configured rule exists and matches", DIFFERENT))]
    Status(ListArgs),
    /// Let ECR test each rule: reach the upstream, read the secret, log in
    #[command(after_help = rules("every configured rule works", INVALID))]
    Validate(ListArgs),
    /// Pull the selected images through the cache once, before the first node needs them
    #[command(after_help = exit::warm())]
    Warm(WarmArgs),
    /// Remove the configured rules, templates, access and secrets; cached images stay
    #[command(after_help = rules("everything configured is removed; cached images stay", REFUSED))]
    Destroy(DestroyArgs),
    /// Export the setup for other tools
    #[command(after_help = rules("the export is written", UNEXPORTED))]
    Export {
        #[command(subcommand)]
        format: Export,
    },
}

#[derive(Debug, Clone, Default, Args)]
pub struct DestinationArgs {
    /// Use only the destination with this name; repeatable [default: every ECR destination]
    #[arg(long = "destination", value_name = "NAME")]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct PullThroughPlanArgs {
    #[command(flatten)]
    pub destinations: DestinationArgs,
    /// Print the changes as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Exit with status 1 if `apply` would change anything, with 2 if AWS could not be asked
    #[arg(long)]
    pub check: bool,
    /// Replace rules with another upstream than configured, instead of reporting a conflict
    #[arg(long)]
    pub replace: bool,
    /// Show the removal of resources of earlier configurations as changes
    #[arg(long)]
    pub prune: bool,
    /// Append a summary in Markdown to FILE; `auto` names $GITHUB_STEP_SUMMARY and writes nothing
    /// where that is not set
    #[arg(long, value_name = "FILE|auto")]
    pub summary: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    pub destinations: DestinationArgs,
    /// Print the changes as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Make the changes without asking for confirmation
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Replace rules with another upstream than configured, instead of reporting a conflict
    #[arg(long)]
    pub replace: bool,
    /// Remove what ecr-mirror made for earlier configurations: statements, secrets with their rules,
    /// templates
    #[arg(long)]
    pub prune: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub destinations: DestinationArgs,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WarmArgs {
    #[command(flatten)]
    pub destinations: DestinationArgs,
    /// Warm only images whose name or source matches; repeatable [default: all pull-through images]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Print the report as JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DestroyArgs {
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Delete the repositories below the caches' prefixes, too; the plan lists them
    #[arg(long)]
    pub repositories: bool,
    /// Delete repositories that have images, too
    #[arg(long, requires = "repositories")]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Export {
    /// Print the setup as Terraform configuration, with import blocks for existing resources
    #[command(after_help = rules("the export is written", UNEXPORTED))]
    Terraform {
        #[command(flatten)]
        destinations: DestinationArgs,
        /// Export the IAM policy `mirror`, `pull` or `pull-through`, too, and attach it to the role of
        /// this name; repeatable
        #[arg(long = "iam", value_name = "POLICY[=ROLE]", value_parser = name::<PolicyExport>)]
        policies: Vec<PolicyExport>,
    },
    /// Write pull secrets for a fallback to the upstreams, as a Kubernetes manifest
    #[command(after_help = rules("the export is written", UNEXPORTED))]
    Kubernetes {
        /// Write the secrets for this namespace; repeatable
        #[arg(long = "namespace", value_name = "NAMESPACE", required = true, num_args = 1..)]
        namespaces: Vec<String>,
        /// Write one secret of this name with all logins [default: one secret for each login]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Read the login of a `secret_arn` from Secrets Manager, too
        #[arg(long)]
        read_secrets: bool,
        /// Write the manifest to FILE, readable only by its owner; it contains credentials
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// An IAM policy to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyExport {
    pub policy: IamPolicy,
    /// The name of the role that gets it.
    pub role: Option<String>,
}

impl FromStr for PolicyExport {
    type Err = NameError;

    /// Source: IAM API reference, `RoleName`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (policy, role) = match text.split_once('=') {
            Some((policy, role)) => (policy, Some(role)),
            None => (text, None),
        };
        let wrong =
            |problem: String, hint: &str| NameError { problem, hint: Some(hint.to_owned()) };
        let policy = match policy {
            "mirror" => IamPolicy::Mirror,
            "pull" => IamPolicy::Pull,
            "pull-through" => IamPolicy::PullThrough,
            other => {
                let problem = format!("no policy is called `{other}`");
                return Err(wrong(problem, "use mirror, pull or pull-through"));
            }
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        let is_role = |role: &&str| (1..=64).contains(&role.len()) && role.chars().all(is_part);
        if let Some(role) = role.filter(|role| !is_role(role)) {
            let problem = format!("`{role}` is not the name of a role");
            return Err(wrong(problem, "write the name without the ARN and its path"));
        }
        Ok(Self { policy, role: role.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_to_export_may_name_a_role() {
        let export = |policy, role: Option<&str>| {
            Some(PolicyExport { policy, role: role.map(str::to_owned) })
        };
        for (text, expected) in [
            ("mirror", export(IamPolicy::Mirror, None)),
            ("pull=nodes", export(IamPolicy::Pull, Some("nodes"))),
            ("pull-through=a=b", export(IamPolicy::PullThrough, Some("a=b"))),
            ("push", None),
            ("pull=", None),
            ("pull=arn:aws:iam::123456789012:role/nodes", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
