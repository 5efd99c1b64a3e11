//! Exports pull secrets for Kubernetes: with them, nodes that cannot reach the cache pull from the
//! upstream with the cache's credentials.
//!
//! Pure. The manifest contains credentials and is a [`SecretString`].

use std::{
    collections::{BTreeMap, HashSet},
    slice,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::model::{
    Error, Kind, Result, UserPassword,
    pull_through::{Cache, Prefix, Upstream, UpstreamCredentials},
};

/// Limit for a DNS label, in characters.
const LABEL: usize = 63;
/// Limit for a DNS subdomain, in characters.
const SUBDOMAIN: usize = 253;

/// The logins that were read from Secrets Manager, by the `secret_arn` of the configuration.
pub type ReadLogins = BTreeMap<String, UserPassword>;

/// The names of the secrets to write.
#[derive(Debug, Clone, Copy)]
pub struct SecretNames<'a> {
    pub namespaces: &'a [String],
    /// The name of the only secret, which has all logins; `None`: a secret for each login.
    pub name: Option<&'a str>,
}

/// The manifest and a summary of its content.
pub struct SecretManifest {
    /// A YAML document per namespace and secret.
    pub yaml: SecretString,
    /// The names of the secrets; every namespace has the same ones.
    pub secrets: Vec<String>,
    /// The prefixes of the caches whose `secret_arn` was not read.
    pub omitted: Vec<String>,
}

/// The login to one upstream.
struct UpstreamLogin<'a> {
    cache: &'a Cache,
    /// The upstream, as Docker's configuration names it.
    registry: &'a str,
    login: UserPassword,
}

/// Checks that the name of a namespace is a DNS label.
///
/// Source: Kubernetes, "Object Names and IDs", DNS label names.
fn namespace(name: &str) -> Result<&str> {
    if is_dns_label(name) {
        return Ok(name);
    }
    let error = format!("`{name}` is not the name of a namespace");
    Err(Error::new(Kind::Configuration, error)
        .hint(format!("use lower-case letters, digits and inner `-`, at most {LABEL} characters")))
}

fn is_dns_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label_length = (1..=LABEL).contains(&name.len());
    is_label_length && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Checks that the name of a secret is a DNS subdomain; each of its labels keeps the stricter limit.
///
/// Source: Kubernetes, "Object Names and IDs", DNS subdomain names.
fn secret_name(name: &str) -> Result<&str> {
    if name.len() <= SUBDOMAIN && name.split('.').all(is_dns_label) {
        return Ok(name);
    }
    let error = format!("`{name}` is not the name of a secret");
    Err(Error::new(Kind::Configuration, error)
        .hint("use lower-case letters, digits, inner `-` and `.`, like `regcred`"))
}

/// The pull secrets of the caches with credentials, for each of these namespaces.
///
/// Caches with the same upstream and credentials share a secret. A secret can have one login for each
/// upstream.
pub fn manifest(
    caches: &[Cache],
    names: SecretNames<'_>,
    read: &ReadLogins,
) -> Result<SecretManifest> {
    let (logins, omitted) = logins(caches, read);
    if logins.is_empty() {
        let error = "no cache has credentials to write into a pull secret";
        return Err(Error::new(Kind::Configuration, error).hint(
            "set `credentials` in `[[pull_through]]`, or add `--read-secrets` to read a `secret_arn`",
        ));
    }
    let mut secrets: Vec<(String, SecretString)> = Vec::new();
    match names.name {
        Some(name) => {
            let mut registries = HashSet::new();
            if let Some(twice) = logins.iter().find(|it| !registries.insert(it.registry)) {
                let error = format!("two caches have different credentials for {}", twice.registry);
                return Err(Error::new(Kind::Configuration, error)
                    .hint("remove `--name`: one pull secret has one login for each registry"));
            }
            secrets.push((secret_name(name)?.to_owned(), docker_config(&logins)));
        }
        None => {
            for login in &logins {
                let name = free_name(login.cache, &secrets);
                secrets.push((name, docker_config(slice::from_ref(login))));
            }
        }
    }
    let mut yaml = String::new();
    let mut written = HashSet::new();
    for name in names.namespaces {
        let name = namespace(name)?;
        if written.insert(name) {
            yaml.extend(secrets.iter().map(|(secret, content)| document(name, secret, content)));
        }
    }
    let secrets = secrets.into_iter().map(|(name, _)| name).collect();
    Ok(SecretManifest { yaml: yaml.into(), secrets, omitted })
}

