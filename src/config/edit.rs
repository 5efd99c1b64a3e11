//! Edits the text of a configuration, and keeps its comments.
//!
//! Adds tables, keys and images. Never changes or removes a value: tags are added to a list.

use std::{collections::BTreeMap, fmt};

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

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
#[derive(Debug)]
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

    /// The value in `[images]`: a tag, tags, or a table.
    fn value(&self) -> Value {
        match (&self.tags[..], self.keys.is_empty()) {
            ([tag], true) => tag.into(),
            (tags, true) => Array::from_iter(tags).into(),
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
    /// Empty if there is none.
    pub(crate) prefix: String,
    pub(crate) name: String,
}

/// A configuration that is being edited.
#[derive(Debug, Default)]
pub(crate) struct EditedFile(DocumentMut);

impl fmt::Display for EditedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EditedFile {
    /// # Errors
    /// [`Kind::Configuration`] if the text is not TOML. The error has no excerpt: it can be a secret.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        text.parse().map(Self).map_err(|_| {
            let hint = format!("run `ecr-mirror check -c {name}` to see the mistake");
            Error::new(Kind::Configuration, format!("`{name}` is not TOML")).hint(hint)
        })
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
            let table = table(keys.iter().map(|(key, value)| (*key, value.as_str())));
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
        // a repository has several spellings
        let spelled = |key: &str| key.parse::<Reference>().ok().map(|it| (it.host, it.repository));
        let mut known: BTreeMap<(Host, Repository), String> =
            images.iter().filter_map(|(key, _)| Some((spelled(key)?, key.to_owned()))).collect();
        let (mut last, mut beside) = (None, Vec::new());
        for entry in entries {
            let repository = (entry.host.clone(), entry.repository.clone());
            if let Some(key) = known.get(&repository) {
                let value = images.get_mut(key).and_then(Item::as_value_mut);
                if !value.is_some_and(|value| entry.keys.is_empty() && add_tags(value, &entry.tags))
                {
                    beside.push(entry);
                }
                continue;
            }
            let key = entry.key();
            images.insert(&key, toml_edit::value(entry.value()));
            let before = last.replace(&entry.host);
            let above = match before {
                Some(host) if host == &entry.host => String::new(),
                None if is_missing => format!("# {}\n", entry.host),
                _ => format!("\n{}# {}\n", std::mem::take(comment), entry.host),
            };
            if let Some(mut key) = images.key_mut(&key) {
                key.leaf_decor_mut().set_prefix(above);
            }
            known.insert(repository, key);
        }
        if is_missing {
            self.comment(&["images"], comment);
        }
        beside.into_iter().try_for_each(|entry| self.push("image", entry.table(), comment))
    }

    /// Adds a table to a list of tables. The comment moves above it.
    fn push(&mut self, name: &str, mut table: Table, comment: &mut String) -> Result<()> {
        let blank = if self.0.is_empty() { "" } else { "\n" };
        table.decor_mut().set_prefix(format!("{blank}{}", std::mem::take(comment)));
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
            table.decor_mut().set_prefix(format!("\n{}", std::mem::take(comment)));
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

/// Adds tags to a value. Returns `false` if it has other keys than tags.
fn add_tags(known: &mut Value, added: &[String]) -> bool {
    let tags = tag_values(known);
    if let Value::String(_) = known {
        let decor = known.decor().clone();
        *known = Value::Array(Array::from_iter(tags.iter().cloned()));
        *known.decor_mut() = decor;
    }
    let Value::Array(array) = known else { return false };
    array.extend(added.iter().filter(|tag| !tags.contains(tag)));
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
