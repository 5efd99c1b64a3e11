//! Reads files and directories, and the Dockerfiles that other files build.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use ignore::WalkBuilder;

use super::{
    BuildFile, DiscoverOptions, FoundUses, Unreadable, Use,
    detect::{DocumentKind, FileFormat},
    read, read_below,
};
use crate::model::{Error, Kind, Result};

/// The path of standard input.
pub(crate) const STDIN: &str = "-";

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// The uses of these files and directories. Without paths, reads the working directory.
///
/// # Errors
/// [`Kind::Configuration`] if a path cannot be read, if a file has no known format, or if no
/// Dockerfile has the target.
pub(crate) fn find(paths: &[PathBuf], options: &DiscoverOptions) -> Result<FoundUses> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here } else { paths };
    let mut files: BTreeMap<PathBuf, FoundUses> = BTreeMap::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            let mut text = String::new();
            let read = io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text);
            read.map_err(|error| unreadable(path, error))?;
            let name = Path::new("stdin");
            files.insert(name.to_owned(), known(name, &text, options)?);
            continue;
        }
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
        if metadata.is_dir() {
            walk(path, options, &mut files)?;
        } else {
            let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
            files.insert(clean(path), known(&clean(path), &text, &with_dot_env(path, options))?);
        }
    }
    let builds: Vec<BuildFile> =
        files.values_mut().flat_map(|found| std::mem::take(&mut found.builds)).collect();
    read_builds(builds, options, &mut files);
    let mut all = FoundUses::default();
    files.into_values().for_each(|found| all.append(found));
    match &options.target {
        Some(target) if !all.has_target => {
            Err(Error::new(Kind::Configuration, format!("no Dockerfile has the stage `{target}`"))
                .hint("name a stage of `FROM … AS NAME` with `--target`, or remove it"))
        }
        _ => Ok(all),
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let problem = format!("cannot read `{}`", path.display());
    let error = Error::new(Kind::Configuration, problem).because(error);
    error.hint("name a file, a directory, or `-` for standard input")
}

/// The uses of a file that was named.
fn known(name: &Path, text: &str, options: &DiscoverOptions) -> Result<FoundUses> {
    read(name, text, options).ok_or_else(|| {
        let problem = format!("`{}` has no known format", name.display());
        Error::new(Kind::Configuration, problem).hint(
            "name a Dockerfile, a compose or bake file, Kubernetes manifests, a pipeline of GitHub, \
             GitLab or CodeBuild, a devcontainer.json, or an ECS task definition",
        )
    })
}

/// Reads every file below the directory that has a known format. Files that Git ignores are skipped.
fn walk(
    root: &Path,
    options: &DiscoverOptions,
    files: &mut BTreeMap<PathBuf, FoundUses>,
) -> Result<()> {
    let is_read = |name: &OsStr| name != ".git" && name != "node_modules";
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .filter_entry(move |entry| is_read(entry.file_name()))
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| {
            let problem = format!("cannot read the directory `{}`", root.display());
            Error::new(Kind::Configuration, problem).because(error)
        })?;
        let path = entry.path();
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        let Some(format) = FileFormat::by_name(path).filter(|_| is_file) else { continue };
        let name = clean(path);
        let found = match read_walked(path) {
            Ok(Some(text)) => read_below(&name, &text, &with_dot_env(path, options)),
            Ok(None) => None,
            Err(_) if format == FileFormat::Documents(None) => None,
            Err(error) => Some(FoundUses {
                unreadable: vec![Unreadable {
                    file: name.clone(),
                    line: 1,
                    problem: error.to_string(),
                }],
                ..FoundUses::default()
            }),
        };
        files.extend(found.map(|found| (name, found)));
    }
    Ok(())
}

/// The text of a file; `None` if it is too long to be read.
fn read_walked(path: &Path) -> io::Result<Option<String>> {
    if fs::metadata(path)?.len() > LONGEST {
        return Ok(None);
    }
    fs::read_to_string(path).map(Some)
}

/// The path without `.`, and without `DIR/..`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Reads the Dockerfiles that other files build, with what these build them with.
fn read_builds(
    builds: Vec<BuildFile>,
    options: &DiscoverOptions,
    files: &mut BTreeMap<PathBuf, FoundUses>,
) {
    let mut built: BTreeMap<PathBuf, FoundUses> = BTreeMap::new();
    for build in builds {
        let name = clean(&build.path);
        let text = match fs::read_to_string(&name) {
            Ok(text) => text,
            Err(error) => {
                let problem = format!("is built, and cannot be read: {error}");
                let unreadable = Unreadable { file: name.clone(), line: 1, problem };
                built.entry(name).or_default().add_new([], [unreadable]);
                continue;
            }
        };
        let found = read(&name, &text, &build.options(options)).unwrap_or_default();
        let known = built.entry(name).or_default();
        known.has_target |= found.has_target;
        known.add_new(found.uses, found.unreadable);
    }
    // replaces what the same file uses when it is built alone
    files.extend(built);
}

impl FoundUses {
    /// Adds those that are not known.
    fn add_new(
        &mut self,
        uses: impl IntoIterator<Item = Use>,
        unreadable: impl IntoIterator<Item = Unreadable>,
    ) {
        for one in uses {
            if !self.uses.contains(&one) {
                self.uses.push(one);
            }
        }
        for one in unreadable {
            if !self.unreadable.contains(&one) {
                self.unreadable.push(one);
            }
        }
    }
}

/// The options with the variables of the file `.env` beside a compose file. The environment and the
/// command line precede.
fn with_dot_env(path: &Path, options: &DiscoverOptions) -> DiscoverOptions {
    let mut options = options.clone();
    if FileFormat::by_name(path) != Some(FileFormat::Documents(Some(DocumentKind::Compose))) {
        return options;
    }
    let Ok(text) = fs::read_to_string(path.with_file_name(".env")) else { return options };
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let value = value.split(" #").next().unwrap_or_default().trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|it| it.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        if (options.environment)(name).is_none() {
            options.build_args.entry(name.trim().to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    options
}
