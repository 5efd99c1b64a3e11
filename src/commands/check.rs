//! `check`: validates `mirror.toml` offline.

use super::shared::read_config_with_warnings;
use crate::{
    cli::Global,
    config::{Config, Entry, Tags},
    model::Result,
    output::Screen,
};

pub(crate) fn run(global: &Global, screen: &Screen) -> Result<u8> {
    let config = read_config_with_warnings(global, screen)?;
    let path = global.config_file().display();
    screen.print(|out| writeln!(out, "{path}: {}", summary(&config)))?;
    Ok(0)
}

fn summary(config: &Config) -> String {
    let tags = |entry: &Entry| match &entry.tags {
        Tags::Exact(tags) => tags.len(),
        Tags::Pinned { .. } => 1,
        Tags::Selected(_) => 0,
    };
    let images = counted(config.entries.iter().map(tags).sum(), "image");
    let selected = config.entries.iter().filter(|entry| matches!(entry.tags, Tags::Selected(_)));
    let selections = match selected.count() {
        0 => String::new(),
        selections => format!(" and {}", counted(selections, "selection")),
    };
    let caches = match config.caches.len() {
        0 => String::new(),
        caches => format!(", {}", counted(caches, "cache")),
    };
    let destinations = counted(config.destinations.len(), "destination");
    format!("{images}{selections} to {destinations}{caches}")
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
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
        assert_eq!(summary(&config), "2 images to 1 destination");
        let text = text.to_owned() + "[[image]]\nsource = \"redis\"\nselect = { newest = 3 }\n";
        let config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
        assert_eq!(summary(&config), "2 images and 1 selection to 1 destination");
        let text = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
             [[pull_through]]\nupstream = \"quay\"\n[[pull_through]]\nupstream = \"k8s\"\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        assert_eq!(summary(&config), "0 images to 1 destination, 2 caches");
    }
}
