//! `iam`: prints the IAM policies that a configuration needs.

use serde_json::Value;

use super::shared::read_expanded_config;
use crate::{
    cli::{Global, IamPolicy, pull_through::PolicyExport},
    config::Config,
    iam::{self, LIMIT},
    model::{Error, Kind, Result},
    output::Screen,
    pull_through::terraform::ExportedPolicy,
};

/// The policy as one document of any length.
fn whole(config: &Config, policy: IamPolicy) -> Value {
    match policy {
        IamPolicy::Mirror => iam::mirror_policy(config),
        IamPolicy::Pull => iam::pull_policy(config),
        IamPolicy::PullThrough => iam::pull_through_policy(config),
    }
}

pub(crate) async fn run(
    global: &Global,
    screen: &Screen,
    policy: IamPolicy,
    split: bool,
) -> Result<u8> {
    let config = read_expanded_config(global).await?;
    let whole = whole(&config, policy);
    let document = match () {
        () if split => Value::Array(iam::split(&whole)),
        () if iam::fits(&whole) => whole,
        () => {
            let short = iam::by_prefix(whole, &config);
            if !iam::fits(&short) {
                let problem =
                    format!("the policy has more than {LIMIT} characters, the limit of IAM");
                return Err(Error::new(Kind::Unsupported, problem).hint(
                    "add `--split` to print several documents, and attach all of them to the role",
                ));
            }
            screen.tell_lines(|out| {
                writeln!(
                    out,
                    "note: the names of all repositories exceed IAM's limit of {LIMIT} characters; \
                     the policy grants the prefix, `--split` prints exact names"
                )
            });
            short
        }
    };
    screen.print(|out| writeln!(out, "{document:#}"))?;
    Ok(0)
}

/// Each of the named policies once, with its roles.
pub(super) fn exported_policies(
    config: &Config,
    named: &[PolicyExport],
) -> Result<Vec<ExportedPolicy>> {
    let mut all = Vec::new();
    for (policy, name) in [
        (IamPolicy::Mirror, "mirror"),
        (IamPolicy::Pull, "pull"),
        (IamPolicy::PullThrough, "pull-through"),
    ] {
        let named: Vec<_> = named.iter().filter(|it| it.policy == policy).collect();
        if named.is_empty() {
            continue;
        }
        let whole = whole(config, policy);
        if whole["Statement"].as_array().is_some_and(Vec::is_empty) {
            let problem = format!("the policy `{name}` has no statement for this configuration");
            let hint = format!("remove `--iam {name}`: IAM accepts no empty policy");
            return Err(Error::new(Kind::Configuration, problem).hint(hint));
        }
        let mut roles: Vec<String> = named.into_iter().filter_map(|it| it.role.clone()).collect();
        roles.sort();
        roles.dedup();
        all.push(ExportedPolicy { name, documents: iam::split(&whole), roles });
    }
    Ok(all)
}
