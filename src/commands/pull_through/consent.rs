//! Asks for confirmation before changes are made.
//!
//! Nothing is changed that was not shown: after the answer the changes are planned again and compared.

use std::io::{self, BufRead, IsTerminal};

use tokio::sync::oneshot;

use super::show::{show, show_failures};
use crate::{
    cli::pull_through::ChangeArgs,
    model::{Error, Kind, Result},
    output::Screen,
    run::{
        pull_through::{
            preview::{Goal, Preview},
            sites::CacheSite,
        },
        registries::Registries,
    },
};

/// The changes to make, and the way to confirm them.
pub(crate) struct ChangesRequest<'a> {
    pub(super) args: &'a ChangeArgs,
    pub(super) goal: Goal,
}

impl<'a> ChangesRequest<'a> {
    /// Fails without `--yes` if there is no terminal to ask at.
    pub(super) fn new(args: &'a ChangeArgs, goal: Goal) -> Result<Self> {
        if args.yes || io::stdin().is_terminal() {
            return Ok(Self { args, goal });
        }
        let problem = "cannot ask for confirmation: stdin is not a terminal";
        Err(Error::new(Kind::Configuration, problem)
            .hint("check the changes with `pull-through plan`, then give `--yes`"))
    }
}

/// Plans and shows the changes, asks, and returns them with the exit status so far; `None` if they are
/// declined. Changes that differ from the shown ones by then are an error.
pub(crate) async fn confirm<'a>(
    screen: &Screen,
    registries: &Registries,
    sites: &'a [CacheSite<'a>],
    request: &ChangesRequest<'_>,
) -> Result<Option<(Preview<'a>, u8)>> {
    let shown = Preview::new(registries, sites, request.goal).await;
    let status = show_failures(screen, &shown);
    show(screen, &shown, request.goal, request.args.json)?;
    let changes_nothing = shown.planned().all(|planned| planned.step.is_none());
    if changes_nothing || request.args.yes {
        return Ok(Some((shown, status)));
    }
    let question = match request.goal {
        Goal::Removal(_) => "remove all of this? [y/N] ",
        Goal::SetUp { .. } | Goal::SetUpFromNothing => "apply these changes? [y/N] ",
    };
    if !ask(screen, question).await {
        return Ok(None);
    }
    let current = Preview::new(registries, sites, request.goal).await;
    let status = status.max(show_failures(screen, &current));
    if shown.is_same(&current) {
        return Ok(Some((current, status)));
    }
    let problem = match current.failures.len() > shown.failures.len() {
        true => "a registry could not be read again; nothing was changed",
        false => "the registry has changed since the plan was shown; nothing was changed",
    };
    Err(Error::new(Kind::Unavailable, problem).hint("run again to see the current changes"))
}

/// Asks at the terminal. Every answer except yes declines.
async fn ask(screen: &Screen, question: &str) -> bool {
    screen.tell(|out| write!(out, "{question}").and_then(|()| out.flush()));
    let (sender, answer) = oneshot::channel();
    // a thread of its own, which ends with the process: reading a terminal cannot be cancelled
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        // fails if the run has ended
        let _ = sender.send(read.is_ok() && is_yes(&line));
    });
    answer.await.unwrap_or(false)
}

fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_and_yes_confirm() {
        for (line, expected) in [
            ("y\n", true),
            ("Yes\r\n", true),
            (" y \n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yeah\n", false),
        ] {
            assert_eq!(is_yes(line), expected, "{line:?}");
        }
    }
}
