//! `import`: turns the files of other tools into `mirror.toml`.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use crate::{
    cli::ImportArgs,
    import::{ImportOptions, InputFile, import},
    model::{Error, Kind, Result},
    output::{Screen, error, file},
};

pub(crate) fn run(screen: &Screen, args: &ImportArgs) -> Result<u8> {
    let files = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let into = args.into.as_deref().map(read).transpose()?;
    let options = ImportOptions { to: args.to.clone(), scoped: args.scoped };
    let imported = import(&files, &options, into.as_ref())?;
    match &args.into {
        Some(path) => {
            file::check_editable(path, "configuration")?;
            file::save_edited(path, "configuration", imported.text.as_bytes())?;
        }
        None => screen.print(|out| out.write_all(imported.text.as_bytes()))?,
    }
    let mistake = if args.into.is_none() { imported.mistake() } else { None };
    let open: Vec<&String> = imported.open.iter().chain(&mistake).collect();
    for open in &open {
        error::warn(screen, open);
    }
    Ok(u8::from(!open.is_empty()))
}

/// Reads a file, or standard input for `-`.
fn read(path: &Path) -> Result<InputFile> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        ("standard input".to_owned(), io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.display().to_string(), fs::read(path))
    };
    let bytes = bytes.map_err(|cause| {
        Error::new(Kind::Configuration, format!("cannot read `{name}`")).because(cause)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(Kind::Configuration, format!("`{name}` is not UTF-8 at byte {at}"))
            .hint("save the file as UTF-8")
    })?;
    Ok(InputFile { name, text })
}
