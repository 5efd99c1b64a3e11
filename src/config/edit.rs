//! Edits the text of a configuration, and keeps its comments.
//!
//! Adds tables, keys and images. Never changes or removes a value: tags are added to a list.

mod used;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
};

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

pub(crate) use self::used::LackingImage;
use crate::model::{Error, Host, Kind, Reference, Repository, Result, text::printable};

/// Keys with their values as TOML.
pub(crate) type TomlKeys = BTreeMap<&'static str, String>;

/// The parts to add to a file.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    /// Lines of a comment above the first addition, without `#`.
    pub(crate) comments: Vec<String>,
    pub(crate) destinations: Vec<TomlKeys>,
    pub(crate) defaults: TomlKeys,
    pub(crate) registries: BTreeMap<Host, TomlKeys>,
    /// Sorted by registry.
    pub(crate) images: Vec<ImageEntry>,
}

/// The images of one repository with the same keys.
#[derive(Debug, Clone)]
pub(crate) struct ImageEntry {
    pub(crate) host: Host,
    pub(crate) repository: Repository,
    /// Each with or without a digest.
    pub(crate) tags: Vec<String>,
    /// Those of [`SELECT`], and others.
    pub(crate) keys: TomlKeys,
}

/// The keys that stand in `select` of an `[[image]]`, and directly in `[images]`.
pub(crate) const SELECT: [&str; 8] =
    ["semver", "glob", "regex", "exclude", "exclude_regex", "newest", "pre_releases", "at_least"];

impl ImageEntry {
    fn image(&self) -> (Host, Repository) {
        (self.host.clone(), self.repository.clone())
    }

    /// The repository in its shortest spelling.
    fn key(&self) -> String {
        let path = self.repository.as_str();
        let whole = format!("{}/{path}", self.host);
        let spelled = [path.strip_prefix("library/").unwrap_or(path), path];
        let is_same = |text: &&str| {
            let read = text.parse::<Reference>();
            read.is_ok_and(|it| it.host == self.host && it.repository == self.repository)
        };
        spelled.into_iter().find(is_same).map_or(whole, str::to_owned)
    }

    /// The reference in a list of a registry; `None` if the entry needs a line of its own.
    fn listed(&self) -> Option<String> {
        let ([tag], true) = (&self.tags[..], self.keys.is_empty()) else { return None };
        let path = self.repository.as_str();
        let is_same = |path: &&str| {
            let read = format!("{}/{path}", self.host).parse::<Reference>();
            read.is_ok_and(|it| it.repository == self.repository)
        };
        let short = path.strip_prefix("library/").filter(is_same).unwrap_or(path);
        Some(format!("{short}:{tag}"))
    }

    /// The value in `[images]`: a tag, tags, or a table.
    fn value(&self, key: &str) -> Value {
        match (&self.tags[..], self.keys.is_empty()) {
            ([tag], true) => tag.into(),
            (tags, true) => {
                let array = Array::from_iter(tags);
                match key.len() + array.to_string().len() {
                    ..=LONGEST_LINE => array.into(),
                    _ => in_lines(tags).into(),
                }
            }
            (_, false) => {
                let tags = self.tags().map(|tags| ("tags", tags));
                let keys = tags.into_iter().chain(self.select()).chain(self.others());
                InlineTable::from_iter(keys).into()
            }
        }
    }

    /// The `[[image]]`.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.insert("source", toml_edit::value(self.key()));
        if let Some(tags) = self.tags() {
            table.insert("tags", toml_edit::value(tags));
        }
        let select = InlineTable::from_iter(self.select());
        if !select.is_empty() {
            table.insert("select", toml_edit::value(select));
        }
        for (key, value) in self.others() {
            table.insert(key, toml_edit::value(value));
        }
        table
    }

    fn tags(&self) -> Option<Value> {
        (!self.tags.is_empty()).then(|| Array::from_iter(&self.tags).into())
    }

    fn select(&self) -> impl Iterator<Item = (&'static str, Value)> {
        SELECT.into_iter().filter_map(|key| Some((key, value(self.keys.get(key)?))))
    }

    fn others(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let others = self.keys.iter().filter(|(key, _)| !SELECT.contains(key));
        others.map(|(key, text)| (*key, value(text)))
    }
}

/// The images of one registry that have a line of their own each. More of them with a single tag
/// share a list.
const MOST_SINGLE: usize = 20;

/// The longest line with one repository, and the width of lines with several values.
const LONGEST_LINE: usize = 200;
const WIDTH: usize = 100;

