//! The destinations of a run: named once in a header, so that rows need not repeat them.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use clap::builder::styling::Style;

use super::{printable, styled, text::wrapped};
use crate::model::{Location, Repository};

/// One destination, as a header shows it.
#[derive(Debug)]
pub(crate) struct DestinationName {
    /// The registry with its prefix.
    name: String,
    /// The start of the references of its images.
    start: String,
    /// The AWS region, if it is ECR.
    region: Option<String>,
}

impl DestinationName {
    pub(crate) fn new(registry: &Location, prefix: Option<&Repository>) -> Self {
        let separator = if registry.host().is_some() { '/' } else { ':' };
        let prefix = prefix.map(|prefix| format!("{separator}{prefix}")).unwrap_or_default();
        let region = registry.ecr().map(|ecr| ecr.region().to_owned());
        let after = if prefix.is_empty() { separator } else { '/' };
        let name = format!("{registry}{prefix}");
        Self { start: format!("{name}{after}"), name, region }
    }
}

/// The destinations of a run, in the order of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    all: Vec<DestinationName>,
    is_shown: AtomicBool,
}

impl Destinations {
    pub(crate) fn new(all: Vec<DestinationName>) -> Self {
        Self { all, is_shown: AtomicBool::new(false) }
    }

    /// Writes the header, unless it is written already.
    pub(super) fn write_once(&self, out: &mut dyn Write, width: Option<usize>) -> io::Result<()> {
        self.lines_once(width).iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// The lines of the header, at the first call.
    fn lines_once(&self, width: Option<usize>) -> Vec<String> {
        if self.is_shown.swap(true, Relaxed) {
            return Vec::new();
        }
        let line = |DestinationName { name, region, .. }: &DestinationName| {
            let region = region.as_ref().map(|region| format!(", {region}")).unwrap_or_default();
            let text = wrapped(&printable(&format!("→ {name}{region}")), width, 0, 2);
            styled(Style::new().bold(), &text)
        };
        self.all.iter().map(line).collect()
    }

    /// The source, and the destination unless the header and the source name it.
    pub(super) fn image(&self, source: &str, destination: &str) -> String {
        let shown = match &self.all[..] {
            [only] => destination.strip_prefix(&only.start).unwrap_or(destination),
            _ => destination,
        };
        let path = source.split_once('/').map_or(source, |(_, path)| path);
        match shown == path {
            true => printable(source).into_owned(),
            false => printable(&format!("{source} → {shown}")).into_owned(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::output::{Screen, log::LogFormat};

    /// A screen of a run to `localhost:5000`, without colours.
    pub(in crate::output) fn screen(format: LogFormat) -> Screen {
        let screen = Screen::new(clap::ColorChoice::Never, format);
        screen.set_destinations(Destinations::new(vec![named("localhost:5000", None)]));
        screen
    }

    fn named(registry: &str, prefix: Option<&str>) -> DestinationName {
        let prefix: Option<Repository> = prefix.map(|prefix| prefix.parse().unwrap());
        DestinationName::new(&registry.parse().unwrap(), prefix.as_ref())
    }

    #[test]
    fn a_row_names_the_destination_only_where_it_differs() {
        const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let one = Destinations::new(vec![named(ECR, Some("mirror"))]);
        for (source, destination, expected) in [
            ("docker.io/library/nginx:1", "/mirror/library/nginx:1", "docker.io/library/nginx:1"),
            ("quay.io/a/b:1", "/mirror/c:1-x", "quay.io/a/b:1 → c:1-x"),
        ] {
            assert_eq!(one.image(source, &format!("{ECR}{destination}")), expected);
        }
        let cached = format!("{ECR}/hub/library/nginx:1");
        assert_eq!(
            one.image("docker.io/library/nginx:1", &cached),
            format!("docker.io/library/nginx:1 → {cached}")
        );
        assert_eq!(one.lines_once(None).len(), 1);
        assert_eq!(one.lines_once(None).len(), 0, "it is written once");
        let two = Destinations::new(vec![named("a.example", None), named("oci:dir", None)]);
        let expected = "quay.io/a/b:1 → oci:dir:a/b:1";
        assert_eq!(two.image("quay.io/a/b:1", "oci:dir:a/b:1"), expected);
        let layout = Destinations::new(vec![named("oci:dir", Some("p"))]);
        assert_eq!(layout.image("quay.io/a/b:1", "oci:dir:p/a/b:1"), "quay.io/a/b:1");
    }
}
