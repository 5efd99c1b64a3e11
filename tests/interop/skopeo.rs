//! `skopeo`, an independent client.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{
    layout::{Layout, unpack},
    peer::{self, Peer, directory, text},
};

/// The program. It contacts every registry without TLS.
pub(crate) struct Skopeo {
    program: PathBuf,
    /// Directory in which `login` stores credentials. It is also a configuration directory for
    /// Docker.
    pub(crate) home: TempDir,
}

impl Skopeo {
    /// Returns `None` if the program is not installed.
    pub(crate) fn find() -> Option<Self> {
        Some(Self { program: Peer::Skopeo.find()?, home: directory() })
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Vec<u8> {
        peer::output(self.command(verb).args(arguments))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = peer::command(&self.program);
        command.args(["--insecure-policy", verb]);
        command.env("REGISTRY_AUTH_FILE", self.home.path().join("config.json"));
        match verb {
            "copy" => command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]),
            _ => command.arg("--tls-verify=false"),
        };
        command
    }

    pub(crate) fn login(&self, registry: &str, username: &str, password: &str) {
        self.run("login", &["-u", username, "-p", password, registry]);
    }

    /// Pushes the index and all its content unchanged.
    pub(crate) fn push(&self, layout: &Layout, to: &str) {
        let to = format!("docker://{to}");
        self.run("copy", &["--all", "--preserve-digests", &layout.reference(), &to]);
    }

    /// Pushes the index as a Docker manifest list.
    pub(crate) fn push_docker(&self, layout: &Layout, to: &str) {
        let to = format!("docker://{to}");
        self.run("copy", &["--all", "--format", "v2s2", &layout.reference(), &to]);
    }

    /// The bytes of the manifest.
    pub(crate) fn raw(&self, at: &str) -> Vec<u8> {
        self.run("inspect", &["--raw", &format!("docker://{at}")])
    }

    /// Pulls every manifest and blob into a directory. `skopeo` checks the digests.
    pub(crate) fn pull_all(&self, from: &str) -> TempDir {
        let files = directory();
        let (from, to) = (format!("docker://{from}"), format!("dir:{}", text(files.path())));
        self.run("copy", &["--all", "--preserve-digests", &from, &to]);
        files
    }

    /// Pulls the image for this platform and unpacks it.
    pub(crate) fn pull(&self, from: &str, platform: &str) -> TempDir {
        let files = directory();
        let (from, to) = (format!("docker://{from}"), format!("oci:{}", text(files.path())));
        let mut command = peer::command(&self.program);
        command.env("REGISTRY_AUTH_FILE", self.home.path().join("config.json"));
        command.arg("--insecure-policy");
        for (part, option) in platform.split('/').zip(["os", "arch", "variant"]) {
            command.arg(format!("--override-{option}={part}"));
        }
        command.args(["copy", "--src-tls-verify=false", &from, &to]);
        peer::output(&mut command);
        unpack(files.path())
    }

    /// Deletes the manifest of the tag.
    pub(crate) fn delete(&self, at: &str) {
        self.run("delete", &[&format!("docker://{at}")]);
    }

    /// Tags of the repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let listed = self.run("list-tags", &[&format!("docker://{repository}")]);
        let listed: serde_json::Value = serde_json::from_slice(&listed).expect("it prints JSON");
        let tags = listed["Tags"].as_array().expect("it lists tags").iter();
        let mut tags: Vec<_> = tags.filter_map(|tag| tag.as_str()).map(str::to_owned).collect();
        // some registries do not sort
        tags.sort();
        tags
    }
}