/// The parts of a file on which additions depend.
#[derive(Debug, Default)]
pub(crate) struct KnownFile {
    pub(crate) destinations: Vec<KnownDestination>,
    /// `true` if a table has a naming rule.
    pub(crate) has_rules: bool,
}

#[derive(Debug)]
pub(crate) struct KnownDestination {
    pub(crate) registry: String,
    /// Empty for a destination without a prefix.
    pub(crate) prefix: String,
    pub(crate) name: String,
}

/// A configuration that is being edited.
#[derive(Debug, Default)]
pub(crate) struct EditedFile(DocumentMut, FileText);

/// The text of a file before the edits.
#[derive(Debug, Default)]
struct FileText {
    original: String,
    /// The text as the parser writes it: without a byte-order mark, and with LF as line ends.
    parsed: String,
}

const BOM: &str = "\u{feff}";

/// Writes the file with the line ends of most of its lines, and with its byte-order mark. Without an
/// edit, writes the original.
impl fmt::Display for EditedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, FileText { original, parsed }) = (self.0.to_string(), &self.1);
        if text == *parsed {
            return f.write_str(original);
        }
        if original.starts_with(BOM) {
            f.write_str(BOM)?;
        }
        let count = |line_end: &str| original.matches(line_end).count();
        match 2 * count("\r\n") > count("\n") {
            true => f.write_str(&text.replace('\n', "\r\n")),
            false => f.write_str(&text),
        }
    }
}

