//! Checks the forms and the edits of Dockerfiles before a run. Changes nothing.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf, absolute},
};

use super::{CheckedForms, DOCKERFILE, FORM, is_appended};
use crate::{
    cli::{BootstrapArgs, Global},
    discover::{
        FoundUses, Resolution,
        forms::{EmitTarget, EmittedForm, dockerfiles, emit},
    },
    model::{Error, Kind, Result},
    output::file,
    run::{used_images::UsedImages, used_mapping::UsedMapping},
};

/// The forms of `bootstrap`, and the edits of its Dockerfiles, as the command line names them.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct BuildForms<'a> {
    targets: &'a [EmitTarget],
    edits_dockerfiles: bool,
    destination: Option<&'a str>,
    into: Option<&'a Path>,
    /// The other files of the run, by their options.
    outputs: [(&'static str, Option<&'a Path>); 3],
}

impl<'a> BuildForms<'a> {
    /// # Errors
    /// [`Kind::Configuration`] if two documents go to stdout or to one file, or if standard input is
    /// to be edited.
    pub(in crate::commands) fn new(args: &'a BootstrapArgs) -> Result<Self> {
        let targets = &args.emit[..];
        let printed = targets.iter().filter(|target| target.path.is_none());
        let printed: Vec<&str> = printed.map(|target| target.form.name()).collect();
        let is_stdout = |path: &PathBuf| path == Path::new("-");
        let others = [
            ("--json", args.output.json),
            ("--metrics -", args.metrics.metrics.as_ref().is_some_and(is_stdout)),
        ];
        match &printed[..] {
            [] => {}
            [form] => {
                if let Some((other, _)) = others.into_iter().find(|(_, is_given)| *is_given) {
                    let problem = format!("`--emit {form}` and `{other}` both write to stdout");
                    return wrong(problem, &format!("write `--emit {form}=FILE`"));
                }
            }
            forms => {
                let problem = format!("`--emit` prints {} on stdout", forms.join(" and "));
                return wrong(problem, "write `--emit FORM=FILE` for all forms but one");
            }
        }
        let summary = args.output.summary.as_deref().filter(|path| *path != Path::new("auto"));
        let outputs = [
            ("--report", args.output.report.as_deref()),
            ("--metrics", args.metrics.metrics.as_deref().filter(|path| *path != Path::new("-"))),
            ("--summary", summary),
        ];
        let forms = targets.iter().map(|target| ("--emit", target.path.as_deref()));
        let mut paths = HashMap::new();
        for (option, path) in forms.chain(outputs) {
            let Some(path) = path.filter(|path| !is_special(path)) else { continue };
            let problem = match paths.insert(real(path), option) {
                None => continue,
                Some(other) if other == option => {
                    format!("`{option}` names `{}` twice", path.display())
                }
                Some(other) => format!("`{other}` and `{option}` name `{}`", path.display()),
            };
            return wrong(problem, "name a file for each of them");
        }
        if args.write && args.paths.iter().any(|path| path == Path::new("-")) {
            let problem = "`--write` cannot edit standard input".to_owned();
            return wrong(problem, "name the files, or remove `--write`");
        }
        let (destination, into) = (args.destination.as_deref(), args.into.as_deref());
        Ok(Self { targets, edits_dockerfiles: args.write, destination, into, outputs })
    }

    /// Checks before any change that the report, the metrics and the summary replace no input.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a configuration, and for a file whose images are mirrored.
    pub(in crate::commands) fn check_outputs(
        &self,
        global: &Global,
        found: &FoundUses,
    ) -> Result<()> {
        let used = found.uses.iter().map(|one| &one.place.file);
        let used = used.chain(found.unreadable.iter().map(|one| &one.file));
        let inputs = Inputs::new(global, self.into, used);
        let outputs = self.outputs.into_iter();
        outputs
            .filter_map(|(option, path)| Some((option, path?)))
            .try_for_each(|(option, path)| inputs.check(option, path))
    }

    /// Checks before any change that the forms can be made and written, and the Dockerfiles edited.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the images have several destinations, if a form would serve the
    /// image of one registry as that of another, or overwrite a configuration or a file whose images
    /// are mirrored, and if a file cannot be written.
    pub(in crate::commands) fn check(
        self,
        global: &Global,
        used: &'a UsedImages,
        found: &FoundUses,
    ) -> Result<CheckedForms<'a>> {
        let Self { targets, edits_dockerfiles, destination, into, .. } = self;
        if targets.is_empty() && !edits_dockerfiles {
            return Ok(CheckedForms { targets, edits_dockerfiles, mapping: None });
        }
        let mapping = UsedMapping::new(used, found, destination)?;
        let before = mapping.before();
        // a form of an earlier run is replaced: its images are those of the mirror
        let is_input = |image: &Resolution| match image {
            Resolution::Image(source) => !used.is_at_destination(source),
            _ => true,
        };
        let used = found.uses.iter().filter(|one| is_input(&one.image));
        let inputs = Inputs::new(global, into, used.map(|one| &one.place.file));
        for target in targets {
            let form = emit(target.form, &before)?;
            let Some(path) = &target.path else { continue };
            inputs.check(&format!("--emit {}", target.form), path)?;
            check_files(target, path, &form)?;
        }
        let edited = dockerfiles(&before).into_iter().filter(|_| edits_dockerfiles);
        edited.into_iter().try_for_each(|path| file::check_replaceable(path, DOCKERFILE))?;
        Ok(CheckedForms { targets, edits_dockerfiles, mapping: Some(mapping) })
    }
}

/// The files that a run reads, without symbolic links.
struct Inputs {
    configuration: HashSet<PathBuf>,
    used: HashSet<PathBuf>,
}

impl Inputs {
    fn new<'p>(
        global: &Global,
        into: Option<&Path>,
        used: impl Iterator<Item = &'p PathBuf>,
    ) -> Self {
        let configuration = global.config_files();
        let configuration = configuration.iter().map(PathBuf::as_path).chain(into);
        Self {
            configuration: configuration.map(real).collect(),
            used: used.map(|path| real(path)).collect(),
        }
    }

    fn check(&self, option: &str, path: &Path) -> Result<()> {
        for (files, meaning) in [
            (&self.configuration, "a file of the configuration"),
            (&self.used, "a file that uses the images"),
        ] {
            if files.contains(&real(path)) {
                let path = path.display();
                let problem = format!("`{option}` would overwrite `{path}`, {meaning}");
                return wrong(problem, "name another file");
            }
        }
        Ok(())
    }
}

/// Returns `true` for a device or a pipe, which several documents can share.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir())
}

/// Checks that the files of the form can be written to this path.
fn check_files(target: &EmitTarget, path: &Path, form: &EmittedForm) -> Result<()> {
    form.files.iter().try_for_each(|part| match &part.path {
        Some(below) => file::check_creatable(&path.join(below), FORM),
        None if is_appended(target.form, path) => file::check_appendable(path, FORM),
        None => file::check_writable(path, FORM),
    })
}

fn wrong<T>(problem: String, hint: &str) -> Result<T> {
    Err(Error::new(Kind::Configuration, problem).hint(hint.to_owned()))
}

/// The path without symbolic links, also of a file that does not exist.
fn real(path: &Path) -> PathBuf {
    let of_new_file = || {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()?;
        Some(directory.join(path.file_name()?))
    };
    let known = fs::canonicalize(path).ok().or_else(of_new_file);
    known.unwrap_or_else(|| absolute(path).unwrap_or_else(|_| path.to_owned()))
}
