//! Turns the two references of `copy` into a configuration and an image.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{AccountSettings, Aws, Config, DestinationConfig, RepositoryRules},
    layout,
    model::{
        DestinationId, Digest, Error, Filter, Image, ImageLocation, Kind, Location, NameError,
        Naming, Origin, Rates, Reference, Repository, Result, Tag, TagOrDigest, Target,
    },
};

/// One image to copy, and the configuration of its destination.
pub(crate) struct CopyRequest {
    pub(crate) config: Config,
    pub(crate) image: Image,
}

impl CopyRequest {
    /// Resolves both references. Reads a layout's index if the source is a layout without a tag.
    ///
    /// From a configuration come the settings of the registries, and the identity and repository
    /// settings of the `[[destination]]` with the same registry and the longest prefix that the
    /// repository is below. `aws` precedes that identity.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the references do not determine one image and one tag, or if the
    /// destination cannot have the image or the identity.
    pub(crate) async fn new(
        source: &ImageLocation,
        destination: &ImageLocation,
        filter: Filter,
        file: Option<Config>,
        aws: Aws,
    ) -> Result<Self> {
        let from = CopyEnd::new(source).resolve_only_image().await?;
        let image = image(source, from, destination, filter)?;
        let location = CopyEnd::new(destination).location;
        location.check_destination().map_err(|wrong| invalid(destination, wrong))?;
        let (registries, known) = match file {
            Some(file) => (file.registries, file.destinations),
            None => (BTreeMap::new(), Vec::new()),
        };
        let repository = &image.targets[0].repository;
        let known = nearest(known, &location, repository);
        let (own, repositories, rates) = match known {
            Some(known) => (known.aws, known.repositories, known.rates),
            None => (Aws::default(), RepositoryRules::default(), Rates::default()),
        };
        let target = DestinationConfig {
            name: location.to_string(),
            registry: location,
            prefix: None,
            aws: identity(own, aws.clone()),
            repositories,
            account: AccountSettings::default(),
            rates,
        };
        if target.is_ecr() {
            let repository = &image.targets[0].repository;
            repository.check_ecr().map_err(|wrong| invalid(destination, wrong))?;
        }
        check_identity(&target, &aws)?;
        let config = Config {
            destinations: vec![target],
            registries,
            entries: Vec::new(),
            written: 0,
            samples: Vec::new(),
            caches: Vec::new(),
            pull_shares: BTreeMap::new(),
            wildcards: Vec::new(),
            listed_hosts: BTreeSet::new(),
            files: Vec::new(),
            file_names: Vec::new(),
            warnings: Vec::new(),
        };
        Ok(Self { config, image })
    }
}

/// The destination with this registry whose prefix the repository is below, the longest first; else
/// the first one with the registry.
pub(super) fn nearest(
    known: Vec<DestinationConfig>,
    location: &Location,
    repository: &Repository,
) -> Option<DestinationConfig> {
    let rank = |known: &DestinationConfig| match &known.prefix {
        None => 1,
        Some(prefix) => {
            let rest = repository.as_str().strip_prefix(prefix.as_str());
            let is_below = rest.is_some_and(|rest| rest.starts_with('/'));
            if is_below { 1 + prefix.as_str().len() } else { 0 }
        }
    };
    let same = known.into_iter().filter(|known| known.registry == *location);
    // the first among equals
    same.reduce(|one, other| if rank(&other) > rank(&one) { other } else { one })
}

/// The identity of the command line, completed from the configuration.
fn identity(own: Aws, given: Aws) -> Aws {
    // the external id belongs to the role
    let external_id = own.external_id.filter(|_| given.role_arn.is_none());
    Aws {
        profile: given.profile.or(own.profile),
        region: given.region,
        role_arn: given.role_arn.or(own.role_arn),
        external_id,
        endpoint_url: own.endpoint_url,
    }
}

/// Rejects options for AWS that the destination cannot use.
fn check_identity(destination: &DestinationConfig, given: &Aws) -> Result<()> {
    let name = &destination.registry;
    if *given != Aws::default() && !destination.is_ecr() {
        let problem = format!("the destination `{name}` is not ECR");
        return Err(Error::new(Kind::Configuration, problem).hint(
            "remove `--profile`, `--region` and `--role-arn`, or set `endpoint_url` of this \
             destination in a configuration file",
        ));
    }
    match (name.ecr(), &given.region) {
        (Some(ecr), Some(region)) if ecr.region() != region => {
            let problem = format!("`{name}` is in `{}`, not in `{region}`", ecr.region());
            Err(Error::new(Kind::Configuration, problem)
                .hint("remove `--region`, or write the host of the other region"))
        }
        _ => Ok(()),
    }
}

fn invalid(reference: &ImageLocation, wrong: NameError) -> Error {
    let error = Error::new(Kind::Configuration, format!("`{reference}` {}", wrong.problem));
    wrong.hint.into_iter().fold(error, Error::hint)
}

