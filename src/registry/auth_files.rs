//! Finds a repository's entries in the files of Docker, crane, skopeo and podman. Runs no helper.
//!
//! The first file with credentials for a repository wins. Docker's own places come first, as in
//! crane, then those of skopeo and podman. Inside a file, a credential helper of the host precedes
//! `auths`, and `credsStore` comes last. In `auths` the longest key that matches the repository wins.
//!
//! Source: containers-auth.json(5); docker/cli, `cli/config`; go-containerregistry, `pkg/authn`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::public_registries::PublicRegistry;
use crate::model::{Error, Host, Kind, Repository, Result};

/// A text with credentials, and its name in errors. Cannot be printed.
pub(crate) struct AuthFile {
    /// A path, or the name of an environment variable.
    pub(crate) name: String,
    config: Value,
}

/// A place in which credentials may be.
#[derive(Debug)]
pub(crate) enum AuthLocation {
    /// The text itself is in this variable.
    Variable(&'static str, SecretString),
    /// A file at a usual place. It may be missing, and it may belong to another user.
    File(PathBuf),
    /// A file in the directory that a variable names: it may be missing.
    FileBelow(&'static str, PathBuf),
    /// A file that a variable names: it must exist.
    NamedFile(&'static str, PathBuf),
    /// A file at a usual place, without the table `auths`.
    LegacyFile(PathBuf),
}

/// The places, in their order, from the environment.
pub(crate) fn locations(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<AuthLocation> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let path = |name: &str| set(name).map(PathBuf::from);
    let home = path("HOME");
    let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let mut found = Vec::new();
    // GitLab's runner and Docker read the text of a file here
    if let Some(text) = set("DOCKER_AUTH_CONFIG").and_then(|text| text.into_string().ok()) {
        found.push(AuthLocation::Variable("DOCKER_AUTH_CONFIG", text.into()));
    }
    let docker = path("DOCKER_CONFIG").map(|folder| folder.join("config.json"));
    let docker = docker.map(|file| AuthLocation::FileBelow("DOCKER_CONFIG", file));
    let usual = || below_home(".docker/config.json").map(AuthLocation::File);
    found.extend(docker.or_else(usual));
    if let Some(file) = path("REGISTRY_AUTH_FILE") {
        // it replaces the other places of skopeo and podman
        found.push(AuthLocation::NamedFile("REGISTRY_AUTH_FILE", file));
        return found;
    }
    let runtime = path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let runtime = runtime.or_else(|| {
        let id = user_id()?;
        Some(format!("/run/containers/{id}/auth.json").into())
    });
    let config = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let config = config.map(|folder| folder.join("containers/auth.json"));
    found.extend([runtime, config].into_iter().flatten().map(AuthLocation::File));
    found.extend(below_home(".dockercfg").map(AuthLocation::LegacyFile));
    found
}

#[cfg(target_os = "linux")]
fn user_id() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").ok().map(|own| own.uid())
}

#[cfg(not(target_os = "linux"))]
fn user_id() -> Option<u32> {
    None
}

impl AuthLocation {
    /// Reads the place; `None` if a file that may be missing is missing. A file at a usual place that
    /// this user must not read counts as missing, with a warning: podman's belongs to root on many
    /// machines.
    ///
    /// Source: containers/skopeo#942, #1240.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for an unreadable or invalid file. Its content is not quoted.
    pub(crate) fn read(&self) -> Result<Option<AuthFile>> {
        self.read_with(|path| fs::read(path))
    }

    fn read_with(&self, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Option<AuthFile>> {
        let (name, text) = match self {
            Self::Variable(name, text) => {
                let text = text.expose_secret().as_bytes();
                return AuthFile::parse((*name).to_owned(), text).map(Some);
            }
            Self::File(path)
            | Self::LegacyFile(path)
            | Self::FileBelow(_, path)
            | Self::NamedFile(_, path) => {
                let name = path.display().to_string();
                let is_usual = matches!(self, Self::File(_) | Self::LegacyFile(_));
                match read(path) {
                    Ok(text) => (name, text),
                    Err(error) if is_missing(&error) && !matches!(self, Self::NamedFile(..)) => {
                        return Ok(None);
                    }
                    Err(error) if is_usual && error.kind() == io::ErrorKind::PermissionDenied => {
                        if is_first_warning(path) {
                            tracing::warn!("`{name}` is not used for logins: {error}");
                        }
                        return Ok(None);
                    }
                    Err(error) => {
                        let problem = match self {
                            Self::NamedFile(variable, _) | Self::FileBelow(variable, _) => {
                                format!("cannot read `{name}`, which `{variable}` names")
                            }
                            _ => format!("cannot read `{name}`"),
                        };
                        return Err(wrong(&name, problem).because(error));
                    }
                }
            }
        };
        let file = AuthFile::parse(name, &text)?;
        Ok(Some(match self {
            Self::LegacyFile(_) => {
                let config = Value::Object(Map::from_iter([("auths".to_owned(), file.config)]));
                AuthFile { config, ..file }
            }
            _ => file,
        }))
    }
}

/// Returns `true` at the first call for this path: each registry reads the files.
fn is_first_warning(path: &Path) -> bool {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    WARNED.lock().insert(path.to_owned())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The error for a place with unusable credentials.
pub(crate) fn wrong(name: &str, problem: String) -> Error {
    let fix = match Path::new(name).is_absolute() || name.contains(['/', '.']) {
        true => format!("repair `{name}`, set `DOCKER_CONFIG` to another directory"),
        false => format!("correct or unset `{name}`"),
    };
    Error::new(Kind::Configuration, problem)
        .hint(format!("{fix}, or set `username` and `password` in the configuration"))
}

/// An entry for a repository.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuthEntry {
    /// The key that matches, as the file spells it; `credsStore` for the store.
    pub(crate) key: String,
    pub(crate) content: AuthContent,
}

#[derive(Clone, PartialEq)]
pub(crate) enum AuthContent {
    /// The program `docker-credential-NAME`, and the servers to ask it for, in order.
    Helper { name: String, servers: Vec<String> },
    /// Credentials in the file.
    Written(Map<String, Value>),
}

impl std::fmt::Debug for AuthContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Helper { name, servers } => write!(f, "Helper({name}, {servers:?})"),
            Self::Written(_) => f.write_str("Written"),
        }
    }
}