/// The distinct logins, and the prefixes of the caches whose secret was not read.
fn logins<'a>(caches: &'a [Cache], read: &ReadLogins) -> (Vec<UpstreamLogin<'a>>, Vec<String>) {
    let (mut logins, mut omitted) = (Vec::<UpstreamLogin<'_>>::new(), Vec::new());
    for cache in caches {
        let login = match &cache.credentials {
            UpstreamCredentials::Written { username, access_token } => {
                UserPassword { username: username.clone(), password: access_token.clone() }
            }
            UpstreamCredentials::Secret(id) => match read.get(id) {
                Some(login) => login.clone(),
                None => {
                    omitted.push(cache.prefix.to_string());
                    continue;
                }
            },
            UpstreamCredentials::Nothing | UpstreamCredentials::Role(_) => continue,
        };
        let login = UpstreamLogin { cache, registry: docker_name(cache), login };
        let is_same = |known: &UpstreamLogin<'_>| {
            (known.registry, &known.login) == (login.registry, &login.login)
        };
        if !logins.iter().any(is_same) {
            logins.push(login);
        }
    }
    (logins, omitted)
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

/// The key of the upstream in Docker's configuration. Docker Hub's is its old address.
///
/// Source: Kubernetes, "Pull an Image from a Private Registry".
fn docker_name(cache: &Cache) -> &str {
    match cache.upstream {
        Upstream::DockerHub => "https://index.docker.io/v1/",
        _ => cache.url.as_str(),
    }
}

/// The logins in the format of Docker's configuration.
fn docker_config(logins: &[UpstreamLogin<'_>]) -> SecretString {
    let entries = logins.iter().map(|UpstreamLogin { registry, login, .. }| {
        let UserPassword { username, password } = login;
        let token = password.expose_secret();
        let auth = STANDARD.encode(format!("{username}:{token}"));
        let entry = json!({ "username": username, "password": token, "auth": auth });
        ((*registry).to_owned(), entry)
    });
    json!({ "auths": entries.collect::<Map<String, Value>>() }).to_string().into()
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

    fn written_for(caches: &[Cache], namespaces: &[&str]) -> Result<SecretManifest> {
        let namespaces = &names(namespaces);
        manifest(caches, SecretNames { namespaces, name: None }, &ReadLogins::new())
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
        let manifest = written_for(&[hub], &["web", "web"]).unwrap();
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
        let manifest = written_for(&caches, &["a", "b"]).unwrap();
        let secrets = ["ecr-mirror-a-b", "ecr-mirror-a-b-2", "ecr-mirror-azure"];
        assert_eq!(
            (&manifest.secrets[..], &manifest.omitted[..]),
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
        let error = written_for(&caches, &["a"]).err().unwrap();
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

    #[test]
    fn one_named_secret_has_every_login_also_those_that_were_read() {
        let caches = [
            cache(Upstream::DockerHub, "docker-hub", written("u", "p")),
            cache(Upstream::GitHub, "github", UpstreamCredentials::Secret("theirs".to_owned())),
            cache(Upstream::GitLab, "gitlab", UpstreamCredentials::Secret("unread".to_owned())),
        ];
        let login = UserPassword { username: "v".to_owned(), password: "q".into() };
        let read = ReadLogins::from([("theirs".to_owned(), login)]);
        let namespaces = &names(&["a", "b"]);
        let regcred = SecretNames { namespaces, name: Some("regcred") };
        let manifest = manifest(&caches, regcred, &read).unwrap();
        assert_eq!(manifest.secrets, ["regcred"]);
        assert_eq!(manifest.omitted, ["gitlab"]);
        let yaml = manifest.yaml.expose_secret();
        assert_eq!(yaml.matches("  name: \"regcred\"\n").count(), 2, "{yaml}");
        let auths = &contents(yaml)[1]["auths"];
        assert_eq!(auths["https://index.docker.io/v1/"]["password"], "p");
        assert_eq!(auths["ghcr.io"]["username"], "v");
        assert_eq!(auths.as_object().unwrap().len(), 2);
    }

    #[test]
    fn one_named_secret_cannot_have_two_logins_for_a_registry() {
        let caches = [
            cache(Upstream::GitHub, "aa", written("u", "p")),
            cache(Upstream::GitHub, "bb", written("u", "other")),
        ];
        let namespaces = &names(&["a"]);
        for (caches, name) in [(&caches[..], "regcred"), (&caches[..1], "Reg"), (&caches[..1], "")]
        {
            let named = SecretNames { namespaces, name: Some(name) };
            let error = manifest(caches, named, &ReadLogins::new()).err().unwrap();
            assert_eq!(error.kind(), Kind::Configuration, "{name}");
        }
    }
}
