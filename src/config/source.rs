//! The files of a configuration: `-c`, `[[include]]` and `[[list]]`.
//!
//! A span is a range of the texts of all files, one after the other. So a span also names its file.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use globset::GlobBuilder;
use toml::de::{DeTable, DeValue};

use super::{
    context::{FileContext, describe},
    document::{Keys, Table, Text},
    interpolate::Environment,
    problem::{ConfigError, Problem, Span},
    syntax,
    wildcard::ListedRepositories,
};

/// The name of standard input, as a path.
pub(super) const STDIN: &str = "-";
const STDIN_NAME: &str = "standard input";
const VARIABLE: &str = "env:";
const GENERATED_NAME: &str = "the images that are used";

/// The name of a part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceName {
    /// A path.
    File(String),
    /// A name in messages, for what no file has: standard input, a variable, generated tables.
    Other(String),
}

impl SourceName {
    fn of_path(shown: &str) -> Self {
        match shown {
            STDIN => Self::Other(STDIN_NAME.to_owned()),
            path => Self::File(path.to_owned()),
        }
    }

    /// The path; `None` without a file.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::File(path) => Some(path),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(name) | Self::Other(name)) = self;
        f.write_str(name)
    }
}

/// Returns `true` if a message that begins with this name is about a file.
pub(crate) fn is_file_name(name: &str) -> bool {
    ![STDIN_NAME, GENERATED_NAME].contains(&name) && !name.starts_with(VARIABLE)
}

pub(crate) struct SourceFile {
    pub(super) name: SourceName,
    pub(super) text: String,
    pub(super) format: Format,
    /// The base of relative paths.
    directory: PathBuf,
    /// The offset of the text in the texts of all files.
    start: usize,
    /// The offsets of the ends of its lines.
    line_ends: OnceLock<Vec<usize>>,
}

impl SourceFile {
    /// The range in this file's text.
    pub(super) fn local(&self, span: &Span) -> Span {
        span.start.saturating_sub(self.start)..span.end.saturating_sub(self.start)
    }

    /// The number of the line at an offset in this file's text.
    fn line(&self, at: usize) -> usize {
        let ends = || self.text.match_indices('\n').map(|(end, _)| end).collect();
        1 + self.line_ends.get_or_init(ends).partition_point(|end| *end < at)
    }

    /// The span of a range in this file's text.
    pub(super) fn span(&self, local: Span) -> Span {
        self.start + local.start..self.start + local.end
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    /// One reference a line.
    List,
}

impl fmt::Debug for SourceFile {
    /// Hides the text, which can contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The lines of all files, to find many of them.
#[derive(Default)]
pub(super) struct LineIndex {
    /// The offset at which each file starts, and the number of lines before it.
    files: Vec<(usize, usize)>,
    /// The offset at which each line starts.
    starts: Vec<usize>,
}

impl LineIndex {
    /// The index of the file at an offset, and the line, from 1.
    pub(super) fn find(&self, offset: usize) -> (u32, u32) {
        let file = self.files.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let before = self.files.get(file).map_or(0, |(_, before)| *before);
        let line = self.starts.partition_point(|start| *start <= offset).saturating_sub(before);
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (short(file), short(line))
    }
}

/// All files that were read, in their order.
#[derive(Default)]
pub(super) struct Sources {
    files: RefCell<Vec<Arc<SourceFile>>>,
    /// The paths of the files that were read, and [`STDIN`].
    seen: RefCell<BTreeSet<PathBuf>>,
    /// A file that has another text than on disk.
    edited: Option<(PathBuf, String)>,
}

impl Sources {
    /// A configuration of one text.
    pub(super) fn of(name: &str, text: &str, directory: &Path) -> Self {
        let sources = Self::default();
        let name = SourceName::File(name.to_owned());
        sources.add(name, text.to_owned(), directory.to_owned(), Format::Toml);
        sources
    }

    /// Files that were read before.
    pub(super) fn again(files: &[Arc<SourceFile>]) -> Self {
        Self { files: RefCell::new(files.to_vec()), ..Self::default() }
    }

    /// Files of which this one has another text than on disk. It does not need to exist.
    pub(super) fn with_edited(path: &Path, text: &str) -> Self {
        Self { edited: Some((real_path(path), text.to_owned())), ..Self::default() }
    }

