//! Exports pull secrets for Kubernetes: with them, nodes that cannot reach the cache pull from the
//! upstream with the cache's credentials.
//!
//! Pure. The manifest contains credentials and is a [`SecretString`].

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::model::{
    Error, Kind, Result,
    pull_through::{Cache, Prefix, Upstream, UpstreamCredentials},
};

/// Limit for a DNS label, in characters.
const LABEL: usize = 63;

/// The manifest and a summary of its content.
pub struct SecretManifest {
    /// A YAML document per namespace and secret.
    pub yaml: SecretString,
    /// The names of the secrets; every namespace has the same ones.
    pub secrets: Vec<String>,
    /// The prefixes of the caches whose credentials are in a `secret_arn`.
    pub left_out: Vec<String>,
}

/// Checks that the name of a namespace is a DNS label.
///
/// Source: Kubernetes, "Object Names and IDs", DNS label names.
fn namespace(name: &str) -> Result<&str> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label_length = (1..=LABEL).contains(&name.len());
    if is_label_length && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
    {
        return Ok(name);
    }
    let error = format!("`{name}` is not the name of a namespace");
    Err(Error::new(Kind::Configuration, error)
        .hint(format!("use lower-case letters, digits and inner `-`, at most {LABEL} characters")))
}

/// The pull secrets of the caches with configured credentials, for each of these namespaces.
///
/// Caches with the same upstream and credentials share a secret.
pub fn manifest(caches: &[Cache], namespaces: &[String]) -> Result<SecretManifest> {
    let mut secrets: Vec<(String, SecretString)> = Vec::new();
    let mut left_out = Vec::new();
    for cache in caches {
        let content = match &cache.credentials {
            UpstreamCredentials::Written { username, access_token } => {
                docker_config(cache, username, access_token)
            }
            UpstreamCredentials::Secret(_) => {
                left_out.push(cache.prefix.to_string());
                continue;
            }
            UpstreamCredentials::Nothing | UpstreamCredentials::Role(_) => continue,
        };
        let known =
            |(_, other): &(String, SecretString)| other.expose_secret() == content.expose_secret();
        if !secrets.iter().any(known) {
            secrets.push((free_name(cache, &secrets), content));
        }
    }
    if secrets.is_empty() {
        let error = "no cache has `credentials` to write into a pull secret";
        return Err(Error::new(Kind::Configuration, error)
            .hint("set `credentials` in `[[pull_through]]`: a `secret_arn` is not read"));
    }
    let mut yaml = String::new();
    let mut written = HashSet::new();
    for name in namespaces {
        let name = namespace(name)?;
        if written.insert(name) {
            yaml.extend(secrets.iter().map(|(secret, content)| document(name, secret, content)));
        }
    }
    let secrets = secrets.into_iter().map(|(name, _)| name).collect();
    Ok(SecretManifest { yaml: yaml.into(), secrets, left_out })
}

