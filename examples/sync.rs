//! Mirrors one image with the library: loads a configuration, runs it, reads the report.
//!
//! Runs against the embedded registries, so that it needs no AWS account and no network:
//! `cargo run --example sync`

use std::{error::Error, fs};

use ecr_mirror::{Config, Outcome, SyncOptions, sync};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("mirror.toml");
    fs::write(
        &path,
        r#"
            [[destination]]
            registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

            [[image]]
            source = "docker.io/library/alpine"
            tags = ["3.20"]
        "#,
    )?;
    let config = Config::load(&[path], &|name| std::env::var(name).ok())?;

    let options =
        SyncOptions { sandbox: Some(directory.path().join("state")), ..SyncOptions::default() };
    for expected in [Outcome::Copied, Outcome::UpToDate] {
        let report = sync(&config, &options).await?;
        assert_eq!(report.images[0].outcome, expected);
        assert_eq!(report.exit, 0);
    }
    Ok(())
}