impl EditedFile {
    /// # Errors
    /// [`Kind::Configuration`] if the text is not TOML. The error has no excerpt: it can be a secret.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let document: DocumentMut = text.parse().map_err(|_| {
            let hint = format!("run `ecr-mirror check -c {name}` to see the mistake");
            Error::new(Kind::Configuration, format!("`{name}` is not TOML")).hint(hint)
        })?;
        let parsed = document.to_string();
        Ok(Self(document, FileText { original: text.to_owned(), parsed }))
    }

    pub(crate) fn known(&self) -> KnownFile {
        let text = |table: &Table, key: &str| {
            table.get(key).and_then(Item::as_str).unwrap_or_default().to_owned()
        };
        let tables = self.0.get("destination").and_then(Item::as_array_of_tables);
        let tables: Vec<&Table> = tables.into_iter().flat_map(ArrayOfTables::iter).collect();
        let destinations = tables.iter().map(|table| {
            let (registry, name) = (text(table, "registry"), text(table, "name"));
            let name = if name.is_empty() { registry.clone() } else { name };
            KnownDestination { registry, prefix: text(table, "prefix"), name }
        });
        let has_rule = |item: &Item| item.get("repository").is_some();
        let registries = self.0.get("registry").and_then(Item::as_table_like);
        let has_rules = tables.iter().any(|table| table.contains_key("repository"))
            || self.0.get("defaults").is_some_and(has_rule)
            || registries.is_some_and(|all| all.iter().any(|(_, item)| has_rule(item)));
        KnownFile { destinations: destinations.collect(), has_rules }
    }

    /// Adds the tables, below a comment that names their origin.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if a key of the file has another type than the tables need.
    pub(crate) fn add(&mut self, origin: &str, additions: &Additions) -> Result<()> {
        let mut comment = comment(origin, &additions.comments);
        for keys in &additions.destinations {
            let mut keys: Vec<_> = keys.iter().collect();
            keys.sort_by_key(|(key, _)| **key != "registry");
            let table = table(keys.into_iter().map(|(key, value)| (*key, value.as_str())));
            self.push("destination", table, &mut comment)?;
        }
        if !additions.defaults.is_empty() {
            let is_missing = !self.0.contains_key("defaults");
            let defaults = self.table(&["defaults"])?;
            insert_missing(defaults, &additions.defaults);
            if is_missing {
                self.comment(&["defaults"], &mut comment);
            }
        }
        for (host, keys) in &additions.registries {
            let path = ["registry", host.as_str()];
            let is_missing =
                self.0.get("registry").is_none_or(|all| all.get(host.as_str()).is_none());
            insert_missing(self.table(&path)?, keys);
            if is_missing {
                self.comment(&path, &mut comment);
            }
        }
        self.add_images(&additions.images, &mut comment)?;
        Ok(())
    }

    /// Adds lines to `[images]`, and tags to its lines. What does not fit there becomes an `[[image]]`.
    fn add_images(&mut self, entries: &[ImageEntry], comment: &mut String) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let is_missing = !self.0.contains_key("images");
        let images = self.table(&["images"])?;
        let mut known = KnownImages::of(images);
        let (mut is_first, mut beside) = (is_missing, Vec::new());
        for entries in entries.chunk_by(|one, other| one.host == other.host) {
            let host = &entries[0].host;
            let mut lines: Vec<(String, Value)> = Vec::new();
            for entry in add_listed(host, entries, images, &known, &mut lines) {
                match known.lines.get(&entry.image()) {
                    Some(line) => {
                        let value = line.as_ref().and_then(|key| images.get_mut(key));
                        let value = value.and_then(Item::as_value_mut);
                        let is_added =
                            |value| entry.keys.is_empty() && add_tags(value, &entry.tags);
                        if !value.is_some_and(is_added) {
                            beside.push(entry);
                        }
                    }
                    None => {
                        let key = entry.key();
                        let value = entry.value(&key);
                        lines.push((key, value));
                        known.lines.insert(entry.image(), None);
                    }
                }
            }
            for (at, (key, value)) in lines.into_iter().enumerate() {
                images.insert(&key, toml_edit::value(value));
                let above = match at {
                    0 if mem::take(&mut is_first) => format!("# {host}\n"),
                    0 => format!("\n{}# {host}\n", mem::take(comment)),
                    _ => String::new(),
                };
                if let Some(mut key) = images.key_mut(&key) {
                    key.leaf_decor_mut().set_prefix(above);
                }
            }
        }
        if is_missing {
            self.comment(&["images"], comment);
        }
        beside.into_iter().try_for_each(|entry| self.push("image", entry.table(), comment))
    }

    /// Adds a table to a list of tables. The comment moves above it.
    fn push(&mut self, name: &str, mut table: Table, comment: &mut String) -> Result<()> {
        let blank = if self.0.is_empty() { "" } else { "\n" };
        table.decor_mut().set_prefix(format!("{blank}{}", mem::take(comment)));
        let tables = self.0.entry(name).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let tables = tables.as_array_of_tables_mut().ok_or_else(|| unexpected(name))?;
        tables.push(table);
        Ok(())
    }

    /// The table at this path, which is created if it is missing.
    fn table(&mut self, path: &[&str]) -> Result<&mut dyn TableLike> {
        let mut item = self.0.as_item_mut();
        for (at, name) in path.iter().enumerate() {
            let table = item.as_table_like_mut().ok_or_else(|| unexpected(name))?;
            if table.get(name).is_none() {
                let mut new = Table::new();
                new.set_implicit(at + 1 < path.len());
                table.insert(name, Item::Table(new));
            }
            item = table.get_mut(name).ok_or_else(|| unexpected(name))?;
        }
        item.as_table_like_mut().ok_or_else(|| unexpected(path[0]))
    }

    /// Moves the comment above this table, which is new.
    fn comment(&mut self, path: &[&str], comment: &mut String) {
        let mut item = Some(self.0.as_item_mut());
        for name in path {
            item = item.and_then(|item| item.get_mut(name));
        }
        if let Some(table) = item.and_then(Item::as_table_mut) {
            table.decor_mut().set_prefix(format!("\n{}", mem::take(comment)));
        }
    }
}

/// The comment above additions; with an empty line if it lists anything.
fn comment(origin: &str, lines: &[String]) -> String {
    let origin = printable(origin);
    let mut text = format!("# Imported by `ecr-mirror import` from {origin}.\n");
    if !lines.is_empty() {
        text += "# Without an equivalent, or to be checked:\n";
    }
    for line in lines {
        text += &format!("#   {line}\n");
    }
    if lines.is_empty() { text } else { text + "\n" }
}

fn table<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> Table {
    let mut table = Table::new();
    for (key, text) in keys {
        table.insert(key, Item::Value(value(text)));
    }
    table
}

fn insert_missing(table: &mut dyn TableLike, keys: &TomlKeys) {
    for (key, text) in keys {
        if table.get(key).is_none() {
            table.insert(key, Item::Value(value(text)));
        }
    }
}

/// The value of a TOML text that this program wrote.
fn value(text: &str) -> Value {
    text.parse::<Value>().unwrap_or_else(|_| text.into())
}