/// A reference of the command line, in its parts.
struct CopyEnd {
    location: Location,
    repository: Option<Repository>,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl CopyEnd {
    fn new(reference: &ImageLocation) -> Self {
        match reference.clone() {
            ImageLocation::Registry(Reference { host, repository, tag, digest }) => {
                Self { location: host.into(), repository: Some(repository), tag, digest }
            }
            ImageLocation::Layout { directory, repository, tag } => {
                let naming = Naming::with(repository.as_ref());
                let location = Location::Layout { directory, naming };
                Self { location, repository, tag, digest: None }
            }
        }
    }

    /// Adds the layout's only image if the reference names none.
    async fn resolve_only_image(mut self) -> Result<Self> {
        if let (Location::Layout { directory, naming }, None) = (&mut self.location, &self.tag) {
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

/// The image to copy. Without a tag in `destination` it keeps the tag of the source.
fn image(
    source: &ImageLocation,
    from: CopyEnd,
    destination: &ImageLocation,
    filter: Filter,
) -> Result<Image> {
    let to = CopyEnd::new(destination);
    if let Some(digest) = &to.digest {
        let problem = format!("the destination `{destination}` names a digest");
        return Err(Error::new(Kind::Configuration, problem)
            .hint(format!("remove `@{digest}`: the source determines the digest")));
    }
    let target_tag = to.tag.or_else(|| from.tag.clone());
    let (at, tag) = match (from.digest, target_tag) {
        (Some(digest), Some(tag)) => (TagOrDigest::Digest(digest), tag),
        (Some(_), None) => {
            let problem = format!("`{source}` has no tag for the destination");
            return Err(Error::new(Kind::Configuration, problem)
                .hint(format!("add one: `{destination}:TAG`")));
        }
        (None, target_tag) => {
            let tag = from.tag.unwrap_or_else(|| "latest".parse().expect("`latest` is a tag"));
            (TagOrDigest::Tag(tag.clone()), target_tag.unwrap_or(tag))
        }
    };
    // a layout of one repository does not name it
    let named = from.repository.or_else(|| to.repository.clone());
    let repository = named.unwrap_or_else(|| "image".parse().expect("`image` is a repository"));
    let target = to.repository.unwrap_or_else(|| repository.clone());
    Ok(Image {
        name: repository.as_str().into(),
        origin: Origin { location: from.location, repository, at },
        targets: vec![Target { destination: DestinationId(0), repository: target, tag }],
        filter: filter.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(source: &str, destination: &str) -> Result<String> {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let image = image(&source, CopyEnd::new(&source), &destination, Filter::default())?;
        let (location, target) = (CopyEnd::new(&destination).location, &image.targets[0]);
        let at = TagOrDigest::Tag(target.tag.clone());
        Ok(format!("{} to {}", image.origin, location.reference(&target.repository, &at)))
    }

    #[test]
    fn the_tag_defaults_to_the_sources_tag_then_to_latest() {
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
            (
                "ghcr.io/x/busybox",
                "r.example/a",
                "ghcr.io/x/busybox:latest to r.example/a:latest".to_owned(),
            ),
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

    #[tokio::test]
    async fn a_configuration_gives_copy_its_registries_and_the_identity_of_the_destination() {
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let text = format!(
            "[[destination]]\nregistry = \"{ecr}\"\nprefix = \"mirror\"\nprofile = \"prod\"\n\
             role_arn = \"arn:aws:iam::123456789012:role/a\"\nexternal_id = \"x\"\n\
             [registry.\"ghcr.io\"]\nplain_http = true\n"
        );
        let request = async |destination: &str, given: Aws| {
            let file = Config::parse("mirror.toml", &text, std::path::Path::new(""), &|_| None);
            let (from, to) = ("ghcr.io/a/b:1".parse().unwrap(), destination.parse().unwrap());
            CopyRequest::new(&from, &to, Filter::default(), Some(file.unwrap()), given)
                .await
                .unwrap()
        };
        let known = request(&format!("{ecr}/c"), Aws::default()).await;
        assert_eq!(known.config.registries[&"ghcr.io".parse().unwrap()].plain_http, Some(true));
        let aws = &known.config.destinations[0].aws;
        assert_eq!((aws.profile.as_deref(), aws.external_id.as_deref()), (Some("prod"), Some("x")));
        // the reference is complete: no prefix
        assert_eq!(known.image.targets[0].repository.as_str(), "c");

        let role = Some("arn:aws:iam::123456789012:role/b".to_owned());
        let given = Aws { role_arn: role.clone(), ..Aws::default() };
        let changed = request(&format!("{ecr}/c"), given).await.config.destinations.remove(0).aws;
        assert_eq!((changed.role_arn, changed.external_id), (role, None));
        let other = request("r.example/c", Aws::default()).await;
        assert_eq!(other.config.destinations[0].aws, Aws::default());
        assert_eq!(other.config.registries.len(), 1);
    }

    #[tokio::test]
    async fn copy_uses_the_destination_whose_prefix_the_repository_is_below() {
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let destination = |name: &str, prefix: &str| {
            format!(
                "[[destination]]\nname = \"{name}\"\nregistry = \"{ecr}\"\n{prefix}\n\
                 profile = \"{name}\"\n"
            )
        };
        let a = destination("a", "prefix = \"ma\"");
        let b = destination("b", "prefix = \"mb\"");
        let below = destination("below", "prefix = \"mb/x\"");
        let whole = destination("whole", "");
        for (file, repository, expected) in [
            ([&a[..], &b, &below], "mb/nginx", "b"),
            ([&a, &b, &below], "mb/x/nginx", "below"),
            ([&a, &b, &below], "mb/xy", "b"),
            ([&a, &b, &below], "mbx/nginx", "a"),
            ([&a, &b, &whole], "other", "whole"),
            ([&whole, &a, &b], "mb/nginx", "b"),
        ] {
            let text = file.concat();
            let file = Config::parse("mirror.toml", &text, std::path::Path::new(""), &|_| None);
            let file = file.unwrap_or_else(|error| panic!("{error}"));
            let to = format!("{ecr}/{repository}:1").parse().unwrap();
            let (from, filter) = ("nginx:1.27".parse().unwrap(), Filter::default());
            let request = CopyRequest::new(&from, &to, filter, Some(file), Aws::default()).await;
            let aws = request.unwrap().config.destinations.remove(0).aws;
            assert_eq!(aws.profile.as_deref(), Some(expected), "{repository}");
        }
    }
}
