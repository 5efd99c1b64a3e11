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

use super::{
    error::HINT,
    json::escaped,
    printable, styled,
    text::{columns, wrapped},
};
use crate::model::{
    Error, SettingChange,
    setting_change::{Action, Field},
};

/// The longest change that is written in one line without a terminal, in characters.
const WIDTH: usize = 100;

/// The title of the leftovers.
pub(super) const LEFT_OVER: &str = "left over, made by ecr-mirror and not in this configuration:";

/// The changes of one registry.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub registry: String,
    /// The changes in the order in which they are made.
    pub changes: Vec<&'a SettingChange>,
    /// The removals that `apply --prune` would make.
    pub leftovers: Vec<&'a SettingChange>,
}

/// Writes each change, with its hint below, and the summary; then the leftovers. A long change has
/// one line for each difference, and policies as JSON. Each of several registries has its own
/// paragraph.
///
/// `unread` is the number of registries that could not be read. It is never "no change" then.
pub(crate) fn plan(
    out: &mut dyn Write,
    sections: &[Section<'_>],
    unread: usize,
    width: Option<usize>,
) -> io::Result<()> {
    let all = sections.len() + unread;
    for section in sections.iter().filter(|section| !section.changes.is_empty()) {
        write_changes(out, section, &section.changes, all, width)?;
        writeln!(out)?;
    }
    match (unread, summary(sections)) {
        (0, summary) => writeln!(out, "{}", summary.as_deref().unwrap_or("no change"))?,
        (unread, Some(summary)) => {
            writeln!(out, "{summary}; {unread} of {all} registries could not be read")?;
        }
        (_, None) => {}
    }
    for section in sections.iter().filter(|section| !section.leftovers.is_empty()) {
        writeln!(out, "\n{}", wrapped(LEFT_OVER, width, 0, 0))?;
        write_changes(out, section, &section.leftovers, all, width)?;
        let fix = "`apply --prune` removes them: check first that no other configuration uses them";
        writeln!(out, "{}", wrapped(fix, width, 0, 0))?;
    }
    Ok(())
}

/// Writes the changes below the registry's name, if there are several registries.
fn write_changes(
    out: &mut dyn Write,
    section: &Section<'_>,
    changes: &[&SettingChange],
    registries: usize,
    width: Option<usize>,
) -> io::Result<()> {
    if registries > 1 {
        writeln!(out, "{}", styled(Style::new().bold(), &printable(&section.registry)))?;
    }
    changes.iter().try_for_each(|change| write_change(out, change, width))
}

/// Writes a change in one line if it is short, else with a line for each difference. Policies are
/// indented JSON with the changed lines marked. The hint stands below.
pub(super) fn write_change(
    out: &mut dyn Write,
    change: &SettingChange,
    width: Option<usize>,
) -> io::Result<()> {
    let (line, style) = (change.to_string(), style(change.action));
    if columns(&line) <= width.unwrap_or(WIDTH) && !change.fields.iter().any(is_document) {
        writeln!(out, "{}", styled(style, &printable(&line)))?;
    } else {
        let heading = wrapped(&printable(&change.heading()), width, 0, 4);
        writeln!(out, "{}", styled(style, &heading))?;
        for (field, detail) in change.fields.iter().zip(change.details(usize::MAX)) {
            if is_document(field) {
                write_document(out, field)?;
            } else {
                writeln!(out, "    {}", wrapped(&printable(&detail), width, 4, 6))?;
            }
        }
    }
    match &change.hint {
        None => Ok(()),
        Some(hint) => {
            let text = wrapped(&printable(hint), width, 10, 4);
            writeln!(out, "    {} {text}", styled(HINT, "hint:"))
        }
    }
}

/// Returns `true` for a policy, a lifecycle or a statement.
fn is_document(field: &Field) -> bool {
    let has_objects = |value: &Value| match value {
        Value::Array(values) => values.iter().any(Value::is_object),
        value => value.is_object(),
    };
    has_objects(&field.old) || has_objects(&field.new)
}

/// Writes the lines of both documents, those of one of them with a mark. A string of several words
/// is not wrapped: a person copies the document.
fn write_document(out: &mut dyn Write, field: &Field) -> io::Result<()> {
    writeln!(out, "    {}:", printable(&field.name))?;
    let lines = |value: &Value| -> Vec<String> {
        if value.is_null() {
            return Vec::new();
        }
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        text.lines().map(|line| printable(line).into_owned()).collect()
    };
    for (mark, line) in difference(&lines(&field.old), &lines(&field.new)) {
        let line = format!("    {mark} {line}");
        let style = match mark {
            '+' => AnsiColor::Green.on_default(),
            '-' => AnsiColor::Red.on_default(),
            _ => Style::new(),
        };
        writeln!(out, "{}", styled(style, &line))?;
    }
    Ok(())
}

/// The lines of both texts in order, with `-` for those of `old` only and `+` for those of `new`
/// only: as many as possible are of both.
fn difference<'a>(old: &'a [String], new: &'a [String]) -> Vec<(char, &'a str)> {
    // the number of common lines from this line of each text on
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (o, n) in (0..old.len()).rev().flat_map(|o| (0..new.len()).rev().map(move |n| (o, n))) {
        common[o][n] = match old[o] == new[n] {
            true => common[o + 1][n + 1] + 1,
            false => common[o + 1][n].max(common[o][n + 1]),
        };
    }
    let (mut lines, mut o, mut n) = (Vec::new(), 0, 0);
    while o < old.len() || n < new.len() {
        if o < old.len() && n < new.len() && old[o] == new[n] {
            lines.push((' ', old[o].as_str()));
            (o, n) = (o + 1, n + 1);
        } else if n == new.len() || (o < old.len() && common[o + 1][n] >= common[o][n + 1]) {
            lines.push(('-', old[o].as_str()));
            o += 1;
        } else {
            lines.push(('+', new[n].as_str()));
            n += 1;
        }
    }
    lines
}

