//! Asks for confirmation before changes are made.

use std::io::{self, BufRead, IsTerminal};

use tokio::sync::oneshot;

use crate::{
    model::{Error, Kind, Result},
    output::Screen,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// The command line has `--yes`.
    Given,
    /// A person at the terminal is asked.
    Asked,
}

impl Consent {
    pub(crate) fn new(yes: bool) -> Result<Self> {
        match (yes, io::stdin().is_terminal()) {
            (true, _) => Ok(Self::Given),
            (false, true) => Ok(Self::Asked),
            (false, false) => Err(Error::new(
                Kind::Configuration,
                "nobody can be asked for consent: stdin is not a terminal",
            )
            .hint("look at what it does with `pull-through plan`, then give `--yes`")),
        }
    }
}

/// Asks at the terminal. Every answer except yes declines.
pub(crate) async fn ask(screen: &Screen, question: &str) -> bool {
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
