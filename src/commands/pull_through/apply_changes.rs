//! What `plan`, `apply` and `destroy` share: changes are proposed, shown, agreed to, carried out.
//!
//! Guards that nothing is changed that was not shown: what is there is looked at again once a
//! person has agreed. Registries are asked at once and changed one after the other; one that fails
//! does not stop the others.

use std::{ops::ControlFlow, sync::Arc};

use futures::future;

use super::{
    CacheSite,
    consent::{self, Consent},
    roles, sites,
};
use crate::{
    cli::{Global, pull_through::Where},
    commands::{configuration, status, warn},
    config::Config,
    ecr::AwsSession,
    engine::Shutdown,
    model::{
        Error, Kind, Result,
        setting_change::{Action, Subject},
    },
    output::{
        Screen, changes as view,
        changes::{Kept, Section},
        error,
    },
    pull_through::{
        Planned,
        apply::apply,
        changes::{Desired, Documents, Replace, changes, removals, secrets},
        fetch_state,
    },
    run::registries::Registries,
};

/// What is to become of the registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// They have what is written.
    SetUp(Replace),
    /// They have it no more.
    Removal,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeFormat {
    /// Lines, for a person.
    Lines,
    /// JSON, for a machine.
    Json,
}

impl ChangeFormat {
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

/// What a verb is to do.
pub(crate) struct Request<'a> {
    pub(crate) at: &'a Where,
    pub(crate) aim: Goal,
    pub(crate) format: ChangeFormat,
}

/// What came of looking.
pub(crate) struct Preview {
    /// Registries that cannot be asked: the exit status for them; 0 where all can.
    pub(crate) status: u8,
    /// What is to change.
    pub(crate) changes: usize,
}

/// Shows what would change, and changes nothing.
///
/// # Errors
/// When the configuration is wrong, or nothing can be printed.
pub(crate) async fn preview(
    global: &Global,
    screen: &Screen,
    order: &Request<'_>,
) -> Result<Preview> {
    let config = read(global, screen)?;
    let sites = sites(&config, order.at)?;
    let world = Registries::open(global.sandbox.as_deref(), 1).await?;
    let run = ApplyRun { screen, world: &world, sites: &sites, order };
    let (proposals, status) = run.propose().await;
    let shown = run.show(&proposals);
    let changes = proposals.iter().map(|proposal| proposal.planned.len()).sum();
    world.close().await;
    shown.map(|()| Preview { status, changes })
}

/// Shows what is to change, has it agreed to, and changes it; gives the exit status.
///
/// # Errors
/// When nothing was attempted.
pub(crate) async fn carry_out(
    global: &Global,
    screen: &Screen,
    order: &Request<'_>,
    consent: Consent,
) -> Result<u8> {
    let config = read(global, screen)?;
    let sites = sites(&config, order.at)?;
    let world = Registries::open(global.sandbox.as_deref(), 1).await?;
    let run = ApplyRun { screen, world: &world, sites: &sites, order };
    let shutdown = Shutdown::default();
    let ended = tokio::select! {
        ended = run.carry_out(consent, &shutdown) => ended,
        () = shutdown.dropping() => Ok(0),
        failed = shutdown.watch_signals() => match failed {
            Err(cause) => {
                Err(Error::new(Kind::Unavailable, "cannot listen to signals").because(cause))
            }
            Ok(never) => match never {},
        },
    };
    world.close().await;
    match shutdown.interrupt() {
        Some(interrupt) => {
            screen.tell(|out| writeln!(out, "stopped; running again does what is left"));
            Ok(interrupt.status())
        }
        None => ended,
    }
}

/// Reads the configuration, and tells what in it is most likely not meant.
fn read(global: &Global, screen: &Screen) -> Result<Config> {
    let config = configuration(global)?;
    warn(screen, &config);
    Ok(config)
}

/// What is to change in one registry.
struct PlannedSite<'a> {
    site: &'a CacheSite<'a>,
    session: Arc<AwsSession>,
    planned: Vec<Planned>,
}

impl PlannedSite<'_> {
    fn section(&self) -> Section<'_> {
        let changes = self.planned.iter().map(|planned| &planned.change).collect();
        Section { registry: self.site.registry.host.to_string(), changes }
    }

    fn conflicts(&self) -> usize {
        self.planned.iter().filter(|planned| planned.step.is_none()).count()
    }
}

/// A verb at work.
struct ApplyRun<'a> {
    screen: &'a Screen,
    world: &'a Registries,
    sites: &'a [CacheSite<'a>],
    order: &'a Request<'a>,
}

impl<'a> ApplyRun<'a> {
    /// What is to change where it can be asked, and the exit status for where it cannot.
    async fn propose(&self) -> (Vec<PlannedSite<'a>>, u8) {
        let asked = self.sites.iter().map(|site| self.propose_one(site));
        let (mut proposals, mut worst) = (Vec::new(), 0);
        for (site, proposed) in self.sites.iter().zip(future::join_all(asked).await) {
            match proposed {
                Ok(proposal) => proposals.push(proposal),
                Err(error) => {
                    worst = worst.max(status(&error));
                    let host = &site.registry.host;
                    let error = error.context(format!("cannot tell what there is in {host}"));
                    error::print(self.screen, &error);
                }
            }
        }
        // "nothing was attempted" is not so where others are changed
        let worst = if proposals.is_empty() { worst } else { worst.min(1) };
        (proposals, worst)
    }

