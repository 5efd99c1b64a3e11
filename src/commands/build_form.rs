//! Writes the forms that make a build use the mirror, and edits its Dockerfiles.

use std::{
    collections::{BTreeSet, HashSet},
    env, fs,
    path::{Path, PathBuf, absolute},
};

use super::shared::{print_report, print_report_on_stderr};
use crate::{
    cli::{BootstrapArgs, Global},
    discover::{
        FoundUses, Resolution,
        forms::{
            BuildForm, EmitTarget, EmittedForm, ImageMapping, MissingImage, dockerfiles, emit,
            rewrite, syntax_lines,
        },
    },
    model::{Error, Kind, Result, outcome::Report, text::count},
    output::{Screen, error, file},
    run::{lock_file::LockFile, used_images::UsedImages, used_mapping::used_mapping},
};

/// The variables of GitHub Actions that name a file to which steps append.
const GITHUB_FILES: [&str; 2] = ["GITHUB_ENV", "GITHUB_OUTPUT"];

/// The names of the files in errors.
const FORM: &str = "form";
const DOCKERFILE: &str = "Dockerfile";

/// Prints the form on stdout, and its notes and omitted images on stderr. Returns the number of
/// omitted images.
pub(super) fn print(global: &Global, screen: &Screen, form: &EmittedForm) -> Result<usize> {
    screen.print(|out| out.write_all(form.text().as_bytes()))?;
    if !global.quiet {
        screen.tell_lines(|out| form.notes.iter().try_for_each(|note| writeln!(out, "{note}")));
    }
    Ok(warn_of_omitted(screen, form))
}

fn warn_of_omitted(screen: &Screen, form: &EmittedForm) -> usize {
    for image in &form.omitted {
        error::warn(screen, &format!("the form omits an image: {image}"));
    }
    form.omitted.len()
}

/// The forms of `bootstrap`, and the edits of its Dockerfiles.
pub(super) struct BuildForms<'a> {
    targets: &'a [EmitTarget],
    edits_dockerfiles: bool,
    destination: Option<&'a str>,
}

impl<'a> BuildForms<'a> {
    /// # Errors
    /// [`Kind::Configuration`] if two documents go to stdout or to one file, or if standard input is
    /// to be edited.
    pub(super) fn new(args: &'a BootstrapArgs) -> Result<Self> {
        let targets = &args.emit[..];
        let printed: Vec<&str> = targets
            .iter()
            .filter(|target| target.path.is_none())
            .map(|target| target.form.name())
            .collect();
        match &printed[..] {
            [form] if args.json => {
                let problem = format!("`--emit {form}` and `--json` both write to stdout");
                return wrong(problem, &format!("write `--emit {form}=FILE`"));
            }
            [] | [_] => {}
            forms => {
                let problem = format!("`--emit` prints {} on stdout", forms.join(" and "));
                return wrong(problem, "write `--emit FORM=FILE` for all forms but one");
            }
        }
        let mut paths = HashSet::new();
        for path in targets.iter().filter_map(|target| target.path.as_deref()) {
            if !paths.insert(real(path)) {
                let problem = format!("`--emit` names `{}` twice", path.display());
                return wrong(problem, "name a file for each form");
            }
        }
        if args.write && args.paths.iter().any(|path| path == Path::new("-")) {
            let problem = "`--write` cannot edit standard input".to_owned();
            return wrong(problem, "name the files, or remove `--write`");
        }
        let destination = args.destination.as_deref();
        Ok(Self { targets, edits_dockerfiles: args.write, destination })
    }

    fn is_empty(&self) -> bool {
        self.targets.is_empty() && !self.edits_dockerfiles
    }