impl AuthFile {
    /// Parses the text of a file with this name.
    pub(crate) fn parse(name: String, text: &[u8]) -> Result<Self> {
        let config = serde_json::from_slice(text).unwrap_or(Value::Null);
        let is_table = |key: &str| config.get(key).is_none_or(|it| it.is_object() || it.is_null());
        match config.is_object() && is_table("auths") && is_table("credHelpers") {
            true => Ok(Self { name, config }),
            false => {
                let problem = format!("`{name}` is not a Docker configuration file");
                Err(wrong(&name, problem))
            }
        }
    }

    fn table(&self, name: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.config.get(name).and_then(Value::as_object).into_iter().flatten()
    }

    /// The entries for the repository, the most specific first.
    pub(crate) fn entries(&self, host: &Host, repository: &Repository) -> Vec<AuthEntry> {
        let own_key = PublicRegistry::of(host).docker_config_key;
        let mut found = Vec::new();
        for (key, name) in self.table("credHelpers") {
            let is_host =
                AuthKey::parse(key).is_some_and(|it| it.host == *host && it.path.is_empty());
            if let Some(name) = name.as_str().filter(|name| is_host && !name.is_empty()) {
                found.push(helper(key, name, servers(host, Some(key))));
            }
        }
        let mut written: Vec<_> = (self.table("auths"))
            .filter_map(|(key, entry)| {
                let parsed = AuthKey::parse(key).filter(|it| it.matches(host, repository))?;
                let entry = entry.as_object().filter(|entry| has_credentials(entry))?;
                let is_usual = Some(key.as_str()) == own_key;
                Some(((parsed.path.len(), is_usual, !parsed.has_other_path), key, entry))
            })
            .collect();
        // stable: equal keys keep the order of the file
        written.sort_by_key(|(rank, ..)| std::cmp::Reverse(*rank));
        found.extend(written.into_iter().map(|(_, key, entry)| AuthEntry {
            key: key.clone(),
            content: AuthContent::Written(entry.clone()),
        }));
        let store = self.config.get("credsStore").and_then(Value::as_str);
        if let Some(store) = store.filter(|name| !name.is_empty()) {
            found.push(helper("credsStore", store, servers(host, None)));
        }
        found
    }

