//! Plans, shows, confirms and applies changes: the common part of `apply` and `destroy`.
//!
//! Registries are planned in parallel and changed one after the other. A registry that fails does not
//! stop the others.

use std::ops::ControlFlow;

use super::consent::{ChangesRequest, confirm};
use crate::{
    cli::Global,
    commands::shared::{read_config_with_warnings, watch_signals, with_registries},
    engine::Shutdown,
    model::{
        Result, SettingChange,
        setting_change::{Action, Subject},
    },
    output::{
        Screen,
        changes::{self, Kept},
        error,
    },
    pull_through::{Planned, apply::apply, state::CacheStep},
    run::{
        pull_through::{
            preview::PlannedSite,
            sites::{CacheSite, sites},
        },
        registries::Registries,
    },
};

/// Applies the changes and returns the exit status.
pub(crate) async fn run(
    global: &Global,
    screen: &Screen,
    request: &ChangesRequest<'_>,
) -> Result<u8> {
    let config = read_config_with_warnings(global, screen)?;
    let sites = sites(&config, &request.args.destinations.names)?;
    request.goal.check(&sites)?;
    let shutdown = Shutdown::default();
    let apply = async |registries: &Registries| {
        tokio::select! {
            // polled first, so that the signals are watched before the first request
            biased;
            error = watch_signals(global, screen, &shutdown) => Err(error),
            result = confirm_and_apply(screen, registries, &sites, request, &shutdown) => result,
            () = shutdown.dropping() => Ok(0),
        }
    };
    let result = with_registries(global, &config, apply).await;
    match shutdown.interrupt() {
        Some(interrupt) => {
            screen.tell_lines(|out| {
                writeln!(out, "stopped; run again to apply the remaining changes")
            });
            Ok(interrupt.status())
        }
        None => result,
    }
}

async fn confirm_and_apply(
    screen: &Screen,
    registries: &Registries,
    sites: &[CacheSite<'_>],
    request: &ChangesRequest<'_>,
    shutdown: &Shutdown,
) -> Result<u8> {
    let confirmed = tokio::select! {
        biased;
        () = shutdown.stopping() => return Ok(0),
        confirmed = confirm(screen, registries, sites, request) => confirmed?,
    };
    let Some((preview, mut status)) = confirmed else {
        screen.tell_lines(|out| writeln!(out, "nothing was changed"));
        return Ok(1);
    };
    for site in &preview.sites {
        status = status.max(apply_site(screen, site, shutdown).await);
    }
    Ok(status)
}

/// Applies the changes of one registry and returns its exit status.
async fn apply_site(screen: &Screen, site: &PlannedSite<'_>, shutdown: &Shutdown) -> u8 {
    let flow = || match shutdown.interrupt() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    };
    if flow().is_break() {
        return 0;
    }
    let (mut kept, mut pullable) = (Kept::default(), Vec::new());
    let deletes = |prefix: &str| {
        let is_below = |name: &str| name.strip_prefix(prefix).is_some_and(|it| it.starts_with('/'));
        let is_deleted = |planned: &Planned| matches!(&planned.step, Some(CacheStep::DeleteRepository { name, .. }) if is_below(name));
        site.planned.iter().any(is_deleted)
    };
    let applied = apply(&site.session, &site.site.registry.host, &site.planned, |done| {
        screen.tell_lines(|out| changes::made(out, &done.change));
        let SettingChange { action, kind, name, .. } = &done.change;
        match (action, kind) {
            (Action::Delete, Subject::Rule) if !deletes(name) => kept.prefixes.push(name.clone()),
            (Action::Create | Action::Replace, Subject::Rule) => pullable.push(name.clone()),
            _ => {}
        }
        flow()
    });
    let applied = Box::pin(applied).await;
    for error in &applied.failures {
        error::print(screen, error);
    }
    applied.left.iter().for_each(|it| screen.tell_lines(|out| changes::left(out, &it.change)));
    kept.secrets = applied.restorable;
    let host = site.site.registry.host.to_string();
    screen.tell_lines(|out| changes::kept(out, &host, &kept));
    screen.tell_lines(|out| changes::references(out, &host, &pullable));
    u8::from(!applied.failures.is_empty() || site.conflicts().next().is_some())
}