    async fn propose_one(&self, site: &'a CacheSite<'a>) -> Result<PlannedSite<'a>> {
        // boxed, here and below: the compiler does not see to the bottom of futures this deep
        let session = Box::pin(site.session(self.world)).await?;
        let observed = Box::pin(fetch_state::observe(&session, &secrets(&site.caches))).await?;
        let on_push = site.on_push();
        let (registry, caches) = (&site.registry, &site.caches[..]);
        let replace = match self.order.aim {
            Goal::SetUp(replace) => replace,
            Goal::Removal => Replace::Never,
        };
        let wanted = Desired { registry, caches, on_push: &on_push, replace };
        let planned = match self.order.aim {
            Goal::SetUp(_) => changes(&wanted, &observed),
            Goal::Removal => removals(&wanted, &observed),
        };
        Ok(PlannedSite { site, session, planned })
    }

    fn show(&self, proposals: &[PlannedSite<'_>]) -> Result<()> {
        let sections: Vec<Section<'_>> = proposals.iter().map(PlannedSite::section).collect();
        self.screen.print(|out| match self.order.format {
            ChangeFormat::Lines => view::plan(out, &sections),
            ChangeFormat::Json => view::json(out, &sections),
        })?;
        if self.order.aim != Goal::Removal {
            self.show_roles(proposals);
        }
        Ok(())
    }

    /// Shows what the roles must be that changes bring in: they are not made here.
    fn show_roles(&self, proposals: &[PlannedSite<'_>]) {
        let proposed = proposals.iter().map(|it| (it.site, &it.planned[..]));
        for (what, Documents { trust, permissions }) in roles::needed(proposed) {
            self.screen.tell(|out| view::role(out, &what, (&trust, &permissions)));
        }
    }

    async fn carry_out(&self, consent: Consent, shutdown: &Shutdown) -> Result<u8> {
        let agreed = tokio::select! {
            biased;
            () = shutdown.stopping() => return Ok(0),
            agreed = self.agree(consent) => agreed?,
        };
        let Some((proposals, mut worst)) = agreed else {
            self.screen.tell(|out| writeln!(out, "nothing is changed"));
            return Ok(1);
        };
        for proposal in &proposals {
            worst = worst.max(self.change(proposal, shutdown).await);
        }
        Ok(worst)
    }

    /// What is to be done with everybody's consent, and the exit status so far; `None`: nothing.
    async fn agree(&self, consent: Consent) -> Result<Option<(Vec<PlannedSite<'a>>, u8)>> {
        let (shown, status) = self.propose().await;
        self.show(&shown)?;
        let mut planned = shown.iter().flat_map(|proposal| &proposal.planned);
        let changes_nothing = planned.all(|planned| planned.step.is_none());
        if changes_nothing || consent == Consent::Given {
            return Ok(Some((shown, status)));
        }
        if !consent::ask(self.screen, self.question()).await {
            return Ok(None);
        }
        let (now, later) = self.propose().await;
        if is_same(&shown, &now) {
            return Ok(Some((now, status.max(later))));
        }
        let error = "what is there has changed since it was shown; nothing is changed";
        Err(Error::new(Kind::Unavailable, error)
            .hint("run again: that shows what is to change now"))
    }

    fn question(&self) -> &'static str {
        match self.order.aim {
            Goal::SetUp(_) => "apply these changes? [y/N] ",
            Goal::Removal => "remove all of this? [y/N] ",
        }
    }

    /// Carries out what is proposed for one registry; gives its exit status.
    async fn change(&self, proposal: &PlannedSite<'_>, shutdown: &Shutdown) -> u8 {
        if go_on(shutdown).is_break() {
            return 0;
        }
        let mut kept = Kept::default();
        let applied = apply(&proposal.session, &proposal.planned, |done| {
            self.screen.tell(|out| view::made(out, &done.change));
            if (done.change.action, done.change.kind) == (Action::Delete, Subject::Rule) {
                kept.prefixes.push(done.change.name.clone());
            }
            go_on(shutdown)
        });
        let applied = Box::pin(applied).await;
        for error in &applied.failures {
            error::print(self.screen, error);
        }
        for planned in &applied.left {
            self.screen.tell(|out| view::left(out, &planned.change));
        }
        kept.secrets = applied.restorable;
        let host = proposal.site.registry.host.to_string();
        self.screen.tell(|out| view::kept(out, &host, &kept));
        u8::from(!applied.failures.is_empty() || proposal.conflicts() > 0)
    }
}

/// Whether a signal ends it between two steps.
fn go_on(shutdown: &Shutdown) -> ControlFlow<()> {
    match shutdown.interrupt() {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    }
}

/// Whether both propose the same.
fn is_same(shown: &[PlannedSite<'_>], now: &[PlannedSite<'_>]) -> bool {
    let changes = |proposals: &[PlannedSite<'_>]| -> Vec<_> {
        let planned = proposals.iter().flat_map(|proposal| &proposal.planned);
        planned.map(|planned| planned.change.clone()).collect()
    };
    changes(shown) == changes(now)
}
