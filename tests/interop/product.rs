//! The built program, run as a script runs it.

use std::{fmt, process::Command};

use serde_json::Value;

use super::peer;

/// The program with these arguments and an empty environment.
pub(crate) fn ecr_mirror(arguments: &[&str]) -> Command {
    let mut command = peer::command(env!("CARGO_BIN_EXE_ecr-mirror"));
    command.args(arguments);
    command
}

/// The result of a run.
pub(crate) struct Run {
    status: Option<i32>,
    report: Value,
    talk: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:?}, report {:#}\n{}", self.status, self.report, self.talk)
    }
}

impl Run {
    /// Runs the command with `--json`.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.arg("--json").output().expect("cargo has built the program");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: no report: {error}\n{talk}"));
        Self { status: output.status.code(), report, talk }
    }

    pub(crate) fn copy(source: &str, destination: &str, options: &[&str]) -> Self {
        Self::of(ecr_mirror(&["copy", source, destination]).args(options))
    }

    /// Asserts the exit status and the outcome of each image.
    #[track_caller]
    pub(crate) fn ended(self, status: i32, outcomes: &[&str]) -> Self {
        let rows = self.report["images"].as_array().into_iter().flatten();
        let seen: Vec<_> = rows.map(|row| row["outcome"].as_str().unwrap_or_default()).collect();
        assert_eq!((self.status, seen.as_slice()), (Some(status), outcomes), "{self}");
        self
    }

    /// The number at this JSON pointer of the report, such as `/bytes/to_destination`.
    #[track_caller]
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let number = self.report.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no number at {pointer}: {self}"))
    }

    /// The text at this JSON pointer of the report, such as `/images/0/digest`.
    #[track_caller]
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let text = self.report.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("no text at {pointer}: {self}"))
    }
}
