//! `iam`: prints the IAM policies that a configuration needs.

use serde_json::Value;

use super::shared::read_config;
use crate::{
    cli::{Global, IamPolicy},
    config::Config,
    iam::{self, LIMIT},
    model::{Error, Kind, Result},
    output::Screen,
};

/// The policy as one document of any length.
pub(super) fn whole(config: &Config, policy: IamPolicy) -> Value {
    match policy {
        IamPolicy::Mirror => iam::mirror_policy(config),
        IamPolicy::Pull => iam::pull_policy(config),
        IamPolicy::PullThrough => iam::pull_through_policy(config),
    }
}

pub(crate) fn run(global: &Global, screen: &Screen, policy: IamPolicy, split: bool) -> Result<u8> {
    let config = read_config(global)?;
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
            screen.tell(|out| {
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
