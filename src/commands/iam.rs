//! `iam`: prints the IAM policies that a configuration needs.

use super::shared::read_config;
use crate::{
    cli::{Global, IamPolicy},
    iam,
    model::Result,
    output::Screen,
};

pub(crate) fn run(global: &Global, screen: &Screen, policy: IamPolicy) -> Result<u8> {
    let config = read_config(global)?;
    let document = match policy {
        IamPolicy::Mirror => iam::mirror_policy(&config),
        IamPolicy::Pull => iam::pull_policy(&config),
        IamPolicy::PullThrough => iam::pull_through_policy(&config),
    };
    screen.print(|out| writeln!(out, "{document:#}"))?;
    Ok(0)
}
