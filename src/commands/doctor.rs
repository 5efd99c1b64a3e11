//! `doctor`: checks credentials, network, permissions, limits and settings before a run.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use super::shared::{CONNECTIONS, read_config};
use crate::{
    cli::{DoctorArgs, Global},
    config::Config,
    doctor::{self, DoctorOptions},
    model::{Error, Kind, Result, check_report::exit_status},
    output::{Screen, doctor as output, error},
    registry::{Network, Transport},
    run::{registries::Registries, wildcards},
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: DoctorArgs) -> Result<u8> {
    let config = read_config(global)?;
    if args.list {
        let checks = doctor::list(&config);
        screen.print(|out| match args.json {
            true => output::list_json(out, &checks),
            false => output::list(out, &checks, screen.width()),
        })?;
        return Ok(0);
    }
    let policy = doctor::retry_policy();
    let sandbox = global.sandbox.as_deref();
    let opened = Registries::open_with(sandbox, &config, CONNECTIONS, &policy).await;
    let (registries, connections) = match opened {
        Ok(registries) => (registries, Ok(())),
        Err(error) if sandbox.is_some() => return Err(error),
        // the check of the network reports it, and nothing is sent
        Err(error) => {
            let transport = Transport::new(Network::Direct);
            (Registries::with_transport(transport, CONNECTIONS, &policy), Err(error))
        }
    };
    let expanded = match connections {
        Ok(()) => expand(&registries, &config, args.timeout).await,
        Err(_) => Ok(config.clone()),
    };
    let is_complete = expanded.is_ok();
    // the other checks do not need these repositories
    let config = expanded.unwrap_or_else(|error| {
        error::print(screen, &error);
        config
    });
    let options = DoctorOptions { only: args.only, writes: args.write, timeout: args.timeout };
    let rows = doctor::examine(&registries, connections, &config, &options).await;
    registries.close().await;
    let rows = rows?;
    let exit = exit_status(&rows, args.strict).max(u8::from(!is_complete));
    screen.print(|out| match args.json {
        true => output::json(out, &rows, exit),
        false => output::checks(out, &rows, global.verbose > 0, screen.width()),
    })?;
    Ok(exit)
}

/// The configuration with the repositories of sources with a `*`, which have checks like others.
async fn expand(registries: &Registries, config: &Config, limit: Duration) -> Result<Config> {
    let expanded = wildcards::expand(registries, config.clone()).boxed();
    timeout(limit, expanded).await.unwrap_or_else(|_| {
        let problem = format!("the repositories are not listed after {limit:?}");
        Err(Error::new(Kind::Unavailable, problem).hint("raise `--timeout`, or check the network"))
    })
}