/// Adds the references that share a list of their registry: to the list of the file, or as a line if
/// they are many. Returns the entries that need lines of their own.
fn add_listed(
    host: &Host,
    entries: &[ImageEntry],
    images: &mut dyn TableLike,
    known: &KnownImages,
    lines: &mut Vec<(String, Value)>,
) -> Vec<ImageEntry> {
    let new: Vec<ImageEntry> = entries.iter().filter_map(|entry| known.unlisted(entry)).collect();
    let listed =
        |entry: &ImageEntry| entry.listed().filter(|_| !known.lines.contains_key(&entry.image()));
    let texts: Vec<String> = new.iter().filter_map(&listed).collect();
    let key = format!("{host}/");
    match images.get_mut(&key).and_then(Item::as_array_mut) {
        Some(list) => append(list, &texts),
        None if texts.len() > MOST_SINGLE => lines.push((key, in_lines(&texts).into())),
        None => return new,
    }
    new.into_iter().filter(|entry| listed(entry).is_none()).collect()
}

/// The images of `[images]`.
struct KnownImages {
    /// The key of each repository's line; `None` for a line that is new.
    lines: BTreeMap<(Host, Repository), Option<String>>,
    /// The references in lists of a registry or a namespace.
    listed: BTreeSet<String>,
}

impl KnownImages {
    fn of(images: &dyn TableLike) -> Self {
        let (mut lines, mut listed) = (BTreeMap::new(), BTreeSet::new());
        for (key, item) in images.iter() {
            if key.ends_with('/') {
                let items = item.as_array().into_iter().flat_map(Array::iter);
                let texts = items.filter_map(Value::as_str).map(|text| format!("{key}{text}"));
                let references = texts.filter_map(|text| text.parse::<Reference>().ok());
                listed.extend(references.map(|reference| reference.to_string()));
            } else if let Ok(reference) = key.parse::<Reference>() {
                // a repository has several spellings
                lines.insert((reference.host, reference.repository), Some(key.to_owned()));
            }
        }
        Self { lines, listed }
    }

    /// The entry without the tags that a list has; `None` if it has all of them.
    fn unlisted(&self, entry: &ImageEntry) -> Option<ImageEntry> {
        let mut entry = entry.clone();
        if entry.keys.is_empty() && !self.listed.is_empty() {
            let name = format!("{}/{}", entry.host, entry.repository);
            entry.tags.retain(|tag| !self.listed.contains(&format!("{name}:{tag}")));
            return (!entry.tags.is_empty()).then_some(entry);
        }
        Some(entry)
    }
}

/// A list with several texts in a line.
fn in_lines(texts: &[String]) -> Array {
    let mut array = Array::new();
    extend(&mut array, texts, Some("    "));
    array.set_trailing("\n");
    array.set_trailing_comma(true);
    array
}

/// Appends texts to a list in its own layout.
fn append(array: &mut Array, texts: &[String]) {
    let prefixes = array.iter().filter_map(|item| item.decor().prefix()?.as_str());
    let indent = prefixes.filter_map(|prefix| prefix.rsplit_once('\n')).last();
    let indent = indent.map(|(_, indent)| indent.to_owned());
    extend(array, texts, indent.as_deref());
}

/// Appends texts: with an indent in new lines as wide as fits, without one in the same line.
fn extend(array: &mut Array, texts: &[String], indent: Option<&str>) {
    let mut column = WIDTH;
    for text in texts {
        let mut value = Value::from(text);
        // with a space and a comma
        let width = value.to_string().len() + 2;
        let is_first = array.is_empty();
        let prefix = match indent {
            Some(indent) if column + width > WIDTH => {
                column = indent.len() + width;
                // a comment behind the last text stays there
                let comment = array.trailing().as_str().unwrap_or_default().trim_end().to_owned();
                array.set_trailing("\n");
                format!("{comment}\n{indent}")
            }
            None if is_first => String::new(),
            _ => {
                column += width;
                " ".to_owned()
            }
        };
        value.decor_mut().set_prefix(prefix);
        array.push_formatted(value);
    }
}

/// Adds tags to a value. Returns `false` if it has other keys than tags.
fn add_tags(known: &mut Value, added: &[String]) -> bool {
    let tags = tag_values(known);
    let added: Vec<String> = added.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
    if let (Value::String(_), false) = (&*known, added.is_empty()) {
        let decor = known.decor().clone();
        *known = Value::Array(Array::from_iter(tags));
        *known.decor_mut() = decor;
    }
    match known {
        Value::Array(array) => append(array, &added),
        Value::String(_) => {}
        _ => return false,
    }
    true
}

fn tag_values(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flat_map(Array::iter);
    let own = value.is_str().then_some(value);
    items.chain(own).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn unexpected(name: &str) -> Error {
    Error::new(Kind::Configuration, format!("`{name}` has another form than expected"))
        .hint("run `ecr-mirror check` to see the mistake")
}