    /// Checks before any change that the files of the forms can be written.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if a file cannot be written, or is one of the configuration.
    pub(super) fn check_files(&self, global: &Global, into: Option<&Path>) -> Result<()> {
        let files = global.config_files();
        let files = files.iter().map(PathBuf::as_path).chain(into);
        let configuration: HashSet<PathBuf> = files.map(real).collect();
        for target in self.targets {
            if target.path.as_deref().is_some_and(|path| configuration.contains(&real(path))) {
                return overwriting(target, "a file of the configuration");
            }
            match &target.path {
                Some(path) if target.form == BuildForm::HostsToml => {
                    make_directory(path)?;
                    file::check_writable(&path.join("hosts.toml"), FORM)?;
                }
                Some(path) if is_appended(target.form, path) => file::append(path, FORM, "")?,
                Some(path) => file::check_writable(path, FORM)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Checks before the run that the forms can be made, and the Dockerfiles edited.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the images have several destinations, if a form would serve the
    /// image of one registry as that of another or overwrite a file whose images are mirrored, and if
    /// a Dockerfile cannot be written.
    pub(super) fn check(&self, used: &UsedImages, found: &FoundUses) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mapping = used_mapping(used, found, self.destination, None)?;
        // a form of an earlier run is replaced: its images are those of the mirror
        let is_input = |image: &Resolution| match image {
            Resolution::Image(source) => !used.is_at_destination(source),
            _ => true,
        };
        let inputs = found.uses.iter().filter(|one| is_input(&one.image));
        let inputs: HashSet<PathBuf> = inputs.map(|one| real(&one.place.file)).collect();
        for target in self.targets {
            emit(target.form, &mapping)?;
            if target.path.as_deref().is_some_and(|path| inputs.contains(&real(path))) {
                return overwriting(target, "a file that uses the images");
            }
        }
        let edited = dockerfiles(&mapping).into_iter().filter(|_| self.edits_dockerfiles);
        edited.into_iter().try_for_each(|path| file::check_replaceable(path, DOCKERFILE))
    }

    /// Prints the report of the run: on stderr, if a form goes to stdout.
    pub(super) fn print_report(
        &self,
        global: &Global,
        screen: &Screen,
        report: &Report,
        as_json: bool,
    ) -> Result<()> {
        if self.targets.iter().all(|target| target.path.is_some()) {
            return print_report(global, screen, report, as_json);
        }
        print_report_on_stderr(global, screen, report);
        Ok(())
    }

    /// Writes the forms of the images that the destination has after the run, and names the others.
    /// Returns `false` if a form omits an image that the run did not fail or defer, or cannot be written;
    /// the other forms are written.
    pub(super) fn write(
        &self,
        global: &Global,
        screen: &Screen,
        used: &UsedImages,
        found: &FoundUses,
        run: &(Report, LockFile),
    ) -> Result<bool> {
        if self.is_empty() {
            return Ok(true);
        }
        let mapping = used_mapping(used, found, self.destination, Some(run))?;
        for MissingImage { source, is_sent, .. } in &mapping.missing {
            let problem = match is_sent {
                true => "the destination does not have it after this run",
                false => "the configuration mirrors it to other destinations only",
            };
            error::warn(screen, &format!("{source} is omitted: {problem}"));
        }
        // the exit status of the run tells of an image that failed or is deferred
        let is_told = |image: &MissingImage| image.is_sent && run.0.exit != 0;
        let mut is_whole = mapping.missing.iter().all(is_told);
        for target in self.targets {
            let written = emit(target.form, &mapping).and_then(|form| match &target.path {
                None => print(global, screen, &form),
                Some(path) => save(global, screen, target.form, &form, path),
            });
            is_whole &= is_complete(screen, written);
        }
        if self.edits_dockerfiles {
            is_whole &= edit(global, screen, &mapping);
        }
        Ok(is_whole)
    }
}

fn wrong<T>(problem: String, hint: &str) -> Result<T> {
    Err(Error::new(Kind::Configuration, problem).hint(hint.to_owned()))
}

fn overwriting(target: &EmitTarget, meaning: &str) -> Result<()> {
    let path = target.path.iter().map(|path| path.display().to_string()).collect::<String>();
    let problem = format!("`--emit {}` would overwrite `{path}`, {meaning}", target.form);
    wrong(problem, "name another file")
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

/// Returns `true` for a success without omitted images. Prints an error.
fn is_complete(screen: &Screen, written: Result<usize>) -> bool {
    match written {
        Ok(omitted) => omitted == 0,
        Err(failure) => {
            error::print(screen, &failure);
            false
        }
    }
}

/// Returns `true` for a file to which the steps of GitHub Actions append.
fn is_appended(form: BuildForm, path: &Path) -> bool {
    let is_path = |name| env::var_os(name).is_some_and(|it| Path::new(&it) == path);
    form == BuildForm::Env && GITHUB_FILES.into_iter().any(is_path)
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|cause| {
        let problem = format!("cannot make the directory `{}`", path.display());
        Error::new(Kind::Configuration, problem).because(cause)
    })
}

/// Writes the files of a form. Returns the number of omitted images.
fn save(
    global: &Global,
    screen: &Screen,
    form: BuildForm,
    emitted: &EmittedForm,
    path: &Path,
) -> Result<usize> {
    for part in &emitted.files {
        let path = match &part.path {
            Some(below) => path.join(below),
            None => path.to_owned(),
        };
        if let (Some(_), Some(directory)) = (&part.path, path.parent()) {
            make_directory(directory)?;
        }
        match is_appended(form, &path) {
            true => file::append(&path, FORM, &part.text)?,
            false => file::save(&path, FORM, |out| out.write_all(part.text.as_bytes()))?,
        }
    }
    if !global.quiet {
        screen.tell_lines(|out| {
            writeln!(out, "wrote {form} to {}", path.display())?;
            emitted.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))
        });
    }
    Ok(warn_of_omitted(screen, emitted))
}

/// Edits the Dockerfiles, each once. Returns `false` if a reference cannot be replaced, or a file not
/// be written; the other files are edited.
fn edit(global: &Global, screen: &Screen, mapping: &ImageMapping) -> bool {
    let mut done: BTreeSet<PathBuf> = BTreeSet::new();
    let mut is_whole = true;
    for path in dockerfiles(mapping) {
        // two names of one file have the same references
        if fs::canonicalize(path).is_ok_and(|real| !done.insert(real)) {
            continue;
        }
        is_whole &= is_complete(screen, edit_file(global, screen, path, mapping));
    }
    if !global.quiet {
        let kept = syntax_lines(mapping);
        screen.tell_lines(|out| kept.iter().try_for_each(|line| writeln!(out, "{line}")));
    }
    is_whole
}

/// Edits one Dockerfile, and names each change. Returns the number of references that stay.
fn edit_file(
    global: &Global,
    screen: &Screen,
    path: &Path,
    mapping: &ImageMapping,
) -> Result<usize> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|cause| {
        Error::new(Kind::Unavailable, format!("cannot read `{shown}`")).because(cause)
    })?;
    let edited = rewrite(&bytes, path, mapping)?;
    if !edited.edits.is_empty() {
        file::replace(path, DOCKERFILE, &edited.bytes)?;
    }
    if !global.quiet && !edited.edits.is_empty() {
        screen.tell_lines(|out| {
            writeln!(out, "changed {} in {shown}", count(edited.edits.len(), "reference"))?;
            let mut edits = edited.edits.iter();
            edits.try_for_each(|it| writeln!(out, "  {shown}:{}: {} → {}", it.line, it.from, it.to))
        });
    }
    for image in &edited.omitted {
        error::warn(screen, &format!("not changed: {image}"));
    }
    Ok(edited.omitted.len())
}