    /// The keys that look like Docker Hub and are not used for it.
    pub(crate) fn unused_hub_keys(&self) -> Vec<&str> {
        let looks_like_hub = |host: &str| {
            ["docker.io", "docker.com"].iter().any(|end| {
                host.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        };
        let is_unused = |key: &str| {
            let (host, _) = AuthKey::split(key);
            let is_used = host.parse::<Host>().is_ok_and(|host| host.as_str() == Host::DOCKER_HUB);
            looks_like_hub(&host.to_ascii_lowercase()) && !is_used
        };
        let written = self.table("auths");
        let written = written.filter(|(_, entry)| entry.as_object().is_some_and(has_credentials));
        let keys = written.chain(self.table("credHelpers")).map(|(key, _)| key.as_str());
        keys.filter(|key| is_unused(key)).collect()
    }
}

fn helper(key: &str, name: &str, servers: Vec<String>) -> AuthEntry {
    let content = AuthContent::Helper { name: name.to_owned(), servers };
    AuthEntry { key: key.to_owned(), content }
}

/// The names under which a helper may know the host: `docker login` stores Docker Hub under a URL,
/// `skopeo login` under the host.
fn servers(host: &Host, key: Option<&str>) -> Vec<String> {
    let usual = PublicRegistry::of(host).docker_config_key;
    let mut servers: Vec<String> = usual.into_iter().chain(key).map(str::to_owned).collect();
    servers.push(host.to_string());
    if usual.is_some() {
        servers.push("index.docker.io".to_owned());
    }
    let mut seen = Vec::new();
    servers.retain(|server| {
        let is_new = !seen.contains(server);
        seen.push(server.clone());
        is_new
    });
    servers
}

fn has_credentials(entry: &Map<String, Value>) -> bool {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let names = ["auth", "identitytoken", "registrytoken", "username"];
    names.iter().any(|name| text(name).is_some_and(|text| !text.is_empty()))
}

/// A key of `auths` or `credHelpers`.
struct AuthKey<'a> {
    host: Host,
    /// The repositories below this path; empty for all of the host.
    path: &'a str,
    /// The path was ignored, because the key is a URL.
    has_other_path: bool,
}

impl<'a> AuthKey<'a> {
    /// The host and the path of the key.
    fn split(key: &'a str) -> (&'a str, &'a str) {
        let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let bare = bare.unwrap_or(key);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        (host, path.trim_end_matches('/'))
    }

    fn parse(key: &'a str) -> Option<Self> {
        let (host, path) = Self::split(key);
        let host: Host = host.parse().ok()?;
        let is_url = key.contains("://");
        // Docker Desktop keeps other tokens of Docker Hub under these
        if is_url && matches!(path, "v1/access-token" | "v1/refresh-token") {
            return None;
        }
        let is_version = matches!(path, "" | "v1" | "v2");
        let is_path = !is_url && !is_version;
        let has_other_path = is_url && !is_version;
        Some(Self { host, path: if is_path { path } else { "" }, has_other_path })
    }

