//! A registry and a prefix, as `--to` names them.

use std::str::FromStr;

use super::names::{Host, NameError, Repository};

/// A registry with an optional prefix, like `123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryPrefix {
    pub host: Host,
    pub prefix: Option<Repository>,
}

impl RegistryPrefix {
    /// The path of a repository with the prefix.
    pub(crate) fn path(&self, repository: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{repository}"),
            None => repository.to_owned(),
        }
    }
}

impl FromStr for RegistryPrefix {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains("://") {
            // says that it is a URL
            text.parse::<Host>()?;
        }
        let (host, prefix) = match text.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (text, None),
        };
        let is_host = host.contains(['.', ':']) || host == "localhost";
        if !is_host || prefix.is_some_and(|prefix| prefix.contains([':', '@'])) {
            return Err(NameError::new("is not a registry with a prefix")
                .hint("write `REGISTRY[/PREFIX]`, without a tag"));
        }
        Ok(Self { host: host.parse()?, prefix: prefix.map(str::parse).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_optional_and_has_no_tag() {
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let place: RegistryPrefix = format!("{ecr}/a/b").parse().unwrap();
        assert_eq!((place.host.as_str(), place.prefix.unwrap().as_str()), (ecr, "a/b"));
        assert_eq!("localhost:5000".parse::<RegistryPrefix>().unwrap().prefix, None);
        for wrong in ["mirror", "mirror/a", "r.example/a:1", "r.example/", "r.example/A", ""] {
            assert!(wrong.parse::<RegistryPrefix>().is_err(), "{wrong}");
        }
    }
}
