//! The common form of all inputs: which image goes where, and what has no equivalent.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    rc::Rc,
};

use toml_edit::Value;

use super::ranges::{self, Dialect, Patterns};
use crate::model::{
    Digest, EcrHost, Host, NameError, Platform, Reference, Repository, Tag, text::printable_line,
};

/// The keys of an entry with their values as TOML, such as `platforms` with `["linux/amd64"]`.
pub(super) type EntryKeys = BTreeMap<&'static str, String>;

/// Tags of a repository that another tool copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) host: Host,
    pub(super) repository: Repository,
    /// Empty if `keys` select the tags.
    pub(super) tags: Vec<TagWish>,
    pub(super) target: Option<WishTarget>,
    pub(super) keys: EntryKeys,
}

impl Wish {
    /// The wish with these tags in addition.
    pub(super) fn with(mut self, choice: Choice) -> Self {
        self.tags.extend(choice.tags);
        self.keys.extend(choice.keys);
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TagWish {
    pub(super) tag: Tag,
    pub(super) digest: Option<Digest>,
    /// The tag at the destination; `None` if it is the same.
    pub(super) renamed: Option<Tag>,
}

impl TagWish {
    pub(super) fn plain(tag: Tag) -> Self {
        Self { tag, digest: None, renamed: None }
    }

    /// The image of this digest. Its tag is derived from the digest if the input has none.
    pub(super) fn pinned(tag: Option<Tag>, digest: Digest) -> Self {
        // as in a `[[list]]`
        let derived = || format!("sha256-{}", digest.short()).parse().expect("is a tag");
        let tag = tag.unwrap_or_else(derived);
        Self { tag, digest: Some(digest), renamed: None }
    }
}

/// Tags, or the keys that select them.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) tags: Vec<TagWish>,
    pub(super) keys: EntryKeys,
}

impl Choice {
    /// Every tag, pre-releases included.
    pub(super) fn every_tag() -> Self {
        let glob = ("glob", list(&["*"]));
        Self {
            keys: EntryKeys::from([glob, ("pre_releases", "true".to_owned())]),
            ..Self::default()
        }
    }

    pub(super) fn select(keys: EntryKeys) -> Self {
        Self { keys, ..Self::default() }
    }

    pub(super) fn tags(tags: Vec<TagWish>) -> Self {
        Self { tags, ..Self::default() }
    }
}

/// A repository at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WishTarget {
    pub(super) host: Host,
    /// With its whole path.
    pub(super) repository: Repository,
}

/// The result of reading one or more inputs.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) wishes: Vec<Wish>,
    /// The keys of `[registry."HOST"]`.
    pub(super) registries: BTreeMap<Host, EntryKeys>,
    pub(super) notes: Notes,
}

/// The parts of an input without an equivalent, by their message.
#[derive(Debug, Default)]
pub(super) struct Notes {
    all: Vec<ImportNote>,
    /// The index of the note with this message.
    by_message: HashMap<String, usize>,
}

#[derive(Debug)]
struct ImportNote {
    /// `true` if a person must do something, else the mirror does not depend on it.
    needs_hand: bool,
    file: Rc<str>,
    message: String,
    lines: Vec<usize>,
}

/// The lines that a note names at most.
const MOST_LINES: usize = 5;

impl Notes {
    fn add(&mut self, needs_hand: bool, file: &Rc<str>, line: usize, message: &str) {
        let message = printable_line(message, 300);
        if let Some(known) = self.by_message.get(&message) {
            return self.all[*known].lines.push(line);
        }
        self.by_message.insert(message.clone(), self.all.len());
        self.all.push(ImportNote { needs_hand, file: Rc::clone(file), message, lines: vec![line] });
    }

    pub(super) fn append(&mut self, other: Self) {
        self.all.extend(other.all);
    }

    /// All notes as `FILE:LINE: MESSAGE`.
    pub(super) fn all(&self) -> Vec<String> {
        self.all.iter().map(ImportNote::text).collect()
    }

    /// The notes that need a hand.
    pub(super) fn open(&self) -> Vec<String> {
        self.all.iter().filter(|note| note.needs_hand).map(ImportNote::text).collect()
    }
}