fn style(action: Action) -> Style {
    match action {
        Action::Create => AnsiColor::Green.on_default(),
        Action::Update => AnsiColor::Yellow.on_default(),
        Action::Replace | Action::Delete => AnsiColor::Red.on_default(),
        Action::Conflict => AnsiColor::Red.on_default().bold(),
    }
}

/// `2 to create, 1 to update, nothing to delete`; `None` without a change.
pub(super) fn summary(sections: &[Section<'_>]) -> Option<String> {
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
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[derive(Serialize)]
struct ChangesDocument<'a> {
    version: u8,
    /// The registries that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// `None` if nothing is known to change and a registry could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<&'a SettingChange>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leftovers: Vec<&'a SettingChange>,
}

/// Writes the changes of all registries, and the error of those that could not be read, as indented
/// JSON and a line end. An empty list of changes means that every registry was read.
pub(crate) fn json(
    out: &mut dyn Write,
    sections: &[Section<'_>],
    failures: &[Error],
) -> io::Result<()> {
    let changes: Vec<_> = sections.iter().flat_map(|it| it.changes.iter().copied()).collect();
    let texts: Vec<String> = failures.iter().map(|error| error.chain().join(": ")).collect();
    let document = ChangesDocument {
        version: 1,
        error: (!texts.is_empty()).then(|| texts.join("; ")),
        hint: failures.iter().find_map(|error| error.remedy()).map(ToString::to_string),
        changes: (texts.is_empty() || !changes.is_empty()).then_some(changes),
        leftovers: sections.iter().flat_map(|it| it.leftovers.iter().copied()).collect(),
    };
    writeln!(out, "{}", escaped(&serde_json::to_string_pretty(&document)?))
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

/// Writes the reference by which the images of each new or changed rule are pulled.
pub(crate) fn references(
    out: &mut dyn Write,
    registry: &str,
    prefixes: &[String],
) -> io::Result<()> {
    for prefix in prefixes {
        let prefix = if prefix == "ROOT" { String::new() } else { format!("{prefix}/") };
        writeln!(out, "pull as: {}", printable(&format!("{registry}/{prefix}REPOSITORY:TAG")))?;
    }
    Ok(())
}

/// Writes the trust policy and the permissions of the role that `setting` needs.
pub(crate) fn role(
    out: &mut dyn Write,
    setting: &str,
    trust: &Value,
    permissions: &Value,
    width: Option<usize>,
) -> io::Result<()> {
    let title = format!("the role of {setting} needs this trust policy:");
    writeln!(out, "{}", wrapped(&printable(&title), width, 0, 4))?;
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
    use crate::model::setting_change::Subject;

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
        let (registry, changes) = (registry.to_owned(), changes.into_iter().collect());
        Section { registry, changes, leftovers: Vec::new() }
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
            text(|out| plan(out, &one, 0, None)),
            "+ rule quay of r.example (url: quay.io)\n\
             ! rule hub[2J of r.example (url: none → quay.io)\n\
             \x20   hint: `--replace` replaces it\n\
             \n\
             1 to create, nothing to delete, 1 in conflict\n"
        );
        let two = [section("a", [&made]), section("b", []), section("c", [&made])];
        assert_eq!(
            text(|out| plan(out, &two, 0, None)),
            "a\n+ rule quay of r.example (url: quay.io)\n\n\
             c\n+ rule quay of r.example (url: quay.io)\n\n\
             2 to create, nothing to delete\n"
        );
    }

    #[test]
    fn a_policy_is_indented_json_with_its_changed_lines_marked() {
        let mut changed = change(Action::Update, Subject::Template, "hub");
        changed.fields.push(Field {
            name: "lifecycle".to_owned(),
            old: json!({ "rules": [{ "days": 7 }], "kept": true }),
            new: json!({ "rules": [{ "days": 30 }, { "days": 60 }], "kept": true }),
        });
        let written = text(|out| write_change(out, &changed, Some(40)));
        assert_eq!(
            written,
            "~ template hub of r.example
    url: none → quay.io
    lifecycle:
      {
        \"rules\": [
          {
    -       \"days\": 7
    +       \"days\": 30
    +     },
    +     {
    +       \"days\": 60
          }
        ],
        \"kept\": true
      }
"
        );
    }

    #[test]
    fn the_summary_counts_each_action_and_says_if_nothing_is_deleted() {
        use Action::{Conflict, Create, Delete, Replace, Update};
        for (actions, expected) in [
            (&[][..], ""),
            (&[Create, Create, Update], "2 to create, 1 to update, nothing to delete"),
            (&[Replace], "1 to replace, nothing to delete"),
            (&[Delete, Delete], "2 to delete"),
            (&[Update, Delete, Conflict], "1 to update, 1 to delete, 1 in conflict"),
            (&[Conflict], "1 in conflict"),
        ] {
            let changes: Vec<SettingChange> =
                actions.iter().map(|action| change(*action, Subject::Rule, "x")).collect();
            assert_eq!(summary(&[section("r", &changes)]).unwrap_or_default(), expected);
        }
    }

    #[test]
    fn the_json_has_every_change_of_every_registry() {
        let changes = [
            change(Action::Create, Subject::Rule, "quay"),
            change(Action::Delete, Subject::Secret, "ecr-pullthroughcache/hub"),
        ];
        let read = |sections: &[Section<'_>]| -> Value {
            serde_json::from_str(&text(|out| json(out, sections, &[]))).unwrap()
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
    fn a_registry_that_could_not_be_read_is_never_no_change() {
        let made = change(Action::Create, Subject::Rule, "quay");
        let failure = Error::new(crate::model::Kind::Unauthorized, "no AWS credentials")
            .hint("sign in with `aws sso login`");
        let read = |sections: &[Section<'_>]| -> Value {
            let text = text(|out| json(out, sections, std::slice::from_ref(&failure)));
            serde_json::from_str(&text).unwrap()
        };
        let (error, hint) = ("no AWS credentials", "sign in with `aws sso login`");
        for sections in [&[][..], &[section("a", [])]] {
            assert_eq!(text(|out| plan(out, sections, 1, None)), "");
            assert_eq!(read(sections), json!({ "version": 1, "error": error, "hint": hint }));
        }
        let some = [section("a", [&made])];
        let written = text(|out| plan(out, &some, 1, None));
        let end = "1 to create, nothing to delete; 1 of 2 registries could not be read\n";
        assert!(written.ends_with(end), "{written}");
        assert_eq!(
            (&read(&some)["error"], &read(&some)["changes"][0]["name"]),
            (&json!(error), &json!("quay"))
        );
    }

    #[test]
    fn leftovers_are_listed_below_the_plan_and_are_no_changes() {
        let gone = change(Action::Delete, Subject::Secret, "ecr-pullthroughcache/old");
        let sections = [Section { leftovers: vec![&gone], ..section("r.example", []) }];
        assert_eq!(
            text(|out| plan(out, &sections, 0, None)),
            "no change\n\n\
             left over, made by ecr-mirror and not in this configuration:\n\
             - secret ecr-pullthroughcache/old of r.example\n\
             `apply --prune` removes them: check first that no other configuration uses them\n"
        );
        let document: Value = serde_json::from_str(&text(|out| json(out, &sections, &[]))).unwrap();
        assert_eq!(document["changes"], json!([]));
        assert_eq!(document["leftovers"][0]["name"], "ecr-pullthroughcache/old");
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