    /// Reads the files that the first one includes.
    pub(super) fn include_all(&self, environment: Environment<'_>) -> Result<(), ConfigError> {
        self.files().iter().try_for_each(|file| self.include(file, environment))
    }

    /// Reads a file, standard input (`-`) or a variable (`env:NAME`), and the files that it
    /// includes. A file that was read before is skipped.
    pub(super) fn load(
        &self,
        location: &Path,
        environment: Environment<'_>,
    ) -> Result<(), ConfigError> {
        let shown = location.display().to_string();
        if let Some(variable) = shown.strip_prefix(VARIABLE) {
            let text = environment(variable).ok_or_else(|| {
                let problem = format!("the environment variable `{variable}` is not set");
                ConfigError::whole_file(&problem, "set it to the text of the configuration")
            })?;
            let file = self.add(SourceName::Other(shown), text, PathBuf::new(), Format::Toml);
            return self.include(&file, environment);
        }
        let bytes = match self.bytes(location) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if shown == STDIN => {
                let problem = "`-c -` is given twice, and standard input can be read only once";
                return Err(ConfigError::whole_file(problem, "remove one `-c -`"));
            }
            Ok(None) => return Ok(()),
            Err(error) => return Err(unreadable(&shown, &error)),
        };
        let added = self.add_bytes(&shown, bytes, location, Format::Toml);
        let file = added.map_err(|problem| ConfigError::new(self, vec![problem]))?;
        self.include(&file, environment)
    }

    /// The content of a file; `None` if it was read before.
    fn bytes(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if path.as_os_str() == STDIN {
            let mut bytes = Vec::new();
            let is_new = self.seen.borrow_mut().insert(path.to_owned());
            return match is_new {
                true => io::stdin().lock().read_to_end(&mut bytes).map(|_| Some(bytes)),
                false => Ok(None),
            };
        }
        if let Some((edited, text)) = self.edited.as_ref().filter(|it| it.0 == real_path(path)) {
            let is_new = self.seen.borrow_mut().insert(edited.clone());
            return Ok(is_new.then(|| text.clone().into_bytes()));
        }
        let bytes = fs::read(path)?;
        let is_new = self.seen.borrow_mut().insert(real_path(path));
        Ok(is_new.then_some(bytes))
    }

    /// Reads the list under `file`, relative to the file that names it.
    pub(super) fn list(&self, file: &Text) -> Result<Arc<SourceFile>, Problem> {
        let path = match &**file {
            STDIN => PathBuf::from(STDIN),
            path => self.directory_of(&file.span).join(path),
        };
        let shown = path.display().to_string();
        let name = SourceName::of_path(&shown);
        let is_list = |known: &&Arc<SourceFile>| known.format == Format::List && known.name == name;
        if let Some(known) = self.files.borrow().iter().find(is_list) {
            return Ok(Arc::clone(known));
        }
        if path.as_os_str() == STDIN {
            let bytes = self.bytes(&path).map_err(|error| unreadable_at(file, &error))?;
            let bytes = bytes.ok_or_else(|| {
                Problem::at(&file.span, "standard input can be read only once")
                    .hint("name a file, or pass the configuration in a file or as `-c env:NAME`")
            })?;
            return self.add_bytes(STDIN, bytes, &path, Format::List);
        }
        let bytes = fs::read(&path).map_err(|error| unreadable_at(file, &error))?;
        self.add_bytes(&shown, bytes, &path, Format::List)
    }

    /// Adds tables that no file has.
    pub(super) fn generate(&self, text: String) {
        self.add(SourceName::Other(GENERATED_NAME.to_owned()), text, PathBuf::new(), Format::Toml);
    }

    fn add(
        &self,
        name: SourceName,
        text: String,
        directory: PathBuf,
        format: Format,
    ) -> Arc<SourceFile> {
        let mut files = self.files.borrow_mut();
        let start = files.last().map_or(0, |last| last.start + last.text.len() + 1);
        let line_ends = OnceLock::new();
        let file = Arc::new(SourceFile { name, text, format, directory, start, line_ends });
        files.push(Arc::clone(&file));
        file
    }