impl ImportNote {
    fn text(&self) -> String {
        let mut text =
            format!("{}:{}: {}", printable_line(&self.file, 200), self.lines[0], self.message);
        let (more, rest) = self.lines[1..].split_at((self.lines.len() - 1).min(MOST_LINES));
        for (at, line) in more.iter().enumerate() {
            let before = if at == 0 { " (also in line " } else { ", " };
            write!(text, "{before}{line}").expect("a string takes every text");
        }
        match (more.is_empty(), rest.len()) {
            (true, _) => {}
            (false, 0) => text.push(')'),
            (false, rest) => write!(text, " and {rest} more)").expect("a string takes every text"),
        }
        text
    }
}

/// A reader's view of its file: collects the wishes and the notes.
pub(super) struct Input<'a> {
    pub(super) file: Rc<str>,
    pub(super) options: &'a super::ImportOptions,
    pub(super) found: Findings,
}

impl Input<'_> {
    /// Notes a part that a person must add or decide.
    pub(super) fn hand(&mut self, line: usize, message: impl AsRef<str>) {
        self.found.notes.add(true, &self.file, line, message.as_ref());
    }

    /// Notes a part on which the mirrored images do not depend.
    pub(super) fn note(&mut self, line: usize, message: impl AsRef<str>) {
        self.found.notes.add(false, &self.file, line, message.as_ref());
    }

    /// Notes a key that the table has. Returns `false` for other keys.
    pub(super) fn has_no_equivalent(
        &mut self,
        key: &str,
        line: usize,
        table: &[(&str, NoEquivalent)],
    ) -> bool {
        let Some((_, entry)) = table.iter().find(|(known, _)| *known == key) else { return false };
        match entry {
            NoEquivalent::Silent => {}
            NoEquivalent::Note(message) => self.note(line, format!("`{key}`: {message}")),
            NoEquivalent::Hand(message) => self.hand(line, format!("`{key}`: {message}")),
        }
        true
    }

    /// Notes an unknown key. Keys that begin with `x-` are for anchors.
    pub(super) fn unknown(&mut self, key: &str, line: usize) {
        if !key.starts_with("x-") {
            self.hand(line, format!("`{key}`: unknown key, left out"));
        }
    }

    /// The reference; `None`, with a note, if the text is not one.
    pub(super) fn reference(&mut self, text: &str, line: usize) -> Option<Reference> {
        if text.contains("{{") || text.contains('$') {
            self.hand(
                line,
                format!("`{text}`: templates and variables are not evaluated, left out"),
            );
            return None;
        }
        match text.parse() {
            Ok(reference) => Some(reference),
            Err(error) => {
                self.hand(line, format!("`{text}` {error}, left out"));
                None
            }
        }
    }

    /// The tag, like [`Input::reference`].
    pub(super) fn tag(&mut self, text: &str, line: usize) -> Option<Tag> {
        let tag = text.parse::<Tag>();
        tag.map_err(|error| self.hand(line, format!("`{text}` {error}, left out"))).ok()
    }

    /// The target with this whole path, like [`Input::reference`].
    pub(super) fn target(&mut self, host: &Host, path: &str, line: usize) -> Option<WishTarget> {
        let is_ecr = EcrHost::parse(host).is_some();
        let repository = path.parse::<Repository>().and_then(|repository| {
            if is_ecr { repository.check_ecr().map(|()| repository) } else { Ok(repository) }
        });
        match repository {
            Ok(repository) => Some(WishTarget { host: host.clone(), repository }),
            Err(error) => {
                self.hand(line, format!("the target `{path}` {error}, left out"));
                None
            }
        }
    }

    /// Adds the platforms. One that is not a platform is left out, with a note.
    pub(super) fn platforms(&mut self, keys: &mut EntryKeys, texts: &[(&str, usize)]) {
        let mut all = Vec::new();
        for (text, line) in texts {
            match text.parse::<Platform>() {
                Ok(_) => all.push(*text),
                Err(error) => self.hand(*line, format!("`{text}` {error}, left out")),
            }
        }
        if !all.is_empty() {
            keys.insert("platforms", list(&all));
        }
    }

    /// The patterns in our syntax; `None`, with a note, if one has no equivalent.
    pub(super) fn patterns(
        &mut self,
        texts: &[(&str, usize)],
        translate: impl Fn(&str) -> Result<String, NameError>,
    ) -> Option<Vec<String>> {
        let mut all = Vec::new();
        for (text, line) in texts {
            match translate(text) {
                Ok(pattern) => all.push(pattern),
                Err(error) => {
                    self.hand(*line, format!("`{text}` {error}: its tags are left out"));
                    return None;
                }
            }
        }
        Some(all)
    }

    /// The selections of these ranges; empty, with a note, if one has no equivalent.
    pub(super) fn ranges(
        &mut self,
        dialect: Dialect,
        texts: &[(&str, usize)],
        patterns: &Patterns,
    ) -> Vec<Choice> {
        let line = texts.first().map_or(1, |(_, line)| *line);
        let texts: Vec<&str> = texts.iter().map(|(text, _)| *text).collect();
        match ranges::selections(dialect, &texts, patterns) {
            Ok(selections) => {
                if let Some(approximation) = selections.approximation {
                    self.hand(line, format!("`{}`: {approximation}", texts.join(" || ")));
                }
                selections.keys.into_iter().map(Choice::select).collect()
            }
            Err(problem) => {
                self.hand(line, format!("{problem}: its tags are left out"));
                Vec::new()
            }
        }
    }

    pub(super) fn registry(&mut self, host: Host) -> &mut EntryKeys {
        self.found.registries.entry(host).or_default()
    }

    /// Adds a login. A password that the input spells out is not repeated.
    pub(super) fn login(&mut self, host: &Host, line: usize, login: ImportedLogin<'_>) {
        if EcrHost::parse(host).is_some() {
            return self.note(line, "ECR needs no login: ecr-mirror uses the AWS credentials");
        }
        let words = host.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        // a variable does not begin with a digit
        let start = if words.starts_with(|c: char| c.is_ascii_digit()) { "REGISTRY_" } else { "" };
        let words = start.to_owned() + &words.to_ascii_uppercase();
        let (username, password) = match (login.username, login.password) {
            (name, ImportedSecret::Written) => {
                let [user, password] = ["USERNAME", "PASSWORD"].map(|it| format!("{words}_{it}"));
                let user = match name {
                    Name::Variable(user) => user,
                    Name::Written(_) => user,
                };
                self.hand(
                    line,
                    format!("the login is not repeated: set `{user}` and `{password}`"),
                );
                (optional_variable(&user), optional_variable(&password))
            }
            (Name::Variable(user), ImportedSecret::Variable(password)) => {
                (optional_variable(&user), optional_variable(&password))
            }
            // a user name requires a password
            (Name::Written(user), ImportedSecret::Variable(password)) => {
                (string(user), Value::from(format!("${{{password}}}")).to_string())
            }
        };
        let keys = self.registry(host.clone());
        keys.insert("username", username);
        keys.insert("password", password);
    }
}

