//! `check`: validates `mirror.toml` offline.

use serde_json::json;

use super::shared::{load_config, read_config_with_warnings};
use crate::{
    cli::{CheckArgs, Global},
    config::{Config, Entry, Tags},
    model::Result,
    output::Screen,
};

pub(crate) fn run(global: &Global, screen: &Screen, args: &CheckArgs) -> Result<u8> {
    if args.json {
        return json(global, screen);
    }
    let config = read_config_with_warnings(global, screen)?;
    screen.print(|out| {
        writeln!(out, "ok: {}", summary(&config))?;
        for sample in config.samples.iter().filter(|_| global.verbose > 0) {
            let rule = format!("{} → {}", sample.source, sample.destination);
            writeln!(out, "  {rule} ({})", sample.rule)?;
        }
        Ok(())
    })?;
    Ok(0)
}

/// Prints the result, format version 1. A mistake in the file is in the result, and on no other stream.
fn json(global: &Global, screen: &Screen) -> Result<u8> {
    let result = load_config(global);
    let document = match &result {
        Ok(config) => {
            let counts = Counts::of(config);
            json!({
                "version": 1, "valid": true, "errors": [], "warnings": config.warnings,
                "entries": config.written, "images": counts.images,
                "selections": counts.selections, "destinations": config.destinations.len(),
                "caches": config.caches.len(), "namespaces": config.wildcards.len(),
            })
        }
        Err(error) => {
            json!({ "version": 1, "valid": false, "errors": error.problems(), "warnings": [] })
        }
    };
    screen.print(|out| writeln!(out, "{document:#}"))?;
    Ok(if result.is_ok() { 0 } else { 2 })
}

struct Counts {
    images: usize,
    selections: usize,
}

impl Counts {
    fn of(config: &Config) -> Self {
        let tags = |entry: &Entry| match &entry.tags {
            Tags::Exact(tags) => tags.len(),
            Tags::Pinned { .. } => 1,
            Tags::Selected(_) => 0,
        };
        let is_selection = |entry: &&Entry| matches!(entry.tags, Tags::Selected(_));
        Self {
            images: config.entries.iter().map(tags).sum(),
            selections: config.entries.iter().filter(is_selection).count(),
        }
    }
}

fn summary(config: &Config) -> String {
    let counts = Counts::of(config);
    let entries = counted(config.written, "entry", "entries");
    let destinations = counted(config.destinations.len(), "destination", "destinations");
    let caches = match config.caches.len() {
        0 => String::new(),
        caches => format!(", {}", counted(caches, "cache", "caches")),
    };
    let caches = match config.wildcards.len() {
        0 => caches,
        listed => format!("{caches}; {}", counted(listed, "namespace", "namespaces")),
    };
    let images = counted(counts.images, "image", "images");
    let selections = match counts.selections {
        0 => String::new(),
        selections => format!(" and {}", counted(selections, "selection", "selections")),
    };
    format!("{entries}, {destinations}{caches}; {images}{selections}")
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_summary_counts_images_selections_destinations_and_caches() {
        let text = "[[destination]]\nregistry = \"r.example\"\n\
             [[image]]\nsource = \"nginx\"\ntags = [\"1.26\", \"1.27\"]\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        assert_eq!(summary(&config), "1 entry, 1 destination; 2 images");
        let text = text.to_owned() + "[[image]]\nsource = \"redis\"\nselect = { newest = 3 }\n";
        let config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
        assert_eq!(summary(&config), "2 entries, 1 destination; 2 images and 1 selection");
        let text = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
             [[pull_through]]\nupstream = \"quay\"\n[[pull_through]]\nupstream = \"k8s\"\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        assert_eq!(summary(&config), "0 entries, 1 destination, 2 caches; 0 images");
    }
}