    fn add_bytes(
        &self,
        shown: &str,
        bytes: Vec<u8>,
        path: &Path,
        format: Format,
    ) -> Result<Arc<SourceFile>, Problem> {
        let name = SourceName::of_path(shown);
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(self.add(name, text, directory, format)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let bytes = error.as_bytes();
                let label = format!("byte 0x{:02X} at offset {at} is not UTF-8", bytes[at]);
                let hint = match bytes {
                    [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
                        "save the file as UTF-8: it begins like UTF-16"
                    }
                    _ => "save the file as UTF-8",
                };
                let text = String::from_utf8_lossy(bytes).into_owned();
                let file = self.add(name, text, directory, format);
                let span = file.span(at..at + char::REPLACEMENT_CHARACTER.len_utf8());
                Err(Problem::at(&span, label).hint(hint))
            }
        }
    }

    /// Reads the files that `file` includes, and those that they include.
    fn include(&self, file: &SourceFile, environment: Environment<'_>) -> Result<(), ConfigError> {
        // most files include nothing: they are parsed once
        if !file.text.contains(INCLUDE) {
            return Ok(());
        }
        let (document, errors) = DeTable::parse_recoverable(&file.text);
        if !errors.is_empty() {
            // `documents` shows them
            return Ok(());
        }
        let include = document.into_inner().remove_entry(INCLUDE);
        let mut document: DeTable<'_> = include.into_iter().collect();
        shift(&mut document, file.start);
        let listed = ListedRepositories::new();
        let context = FileContext::new(self, environment, &listed);
        let invalid = |problem| ConfigError::new(self, vec![problem]);
        let root = Table::open(&document, 0..0, &ONLY_INCLUDE, &context).map_err(invalid)?;
        for table in root.tables(INCLUDE, &KEYS).map_err(invalid)? {
            let pattern = table.and_then(|table| {
                let hint = "add a path, like `file = \"team-*.toml\"`";
                table.word("file")?.ok_or_else(|| table.missing("file", hint))
            });
            let pattern = pattern.map_err(invalid)?;
            for path in self.included(&pattern).map_err(invalid)? {
                let bytes = self.bytes(&path);
                let bytes = bytes.map_err(|error| invalid(unreadable_at(&pattern, &error)))?;
                let Some(bytes) = bytes else { continue };
                let name = path.display().to_string();
                let added = self.add_bytes(&name, bytes, &path, Format::Toml);
                self.include(&*added.map_err(invalid)?, environment)?;
            }
        }
        Ok(())
    }

