//! `copy`: mirrors one image, without a configuration file.

use std::collections::BTreeMap;

use super::mirror;
use crate::{
    cli::{CopyArgs, Global},
    config::{AccountSettings, Aws, Config, DestinationConfig, RepositoryRules},
    engine::{Mode, Options},
    layout,
    model::{
        DestinationId, Digest, Error, Image, ImageLocation, Kind, Location, Naming, Origin,
        Reference, Repository, Result, Tag, TagOrDigest, Target,
    },
    output::{Screen, json, table},
    run::sync::{Selected, SyncRequest},
};

/// Copies, and reports on stdout.
///
/// # Errors
/// When nothing was attempted.
pub(crate) async fn run(global: &Global, screen: &Screen, args: CopyArgs) -> Result<u8> {
    let from = CopyEnd::of(&args.source).resolved().await?;
    let to = CopyEnd::of(&args.destination);
    let config = Config {
        destinations: vec![DestinationConfig {
            name: to.site.to_string(),
            registry: to.site.clone(),
            prefix: None,
            aws: Aws::default(),
            repositories: RepositoryRules::default(),
            account: AccountSettings::default(),
        }],
        registries: BTreeMap::new(),
        entries: Vec::new(),
        caches: Vec::new(),
        warnings: Vec::new(),
    };
    let image = image(&args, from, to)?;
    let options = Options { mode: Mode::Mirror, transfers: args.concurrency };
    let work = SyncRequest { config: &config, wanted: Selected::Images(vec![image]), options };
    let (report, _) = mirror(global, screen, work, None).await?;
    screen.print(|out| match args.json {
        true => json::write(out, &report),
        false => table::sync(out, &report, screen.width()),
    })?;
    Ok(report.exit)
}

/// One end of the copy, as far as it is written.
struct CopyEnd {
    site: Location,
    repository: Option<Repository>,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl CopyEnd {
    fn of(locator: &ImageLocation) -> Self {
        match locator.clone() {
            ImageLocation::Registry(Reference { host, repository, tag, digest }) => {
                Self { site: host.into(), repository: Some(repository), tag, digest }
            }
            ImageLocation::Layout { directory, repository, tag } => {
                let naming = Naming::with(repository.as_ref());
                Self { site: Location::Layout { directory, naming }, repository, tag, digest: None }
            }
        }
    }

    /// The same with the image of a layout that has only one, where none is named.
    async fn resolved(mut self) -> Result<Self> {
        if let (Location::Layout { directory, naming }, None) = (&mut self.site, &self.tag) {
            let (digest, name) = layout::only_image(directory).await?;
            match name.map(|name| Naming::parse(&name)) {
                Some(Ok((repository, tag))) => {
                    *naming = Naming::with(repository.as_ref());
                    (self.repository, self.tag) = (repository, Some(tag));
                }
                Some(Err(_)) | None => self.digest = Some(digest),
            }
        }
        Ok(self)
    }
}

/// The one image; its tag at the destination is the source's where none is written.
fn image(args: &CopyArgs, from: CopyEnd, to: CopyEnd) -> Result<Image> {
    if let Some(digest) = &to.digest {
        let problem = format!("the destination `{}` names a digest", args.destination);
        return Err(Error::new(Kind::Configuration, problem)
            .hint(format!("the digest is the source's to say; leave `@{digest}` away")));
    }
    let named = to.tag.or_else(|| from.tag.clone());
    let (at, tag) = match (from.digest, named) {
        (Some(digest), Some(tag)) => (TagOrDigest::Digest(digest), tag),
        (Some(_), None) => {
            let problem = format!("`{}` tells no tag for the destination", args.source);
            return Err(Error::new(Kind::Configuration, problem)
                .hint(format!("write one: `{}:TAG`", args.destination)));
        }
        (None, named) => {
            let tag = from.tag.unwrap_or_else(latest);
            (TagOrDigest::Tag(tag.clone()), named.unwrap_or(tag))
        }
    };
    // a layout of one repository does not say which
    let repository =
        from.repository.or_else(|| to.repository.clone()).unwrap_or_else(some_repository);
    let target = to.repository.unwrap_or_else(|| repository.clone());
    Ok(Image {
        name: repository.to_string(),
        origin: Origin { location: from.site, repository, at },
        targets: vec![Target { destination: DestinationId(0), repository: target, tag }],
        filter: args.filter()?,
    })
}

/// A repository where no name has one.
fn some_repository() -> Repository {
    "image".parse().expect("`image` is a repository")
}

/// What a reference without a tag means to every container tool.
fn latest() -> Tag {
    "latest".parse().expect("`latest` is a tag")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn copied(source: &str, destination: &str) -> Result<String> {
        let cli = Cli::try_parse_from(["ecr-mirror", "copy", source, destination]).unwrap();
        let Command::Copy(args) = cli.command else { panic!("a copy") };
        let (from, to) = (CopyEnd::of(&args.source), CopyEnd::of(&args.destination));
        let site = to.site.clone();
        let image = image(&args, from, to)?;
        let target = &image.targets[0];
        let at = TagOrDigest::Tag(target.tag.clone());
        Ok(format!("{} to {}", image.origin, site.reference(&target.repository, &at)))
    }

    #[test]
    fn the_tag_is_the_destinations_then_the_sources_then_latest() {
        let pin = format!("sha256:{}", "0".repeat(64));
        for (source, destination, expected) in [
            (
                "nginx:1.27",
                "r.example/a",
                "docker.io/library/nginx:1.27 to r.example/a:1.27".to_owned(),
            ),
            (
                "nginx:1.27",
                "r.example/a:x",
                "docker.io/library/nginx:1.27 to r.example/a:x".to_owned(),
            ),
            (
                "nginx",
                "r.example/a",
                "docker.io/library/nginx:latest to r.example/a:latest".to_owned(),
            ),
            (
                "nginx",
                "r.example/a:x",
                "docker.io/library/nginx:latest to r.example/a:x".to_owned(),
            ),
            (
                &format!("nginx@{pin}"),
                "r.example/a:x",
                format!("docker.io/library/nginx@{pin} to r.example/a:x"),
            ),
            (
                &format!("nginx:1@{pin}"),
                "r.example/a",
                format!("docker.io/library/nginx@{pin} to r.example/a:1"),
            ),
            ("nginx:1.27", "oci:d", "docker.io/library/nginx:1.27 to oci:d:1.27".to_owned()),
            ("nginx", "oci:d:a/b:x", "docker.io/library/nginx:latest to oci:d:a/b:x".to_owned()),
            ("oci:d:1", "r.example/a", "oci:d:1 to r.example/a:1".to_owned()),
            ("oci:d:a/b:1", "oci:e", "oci:d:a/b:1 to oci:e:1".to_owned()),
            ("oci:d:1", "oci:e:a/b:2", "oci:d:1 to oci:e:a/b:2".to_owned()),
        ] {
            assert_eq!(copied(source, destination).unwrap(), expected);
        }
        let unnamed = copied(&format!("nginx@{pin}"), "r.example/a").unwrap_err();
        assert_eq!(unnamed.kind(), Kind::Configuration);
        assert!(copied("nginx", &format!("r.example/a@{pin}")).is_err());
    }
}
