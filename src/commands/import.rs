//! `import`: turns the files of other tools into `mirror.toml`.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use crate::{
    cli::ImportArgs,
    import::{InputFile, Options, import},
    model::{Error, Kind, Result},
    output::{Screen, error, file},
};

/// The name of standard input as a path, and in messages.
const STDIN: (&str, &str) = ("-", "standard input");

pub(crate) fn run(screen: &Screen, args: &ImportArgs) -> Result<u8> {
    let files = args.files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let into = args.into.as_deref().map(read).transpose()?;
    let options = Options { to: args.to.clone(), scoped: args.scoped };
    let imported = import(&files, &options, into.as_ref())?;
    match &args.into {
        Some(path) => {
            file::check_writable(path, "configuration")?;
            file::save(path, "configuration", |out| out.write_all(imported.text.as_bytes()))?;
        }
        None => screen.print(|out| out.write_all(imported.text.as_bytes()))?,
    }
    for open in &imported.open {
        error::warn(screen, open);
    }
    Ok(u8::from(!imported.open.is_empty()))
}

fn read(path: &Path) -> Result<InputFile> {
    let (stdin, name) = STDIN;
    let name = if path == Path::new(stdin) { name.to_owned() } else { path.display().to_string() };
    let bytes = match path == Path::new(stdin) {
        true => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        }
        false => fs::read(path),
    };
    let unreadable =
        |cause| Error::new(Kind::Configuration, format!("cannot read `{name}`")).because(cause);
    let text = String::from_utf8(bytes.map_err(unreadable)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(Kind::Configuration, format!("`{name}` is not UTF-8 at byte {at}"))
            .hint("save the file as UTF-8")
    })?;
    Ok(InputFile { name, text })
}
