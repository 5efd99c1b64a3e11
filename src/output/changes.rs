//! Changes of settings: planned, made and skipped, as text and as JSON.
//!
//! A change never holds a secret.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;

use super::{error::HINT, printable, styled};
use crate::model::{SettingChange, setting_change::Action};

/// The longest change that is written in one line, in characters.
const WIDTH: usize = 100;
/// Characters shown of a value on a line of its own, such as a statement of a policy.
const SHOWN: usize = 500;

/// The changes of one registry.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub registry: String,
    /// The changes in the order in which they are made.
    pub changes: Vec<&'a SettingChange>,
}

/// Writes a line for each change, with its hint below, and the summary. A long change has one line
/// for each difference. Each of several registries has its own paragraph.
pub(crate) fn plan(out: &mut dyn Write, sections: &[Section<'_>]) -> io::Result<()> {
    for section in sections.iter().filter(|section| !section.changes.is_empty()) {
        if sections.len() > 1 {
            writeln!(out, "{}", styled(Style::new().bold(), &printable(&section.registry)))?;
        }
        for change in &section.changes {
            write_change(out, change)?;
            if let Some(hint) = &change.hint {
                writeln!(out, "    {} {}", styled(HINT, "hint:"), printable(hint))?;
            }
        }
        writeln!(out)?;
    }
    writeln!(out, "{}", summary(sections))
}

fn write_change(out: &mut dyn Write, change: &SettingChange) -> io::Result<()> {
    let (line, style) = (change.to_string(), style(change.action));
    if line.chars().count() <= WIDTH {
        return writeln!(out, "{}", styled(style, &printable(&line)));
    }
    writeln!(out, "{}", styled(style, &printable(&change.heading())))?;
    change.details(SHOWN).iter().try_for_each(|it| writeln!(out, "    {}", printable(it)))
}

fn style(action: Action) -> Style {
    match action {
        Action::Create => AnsiColor::Green.on_default(),
        Action::Update => AnsiColor::Yellow.on_default(),
        Action::Replace | Action::Delete => AnsiColor::Red.on_default(),
        Action::Conflict => AnsiColor::Red.on_default().bold(),
    }
}

/// `2 to create, 1 to update, nothing to delete`, or `no change`.
fn summary(sections: &[Section<'_>]) -> String {
    let all = || sections.iter().flat_map(|section| &section.changes);
    let count = |action| all().filter(|change| change.action == action).count();
    let mut parts: Vec<String> = Vec::new();
    for (action, what) in [
        (Action::Create, "to create"),
        (Action::Update, "to update"),
        (Action::Replace, "to replace"),
        (Action::Delete, "to delete"),
        (Action::Conflict, "in conflict"),
    ] {
        match count(action) {
            // if anything changes, "nothing to delete" reassures
            0 if action == Action::Delete && !parts.is_empty() => {
                parts.push("nothing to delete".to_owned());
            }
            0 => {}
            some => parts.push(format!("{some} {what}")),
        }
    }
    if parts.is_empty() { "no change".to_owned() } else { parts.join(", ") }
}

#[derive(Serialize)]
struct ChangesDocument<'a> {
    version: u8,
    changes: Vec<&'a SettingChange>,
}

/// Writes the changes of all registries as indented JSON and a line end.
pub(crate) fn json(out: &mut dyn Write, sections: &[Section<'_>]) -> io::Result<()> {
    let changes = sections.iter().flat_map(|section| section.changes.iter().copied()).collect();
    serde_json::to_writer_pretty(&mut *out, &ChangesDocument { version: 1, changes })?;
    writeln!(out)
}

pub(crate) fn made(out: &mut dyn Write, change: &SettingChange) -> io::Result<()> {
    let verb = match change.action {
        Action::Create => "created",
        Action::Update => "updated",
        Action::Replace => "replaced",
        Action::Delete => "removed",
        Action::Conflict => "left alone",
    };
    let SettingChange { kind, name, destination, .. } = change;
    let line = format!("{verb} {} {name} of {destination}", kind.word());
    writeln!(out, "{}", printable(&line))
}

/// Writes that a change was not started.
pub(crate) fn left(out: &mut dyn Write, change: &SettingChange) -> io::Result<()> {
    let SettingChange { action, kind, name, .. } = change;
    writeln!(out, "not begun: {} {} {}", action.mark(), kind.word(), printable(name))
}

/// Writes a change that conflicts, with its hint below.
pub(crate) fn conflict(out: &mut dyn Write, change: &SettingChange) -> io::Result<()> {
    writeln!(out, "{}", printable(&change.to_string()))?;
    change.hint.iter().try_for_each(|hint| writeln!(out, "    hint: {}", printable(hint)))
}

/// Writes the trust policy and the permissions of the role that `setting` needs.
pub(crate) fn role(
    out: &mut dyn Write,
    setting: &str,
    trust: &Value,
    permissions: &Value,
) -> io::Result<()> {
    writeln!(out, "the role of {} needs this trust policy:", printable(setting))?;
    writeln!(out, "{trust:#}\nand these permissions:\n{permissions:#}")
}

/// The data that AWS keeps after a removal.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The prefixes of the removed rules: cached images stay.
    pub prefixes: Vec<String>,
    /// The secrets that can be restored, and the deadline if AWS reports it.
    pub secrets: Vec<(String, Option<SystemTime>)>,
}

/// Writes the data that AWS keeps of a registry.
pub(crate) fn kept(out: &mut dyn Write, registry: &str, kept: &Kept) -> io::Result<()> {
    for prefix in &kept.prefixes {
        let place = match prefix.as_str() {
            "ROOT" => registry.to_owned(),
            prefix => format!("{registry}/{prefix}/"),
        };
        let line = format!("kept: the repositories and images that are cached below {place}");
        writeln!(out, "{}", printable(&line))?;
    }
    for (name, until) in &kept.secrets {
        let until = until.map_or_else(|| "its recovery window ends".to_owned(), day);
        let line = format!("kept: secret {name}, which can be restored until {until}");
        writeln!(out, "{}", printable(&line))?;
    }
    Ok(())
}

/// The day in UTC, like `2026-12-20`.
fn day(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anstream::adapter::strip_str;
    use serde_json::json;

    use super::*;
    use crate::model::setting_change::{Field, Subject};

    fn change(action: Action, kind: Subject, name: &str) -> SettingChange {
        let fields = match action {
            Action::Delete => Vec::new(),
            _ => vec![Field { name: "url".to_owned(), old: Value::Null, new: json!("quay.io") }],
        };
        let (destination, name) = ("r.example".to_owned(), name.to_owned());
        SettingChange { destination, action, kind, name, fields, hint: None }
    }

    fn section<'a>(
        registry: &str,
        changes: impl IntoIterator<Item = &'a SettingChange>,
    ) -> Section<'a> {
        Section { registry: registry.to_owned(), changes: changes.into_iter().collect() }
    }

    fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn a_plan_has_a_line_for_each_change_and_a_summary() {
        let made = change(Action::Create, Subject::Rule, "quay");
        let mut conflict = change(Action::Conflict, Subject::Rule, "hub\u{1b}[2J");
        conflict.hint = Some("`--replace` replaces it".to_owned());
        let one = [section("r.example", [&made, &conflict])];
        assert_eq!(
            text(|out| plan(out, &one)),
            "+ rule quay of r.example (url: quay.io)\n\
             ! rule hub[2J of r.example (url: none → quay.io)\n\
             \x20   hint: `--replace` replaces it\n\
             \n\
             1 to create, nothing to delete, 1 in conflict\n"
        );
        let two = [section("a", [&made]), section("b", []), section("c", [&made])];
        assert_eq!(
            text(|out| plan(out, &two)),
            "a\n+ rule quay of r.example (url: quay.io)\n\n\
             c\n+ rule quay of r.example (url: quay.io)\n\n\
             2 to create, nothing to delete\n"
        );
    }

    #[test]
    fn a_long_change_has_a_line_for_each_difference() {
        let mut long = change(Action::Create, Subject::RegistryPolicy, "123456789012");
        let statement = json!({ "Sid": "Ours", "Resource": "r".repeat(200) });
        long.fields.push(Field { name: "Ours".to_owned(), old: Value::Null, new: statement });
        let written = text(|out| plan(out, &[section("r.example", [&long])]));
        let (r, start) = ("r".repeat(200), "+ registry policy 123456789012 of r.example\n");
        let rest =
            format!("\x20   url: quay.io\n    Ours: {{\"Sid\":\"Ours\",\"Resource\":\"{r}\"}}\n");
        assert!(written.starts_with(&format!("{start}{rest}\n")), "{written}");
    }

    #[test]
    fn the_summary_counts_each_action_and_says_if_nothing_is_deleted() {
        use Action::{Conflict, Create, Delete, Replace, Update};
        for (actions, expected) in [
            (&[][..], "no change"),
            (&[Create, Create, Update], "2 to create, 1 to update, nothing to delete"),
            (&[Replace], "1 to replace, nothing to delete"),
            (&[Delete, Delete], "2 to delete"),
            (&[Update, Delete, Conflict], "1 to update, 1 to delete, 1 in conflict"),
            (&[Conflict], "1 in conflict"),
        ] {
            let changes: Vec<SettingChange> =
                actions.iter().map(|action| change(*action, Subject::Rule, "x")).collect();
            assert_eq!(summary(&[section("r", &changes)]), expected);
        }
    }

    #[test]
    fn the_json_has_every_change_of_every_registry() {
        let changes = [
            change(Action::Create, Subject::Rule, "quay"),
            change(Action::Delete, Subject::Secret, "ecr-pullthroughcache/hub"),
        ];
        let read = |sections: &[Section<'_>]| -> Value {
            serde_json::from_str(&text(|out| json(out, sections))).unwrap()
        };
        let document = read(&[section("a", [&changes[0]]), section("b", [&changes[1]])]);
        let expected = json!({ "version": 1, "changes": [
            { "destination": "r.example", "action": "create", "kind": "rule", "name": "quay",
              "fields": { "url": [null, "quay.io"] } },
            { "destination": "r.example", "action": "delete", "kind": "secret",
              "name": "ecr-pullthroughcache/hub", "fields": {} },
        ] });
        assert_eq!(document, expected);
        assert_eq!(read(&[]), json!({ "version": 1, "changes": [] }));
    }

    #[test]
    fn made_and_skipped_changes_and_kept_data_are_written_in_the_past_tense() {
        let gone = change(Action::Delete, Subject::RegistryPolicy, "123456789012");
        assert_eq!(
            text(|out| made(out, &gone)),
            "removed registry policy 123456789012 of r.example\n"
        );
        assert_eq!(text(|out| left(out, &gone)), "not begun: - registry policy 123456789012\n");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_797_724_800);
        let secret = |name: &str, until| (name.to_owned(), until);
        let stays = Kept {
            prefixes: vec!["docker-hub".to_owned(), "ROOT".to_owned()],
            secrets: vec![secret("s/a", Some(at)), secret("s/b", None)],
        };
        assert_eq!(
            text(|out| kept(out, "r.example", &stays)),
            "kept: the repositories and images that are cached below r.example/docker-hub/\n\
             kept: the repositories and images that are cached below r.example\n\
             kept: secret s/a, which can be restored until 2026-12-20\n\
             kept: secret s/b, which can be restored until its recovery window ends\n"
        );
        assert_eq!(text(|out| kept(out, "r.example", &Kept::default())), "");
    }
}
