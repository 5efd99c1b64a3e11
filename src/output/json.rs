//! The report for machines: on stdout, or in a file that is never half written.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::model::{Error, Kind, Result, outcome::Report};

/// Writes the report as indented JSON and a line end.
///
/// # Errors
/// The writer's.
pub fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// Makes sure that a report can be saved there, before a run that would end with it starts.
///
/// # Errors
/// [`Kind::Configuration`] when the path is a directory, or its directory is not there or takes
/// no file.
pub fn check_writable(path: &Path) -> Result<()> {
    let wrong = |cause: io::Error| {
        let message = format!("cannot write the report to `{}`", path.display());
        Error::new(Kind::Configuration, message).because(cause)
    };
    match Place::of(path).map_err(wrong)? {
        Place::Device => Ok(()),
        Place::File { draft, .. } => {
            File::create(&draft).and_then(|_| fs::remove_file(&draft)).map_err(|cause| {
                wrong(cause).hint("name a file in a directory that exists and can be written to")
            })
        }
    }
}

/// Saves the report: whoever reads the file sees the old report or the new one, whole.
///
/// # Errors
/// When the file cannot be written; what was there before is then untouched.
pub fn save(path: &Path, report: &Report) -> Result<()> {
    let saved = Place::of(path).and_then(|place| match place {
        Place::Device => fill(path, report),
        Place::File { target, draft } => {
            fill(&draft, report).and_then(|()| fs::rename(&draft, &target)).inspect_err(|_| {
                let _ = fs::remove_file(&draft);
            })
        }
    });
    saved.map_err(|cause| {
        let message = format!("cannot write the report to `{}`", path.display());
        Error::new(Kind::Unavailable, message).because(cause)
    })
}

/// Where a report goes.
enum Place {
    /// Written beside the target, then renamed to it.
    File { target: PathBuf, draft: PathBuf },
    /// A pipe or a device such as `/dev/stdout`, which must not be replaced by a file.
    Device,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let target = match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => return Ok(Self::Device),
            // behind a symbolic link it is the file that is replaced, not the link
            Ok(_) => fs::canonicalize(path)?,
            Err(_) => path.to_owned(),
        };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let draft = target.with_file_name(format!(".{name}.{}", std::process::id()));
        Ok(Self::File { draft, target })
    }
}

fn fill(path: &Path, report: &Report) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file, report)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::tests::report;

    /// The keys of every object on the way, in order.
    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_report_has_the_contracts_fields_in_the_contracts_order() {
        let mut out = Vec::new();
        write(&mut out, &report()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let totals = [
            "copied",
            "up_to_date",
            "warmed",
            "planned",
            "failed",
            "drifted",
            "deferred",
            "not_started",
        ];
        assert_eq!(
            keys(&json),
            [
                "version", "started", "seconds", "exit", "images", "totals", "blobs", "bytes",
                "requests", "pulls"
            ]
        );
        assert_eq!(
            keys(&json["images"][0]),
            [
                "name",
                "source",
                "destination",
                "outcome",
                "digest",
                "source_digest",
                "platforms",
                "bytes_pushed",
                "error",
                "hint"
            ]
        );
        assert_eq!(keys(&json["totals"]), totals);
        assert_eq!(keys(&json["blobs"]), ["present", "mounted", "pushed"]);
        assert_eq!(keys(&json["bytes"]), ["from_source", "to_destination"]);
        assert_eq!(
            keys(&json["requests"]),
            ["source", "destination", "ecr_api", "retries", "throttled"]
        );
        assert_eq!(
            keys(&json["pulls"][0]),
            ["registry", "spent", "limit", "remaining", "window_seconds"]
        );
        let outcomes: Vec<&str> = json["images"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|row| row["outcome"].as_str())
            .collect();
        assert_eq!(outcomes, totals);
        assert!(json["images"][0]["error"].is_null());
        assert!(out.ends_with(b"}\n"));
    }

    #[test]
    fn a_saved_report_replaces_the_old_one_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "old").unwrap();
        check_writable(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        save(&path, &report()).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 1"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        save(&link, &report()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&file).unwrap().starts_with('{'));
        check_writable(Path::new("/dev/null")).unwrap();
        save(Path::new("/dev/null"), &report()).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_report_that_cannot_be_written_is_a_wrong_command_line() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_owned(), directory.path().join("missing/report.json")] {
            let error = check_writable(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{error:?}");
        }
    }
}
