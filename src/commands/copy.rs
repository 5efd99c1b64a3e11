//! `copy`: mirrors one image, without a configuration file.

use std::collections::BTreeMap;

use super::mirroring::{Wanted, Work, mirror};
use crate::{
    cli::{CopyArgs, Global},
    config::{Aws, Config, Destination, Repositories},
    engine::{Intent, Options},
    model::{DestinationId, Error, Image, Kind, Origin, Pointer, Reference, Result, Tag, Target},
    output::{Screen, json, table},
};

/// Copies, and reports on stdout.
///
/// # Errors
/// When nothing was attempted.
pub async fn run(global: &Global, screen: &Screen, args: CopyArgs) -> Result<u8> {
    let image = image(&args)?;
    let config = Config {
        destinations: vec![Destination {
            name: args.destination.host.to_string(),
            registry: args.destination.host.clone(),
            prefix: None,
            aws: Aws::default(),
            repositories: Repositories::default(),
        }],
        registries: BTreeMap::new(),
        entries: Vec::new(),
    };
    let options = Options { intent: Intent::Mirror, transfers: args.concurrency.get() };
    let work = Work { config: &config, wanted: Wanted::Images(vec![image]), options };
    let (report, _) = mirror(global, screen, work).await?;
    screen.print(|out| match args.json {
        true => json::write(out, &report),
        false => table::sync(out, &report, screen.width()),
    })?;
    Ok(report.exit)
}

/// The one image; its tag at the destination is the source's where none is written.
fn image(args: &CopyArgs) -> Result<Image> {
    let Reference { host, repository, tag, digest } = args.source.clone();
    if let Some(digest) = &args.destination.digest {
        let problem = format!("the destination `{}` names a digest", args.destination);
        return Err(Error::new(Kind::Configuration, problem)
            .hint(format!("the digest is the source's to say; leave `@{digest}` away")));
    }
    let named = args.destination.tag.clone().or_else(|| tag.clone());
    let (at, tag) = match (digest, named) {
        (Some(digest), Some(tag)) => (Pointer::Digest(digest), tag),
        (Some(_), None) => {
            let problem = format!("`{}` tells no tag for the destination", args.source);
            return Err(Error::new(Kind::Configuration, problem)
                .hint(format!("write one: `{}:TAG`", args.destination)));
        }
        (None, named) => {
            let tag = tag.unwrap_or_else(latest);
            (Pointer::Tag(tag.clone()), named.unwrap_or(tag))
        }
    };
    let to = &args.destination;
    Ok(Image {
        name: repository.to_string(),
        origin: Origin { host, repository, at },
        targets: vec![Target {
            destination: DestinationId(0),
            repository: to.repository.clone(),
            tag,
        }],
        want: args.want()?,
    })
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
        let image = image(&args)?;
        let target = &image.targets[0];
        Ok(format!("{} to {}:{}", image.origin, target.repository, target.tag))
    }

    #[test]
    fn the_tag_is_the_destinations_then_the_sources_then_latest() {
        let pin = format!("sha256:{}", "0".repeat(64));
        for (source, destination, expected) in [
            ("nginx:1.27", "r.example/a", "docker.io/library/nginx:1.27 to a:1.27".to_owned()),
            ("nginx:1.27", "r.example/a:x", "docker.io/library/nginx:1.27 to a:x".to_owned()),
            ("nginx", "r.example/a", "docker.io/library/nginx:latest to a:latest".to_owned()),
            ("nginx", "r.example/a:x", "docker.io/library/nginx:latest to a:x".to_owned()),
            (
                &format!("nginx@{pin}"),
                "r.example/a:x",
                format!("docker.io/library/nginx@{pin} to a:x"),
            ),
            (
                &format!("nginx:1@{pin}"),
                "r.example/a",
                format!("docker.io/library/nginx@{pin} to a:1"),
            ),
        ] {
            assert_eq!(copied(source, destination).unwrap(), expected);
        }
        let unnamed = copied(&format!("nginx@{pin}"), "r.example/a").unwrap_err();
        assert_eq!(unnamed.kind(), Kind::Configuration);
        assert!(copied("nginx", &format!("r.example/a@{pin}")).is_err());
    }
}
