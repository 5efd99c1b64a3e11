//! `ecr-mirror check`: whether `mirror.toml` is right. Reads no network.

use std::path::Path;

use crate::config::{Config, ConfigError};

/// Reads the configuration and says what it comes to, as one line for stdout.
///
/// # Errors
/// What is wrong with it, for stderr; the exit status is then 2.
pub fn run(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    let config = Config::load(path, environment)?;
    let images = counted(config.images().len(), "image");
    let destinations = counted(config.destinations.len(), "destination");
    Ok(format!("{}: {images} to {destinations}\n", path.display()))
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_configuration_is_counted_and_a_wrong_one_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.toml");
        let destination = "[[destination]]\nregistry = \"r.example\"\n";
        let image = "[[image]]\nsource = \"nginx\"\ntags = [\"1.26\", \"1.27\"]\n";
        std::fs::write(&path, format!("{destination}{image}")).unwrap();
        let said = run(&path, &|_| None).unwrap();
        assert_eq!(said, format!("{}: 2 images to 1 destination\n", path.display()));

        std::fs::write(&path, image).unwrap();
        assert!(run(&path, &|_| None).unwrap_err().to_string().contains("[[destination]]"));
    }
}