    /// The files that match the pattern, in the order of their names.
    fn included(&self, pattern: &Text) -> Result<Vec<PathBuf>, Problem> {
        let path = self.directory_of(&pattern.span).join(&**pattern);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.contains(['*', '?', '[', '{']) {
            return Ok(vec![path]);
        }
        let glob = GlobBuilder::new(name).build().map_err(|_| {
            pattern.invalid("is not a valid glob", "write a name with `*`, like `team-*.toml`")
        })?;
        let glob = glob.compile_matcher();
        let directory = path.parent().unwrap_or(Path::new(""));
        let listed = if directory == Path::new("") { Path::new(".") } else { directory };
        let entries = fs::read_dir(listed).map_err(|error| unreadable_at(pattern, &error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| glob.is_match(name)).collect();
        names.sort();
        if names.is_empty() {
            return Err(pattern.invalid(
                "matches no file",
                "write a path relative to the directory of this file; only its last part may have a `*`",
            ));
        }
        Ok(names.into_iter().map(|name| directory.join(name)).collect())
    }

    /// The tables of all files, as one document; `None` if a file is not TOML.
    pub(super) fn document<'a>(
        &self,
        files: &'a [Arc<SourceFile>],
        problems: &mut Vec<Problem>,
    ) -> Option<DeTable<'a>> {
        let mut merged: Option<DeTable<'a>> = None;
        let mut is_toml = true;
        for file in files.iter().filter(|file| file.format == Format::Toml) {
            let (document, errors) = DeTable::parse_recoverable(&file.text);
            if !errors.is_empty() {
                problems.extend(syntax::problems(file, &errors));
                is_toml = false;
                continue;
            }
            let mut document = document.into_inner();
            shift(&mut document, file.start);
            match &mut merged {
                None => merged = Some(document),
                Some(into) => self.merge(into, document, false, problems),
            }
        }
        is_toml.then(|| merged.unwrap_or_default())
    }

    /// Joins tables and appends lists. A value that two files set is a problem.
    fn merge<'a>(
        &self,
        into: &mut DeTable<'a>,
        from: DeTable<'a>,
        is_images: bool,
        problems: &mut Vec<Problem>,
    ) {
        for (key, value) in from {
            let Some((earlier, _)) = into.get_key_value(&**key.get_ref()) else {
                into.insert(key, value);
                continue;
            };
            let earlier = earlier.span();
            let Some(existing) = into.get_mut(&**key.get_ref()) else { continue };
            match (existing.get_mut(), value.get_ref()) {
                (DeValue::Table(_), DeValue::Table(_)) | (DeValue::Array(_), DeValue::Array(_)) => {
                }
                // tags of one repository
                (DeValue::String(one), DeValue::String(other)) if is_images && one == other => {
                    continue;
                }
                _ => {
                    let line = self.line_of(&earlier);
                    let label = format!("is set in line {line}, too");
                    problems.push(Problem::at(&key.span(), label).hint("remove one of the two"));
                    continue;
                }
            }
            match (existing.get_mut(), value.into_inner()) {
                (DeValue::Table(into), DeValue::Table(from)) => {
                    self.merge(into, from, key.get_ref() == "images", problems);
                }
                (DeValue::Array(into), DeValue::Array(from)) => {
                    from.into_iter().for_each(|item| into.push(item));
                }
                _ => {}
            }
        }
    }

    pub(super) fn files(&self) -> Vec<Arc<SourceFile>> {
        self.files.borrow().clone()
    }

    /// The file of a span.
    pub(super) fn file(&self, span: &Span) -> Arc<SourceFile> {
        let files = self.files.borrow();
        let after = files.partition_point(|file| file.start <= span.start);
        Arc::clone(&files[after.saturating_sub(1)])
    }

    pub(super) fn is_one_file<'s>(&self, mut spans: impl Iterator<Item = &'s Span>) -> bool {
        let Some(first) = spans.next().map(|span| self.file(span)) else { return true };
        spans.all(|span| Arc::ptr_eq(&self.file(span), &first))
    }

    pub(super) fn directory_of(&self, span: &Span) -> PathBuf {
        self.file(span).directory.clone()
    }

    /// The lines of all files.
    pub(super) fn lines(&self) -> LineIndex {
        let mut lines = LineIndex::default();
        for file in self.files.borrow().iter() {
            lines.files.push((file.start, lines.starts.len()));
            let ends = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            lines.starts.push(file.start);
            lines.starts.extend(ends.map(|(at, _)| file.start + at + 1));
        }
        lines
    }

    /// The line of a span, for messages: with the file, if there are several.
    pub(super) fn line_of(&self, span: &Span) -> String {
        let file = self.file(span);
        let line = file.line(file.local(span).start);
        match self.files.borrow().len() {
            1 => line.to_string(),
            _ => format!("{line} of `{}`", file.name),
        }
    }
}

/// The path without symbolic links; the same path for a file that does not exist.
fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

const INCLUDE: &str = "include";
pub(super) const KEYS: Keys = Keys { title: "`[[include]]`", names: "file" };
const ONLY_INCLUDE: Keys = Keys { title: "the configuration", names: INCLUDE };

/// Moves every span of the table.
fn shift(table: &mut DeTable<'_>, by: usize) {
    if by == 0 {
        return;
    }
    let moved = |span: Span| span.start + by..span.end + by;
    for (key, mut value) in std::mem::take(table) {
        shift_value(value.get_mut(), by);
        let (key_span, value_span) = (moved(key.span()), moved(value.span()));
        table.insert(
            serde_spanned::Spanned::new(key_span, key.into_inner()),
            serde_spanned::Spanned::new(value_span, value.into_inner()),
        );
    }
}

fn shift_value(value: &mut DeValue<'_>, by: usize) {
    match value {
        DeValue::Table(table) => shift(table, by),
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                shift_value(item.get_mut(), by);
                let span = item.span();
                let inner = std::mem::replace(item.get_mut(), DeValue::Boolean(false));
                *item = serde_spanned::Spanned::new(span.start + by..span.end + by, inner);
            }
        }
        _ => {}
    }
}

fn unreadable_at(path: &Text, error: &io::Error) -> Problem {
    path.invalid(
        format!("cannot be read: {}", describe(error)),
        "write a path relative to the directory of the file that names it",
    )
}

fn unreadable(name: &str, error: &io::Error) -> ConfigError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "write one with `ecr-mirror init`, or name another file with `-c FILE`"
        }
        _ => "name another file with `-c FILE`",
    };
    ConfigError::whole_file(&format!("cannot read `{name}`: {}", describe(error)), hint)
}