    fn matches(&self, host: &Host, repository: &Repository) -> bool {
        let below = repository.as_str().strip_prefix(self.path);
        let is_below = below
            .is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        self.host == *host && is_below
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn keys(config: Value, host: &str, repository: &str) -> Vec<String> {
        let file = AuthFile::parse("FILE".to_owned(), config.to_string().as_bytes()).unwrap();
        let entries = file.entries(&host.parse().unwrap(), &repository.parse().unwrap());
        entries.into_iter().map(|entry| entry.key).collect()
    }

    fn auths(keys: &[&str]) -> Value {
        let entry = |key: &&str| ((*key).to_owned(), serde_json::json!({ "auth": "dTpw" }));
        serde_json::json!({ "auths": Map::from_iter(keys.iter().map(entry)) })
    }

    #[test]
    fn every_spelling_of_docker_hub_is_used_for_docker_hub() {
        for key in [
            "https://index.docker.io/v1/",
            "https://index.docker.io/v2/",
            "https://index.docker.io/v1",
            "http://index.docker.io/v1/",
            "https://index.docker.io",
            "index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://docker.io",
            "registry-1.docker.io",
            "https://registry-1.docker.io/v2/",
            "https://registry.hub.docker.com/v2/",
        ] {
            assert_eq!(keys(auths(&[key]), "docker.io", "library/nginx"), [key]);
            assert!(keys(auths(&[key]), "ghcr.io", "library/nginx").is_empty());
            let helpers = serde_json::json!({ "credHelpers": { key: "x" } });
            assert_eq!(keys(helpers, "docker.io", "library/nginx"), [key]);
        }
        for key in ["https://index.docker.io/v1/access-token", "hub.docker.com", "auth.docker.io"] {
            assert!(keys(auths(&[key]), "docker.io", "library/nginx").is_empty(), "{key}");
        }
    }

    #[test]
    fn a_key_that_looks_like_docker_hub_and_is_not_used_is_found() {
        let config = auths(&["hub.docker.com", "docker.io", "https://docker.com/", "xdocker.io"]);
        let file = AuthFile::parse("FILE".to_owned(), config.to_string().as_bytes()).unwrap();
        assert_eq!(file.unused_hub_keys(), ["hub.docker.com", "https://docker.com/"]);
    }

    #[test]
    fn the_longest_key_that_matches_the_repository_is_first() {
        let config = auths(&["r.io", "r.io/team-a", "r.io/team-a/app", "r.io/team", "q.io/team-a"]);
        for (repository, expected) in [
            ("team-a/app", &["r.io/team-a/app", "r.io/team-a", "r.io"][..]),
            ("team-a/app/x", &["r.io/team-a/app", "r.io/team-a", "r.io"]),
            ("team-a/apple", &["r.io/team-a", "r.io"]),
            ("team-b/app", &["r.io"]),
            ("team", &["r.io/team", "r.io"]),
        ] {
            assert_eq!(keys(config.clone(), "r.io", repository), expected, "{repository}");
        }
        assert!(keys(auths(&["r.io/team-a"]), "r.io", "team-b/app").is_empty());
        // the path of a URL is no namespace
        assert_eq!(keys(auths(&["https://r.io/x/"]), "r.io", "team"), ["https://r.io/x/"]);
        let hub = auths(&["docker.io", "https://index.docker.io/v1/", "docker.io/team"]);
        let expected = ["docker.io/team", "https://index.docker.io/v1/", "docker.io"];
        assert_eq!(keys(hub, "docker.io", "team/app"), expected);
    }

    #[test]
    fn a_helper_of_the_host_precedes_auths_and_the_store_comes_last() {
        let config = serde_json::json!({
            "credsStore": "s", "auths": { "r.io": { "auth": "dTpw" }, "e.io": {} },
            "credHelpers": { "r.io": "h", "e.io": "" },
        });
        assert_eq!(keys(config.clone(), "r.io", "a"), ["r.io", "r.io", "credsStore"]);
        assert_eq!(keys(config, "e.io", "a"), ["credsStore"]);
    }

    #[test]
    fn files_are_read_in_the_order_of_docker_then_skopeo() {
        let at = |variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            locations(&|name| variables.get(name).map(|value| OsString::from(*value)))
        };
        let file = |path: &str| AuthLocation::File(path.into());
        let shown = |found: Vec<AuthLocation>| {
            found.iter().map(|location| format!("{location:?}")).collect::<Vec<_>>()
        };
        let all = shown(at(&[
            ("HOME", "/h"),
            ("DOCKER_CONFIG", "/d"),
            ("DOCKER_AUTH_CONFIG", "hunter2"),
            ("XDG_RUNTIME_DIR", "/x"),
        ]));
        assert!(all[0].contains("DOCKER_AUTH_CONFIG") && !all[0].contains("hunter2"), "{all:?}");
        let expected = shown(vec![
            AuthLocation::FileBelow("DOCKER_CONFIG", "/d/config.json".into()),
            file("/x/containers/auth.json"),
            file("/h/.config/containers/auth.json"),
            AuthLocation::LegacyFile("/h/.dockercfg".into()),
        ]);
        assert_eq!(all[1..], expected);
        let named = at(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/r"), ("XDG_RUNTIME_DIR", "/x")]);
        let expected = vec![
            file("/h/.docker/config.json"),
            AuthLocation::NamedFile("REGISTRY_AUTH_FILE", "/r".into()),
        ];
        assert_eq!(shown(named), shown(expected));
    }

    #[test]
    fn a_file_of_another_user_is_an_error_only_if_a_variable_names_it_or_its_directory() {
        let path = || PathBuf::from("/run/containers/1000/auth.json");
        for (location, is_error) in [
            (AuthLocation::File(path()), false),
            (AuthLocation::LegacyFile(path()), false),
            (AuthLocation::FileBelow("DOCKER_CONFIG", path()), true),
            (AuthLocation::NamedFile("REGISTRY_AUTH_FILE", path()), true),
        ] {
            let read = location.read_with(|_| Err(io::ErrorKind::PermissionDenied.into()));
            assert_eq!(read.as_ref().is_err(), is_error, "{location:?}");
            assert!(read.ok().flatten().is_none(), "{location:?}");
            // other failures are no missing files
            let failed = location.read_with(|_| Err(io::ErrorKind::Other.into()));
            assert!(failed.is_err(), "{location:?}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_warned_of_once_for_all_registries() {
        let path = |name| PathBuf::from("/run/containers/1001").join(name);
        let location = AuthLocation::File(path("auth.json"));
        location.read_with(|_| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert!(!is_first_warning(&path("auth.json")));
        assert!(is_first_warning(&path("other.json")));
    }

    #[test]
    fn a_file_that_a_variable_names_must_exist() {
        let missing = PathBuf::from("/nonexistent/auth.json");
        let named = AuthLocation::NamedFile("REGISTRY_AUTH_FILE", missing.clone()).read();
        let text = named.map(drop).unwrap_err().to_string();
        assert!(text.contains("which `REGISTRY_AUTH_FILE` names"), "{text}");
        assert!(AuthLocation::File(missing).read().unwrap().is_none());
    }
}