/// A user name and a password of an input.
pub(super) struct ImportedLogin<'a> {
    pub(super) username: Name<'a>,
    pub(super) password: ImportedSecret,
}

pub(super) enum Name<'a> {
    /// The name of an environment variable.
    Variable(String),
    Written(&'a str),
}

pub(super) enum ImportedSecret {
    /// The name of an environment variable.
    Variable(String),
    Written,
}

/// The reason why a key of an input is left out.
#[derive(Debug, Clone, Copy)]
pub(super) enum NoEquivalent {
    /// Nothing is lost.
    Silent,
    /// The mirrored images do not depend on it.
    Note(&'static str),
    Hand(&'static str),
}

/// The text as a TOML string of the configuration, which reads `${` and `$$` as variables.
pub(super) fn string(text: &str) -> String {
    let (mut escaped, mut characters) = (String::new(), text.chars().peekable());
    while let Some(c) = characters.next() {
        escaped.push(c);
        if c == '$' && matches!(characters.peek(), Some('$' | '{')) {
            escaped.push(c);
        }
    }
    Value::from(escaped).to_string()
}

/// The TOML string of an environment variable that may be unset.
fn optional_variable(name: &str) -> String {
    Value::from(format!("${{{name}:-}}")).to_string()
}

/// The texts as a TOML list.
pub(super) fn list<S: AsRef<str>>(texts: &[S]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| string(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}