/// A name that is not in `taken`.
fn free_name(cache: &Cache, taken: &[(String, SecretString)]) -> String {
    let origin = match &cache.prefix {
        Prefix::Root => cache.upstream.name().to_owned(),
        Prefix::Path(path) => path.to_string(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name = format!("ecr-mirror-{}", origin.chars().map(plain).collect::<String>());
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let is_free = |name: &String| !taken.iter().any(|(other, _)| other == name);
    let mut names = [name.clone()].into_iter().chain(numbered);
    names.find(is_free).expect("there is always one more number")
}

/// The upstream's login in the format of Docker's configuration. Docker Hub's key is its old
/// address.
///
/// Source: Kubernetes, "Pull an Image from a Private Registry".
fn docker_config(cache: &Cache, username: &str, token: &SecretString) -> SecretString {
    let registry = match cache.upstream {
        Upstream::DockerHub => "https://index.docker.io/v1/",
        _ => cache.url.as_str(),
    };
    let token = token.expose_secret();
    let auth = STANDARD.encode(format!("{username}:{token}"));
    let login = json!({ "username": username, "password": token, "auth": auth });
    json!({ "auths": { registry: login } }).to_string().into()
}

/// One secret. Quotes keep a namespace like `1` or `no` a string.
fn document(namespace: &str, name: &str, content: &SecretString) -> String {
    let content = STANDARD.encode(content.expose_secret());
    format!(
        "---\n\
         apiVersion: v1\n\
         kind: Secret\n\
         metadata:\n\
         \x20 name: \"{name}\"\n\
         \x20 namespace: \"{namespace}\"\n\
         type: kubernetes.io/dockerconfigjson\n\
         data:\n\
         \x20 .dockerconfigjson: \"{content}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cache(upstream: Upstream, prefix: &str, credentials: UpstreamCredentials) -> Cache {
        Cache { prefix: prefix.parse().unwrap(), credentials, ..Cache::of(upstream) }
    }

    fn written(username: &str, token: &str) -> UpstreamCredentials {
        UpstreamCredentials::Written { username: username.to_owned(), access_token: token.into() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The JSON inside each document.
    fn contents(yaml: &str) -> Vec<Value> {
        let encoded = yaml.lines().filter_map(|line| line.strip_prefix("  .dockerconfigjson: \""));
        let decoded = encoded.map(|text| STANDARD.decode(text.trim_end_matches('"')).unwrap());
        decoded.map(|bytes| serde_json::from_slice(&bytes).unwrap()).collect()
    }

    #[test]
    fn a_document_has_kubernetes_format() {
        let hub = cache(Upstream::DockerHub, "docker-hub", written("u", "p"));
        let manifest = manifest(&[hub], &names(&["web", "web"])).unwrap();
        let content = STANDARD.encode(
            r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p","auth":"dTpw"}}}"#,
        );
        assert_eq!(
            manifest.yaml.expose_secret(),
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: \"ecr-mirror-docker-hub\"\n  \
                 namespace: \"web\"\ntype: kubernetes.io/dockerconfigjson\ndata:\n  \
                 .dockerconfigjson: \"{content}\"\n"
            )
        );
    }

    #[test]
    fn every_namespace_has_one_secret_per_distinct_login() {
        let caches = [
            cache(Upstream::Quay, "quay", UpstreamCredentials::Nothing),
            cache(Upstream::GitHub, "a/b", written("u", "p")),
            cache(Upstream::GitHub, "a_b", written("u", "other")),
            cache(Upstream::GitHub, "again", written("u", "p")),
            cache(Upstream::Azure, "ROOT", written("ü", "\"p\"")),
            cache(Upstream::GitLab, "kept", UpstreamCredentials::Secret("arn".to_owned())),
        ];
        let manifest = manifest(&caches, &names(&["a", "b"])).unwrap();
        let secrets = ["ecr-mirror-a-b", "ecr-mirror-a-b-2", "ecr-mirror-azure"];
        assert_eq!(
            (&manifest.secrets[..], &manifest.left_out[..]),
            (&secrets.map(str::to_owned)[..], &names(&["kept"])[..])
        );
        let contents = contents(manifest.yaml.expose_secret());
        assert_eq!(contents.len(), 6);
        assert_eq!(contents[1]["auths"]["ghcr.io"]["password"], "other");
        assert_eq!(contents[2]["auths"]["x.azurecr.io"]["password"], "\"p\"");
        let shown = manifest.yaml.expose_secret();
        assert!(!shown.contains("https://index.docker.io"), "{shown}");
    }

    #[test]
    fn an_export_without_configured_credentials_is_an_error() {
        let caches = [
            cache(Upstream::Quay, "quay", UpstreamCredentials::Nothing),
            cache(Upstream::GitLab, "kept", UpstreamCredentials::Secret("arn".to_owned())),
        ];
        let error = manifest(&caches, &names(&["a"])).err().unwrap();
        assert_eq!(error.kind(), Kind::Configuration);
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        let long = "a".repeat(LABEL);
        for name in ["web", "a-1", "1", long.as_str()] {
            assert_eq!(namespace(name).unwrap(), name);
        }
        let longer = "a".repeat(LABEL + 1);
        for name in ["", "Web", "-a", "a-", "a.b", "a/b", "a b", "a\"", longer.as_str()] {
            assert_eq!(namespace(name).unwrap_err().kind(), Kind::Configuration, "{name}");
        }
    }
}
