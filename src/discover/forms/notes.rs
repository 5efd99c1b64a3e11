//! The builders and the login that each form requires.

use std::collections::BTreeSet;

use super::BuildForm;
use crate::model::{EcrHost, Host};

/// Lines for people: how to use the form, which builders read it, which login it needs.
pub(super) fn notes(form: BuildForm, hosts: &BTreeSet<&Host>) -> Vec<String> {
    let lines: &[&str] = match form {
        BuildForm::Map => return Vec::new(),
        BuildForm::SourcePolicy => &[
            "use it with `EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=FILE docker buildx build` (or `bake`), or `buildctl build --source-policy-file FILE`",
            "requires BuildKit 0.12: Docker Engine 25, or a builder of the docker-container driver; Engine 23 ignores the policy without a message",
            "an image that is not mirrored fails the build",
        ],
        BuildForm::BuildContexts => &[
            "use it with `docker buildx build $(…) .`",
            "requires BuildKit 0.11",
            "an image that is not listed is pulled from upstream",
        ],
        BuildForm::Bake => &[
            "use it with `docker buildx bake -f docker-bake.hcl -f FILE`; a target inherits from `ecr-mirror`, unless the file has the names of the targets",
            "requires BuildKit 0.11",
            "an image that is not listed is pulled from upstream",
        ],
        BuildForm::RegistriesConf => &[
            "use it as `/etc/containers/registries.conf`, or with `CONTAINERS_REGISTRIES_CONF=FILE`, which skopeo 1.9 ignores",
            "read by buildah, podman, skopeo and CRI-O",
            "a registry is blocked beside its mirrored repositories",
        ],
        BuildForm::HostsToml => &[
            "use it below `/etc/containerd/certs.d` (containerd 1.6 or later, with `config_path`), or below `/etc/docker/certs.d` (builds of Docker Engine 28 or later)",
            "an image that is not mirrored fails: `server` names the mirror",
            "kubelet's credential provider does not serve mirrors: containerd needs `[host.\"…\".header]` with an `Authorization` that is valid for 12 hours, or `ctr --user`",
        ],
        BuildForm::Buildkitd => &[
            "use it in `/etc/buildkit/buildkitd.toml`, or with `docker buildx create --buildkitd-config FILE`",
            "requires BuildKit 0.12, which accepts mirrors with a path",
            "an image that is not mirrored is pulled from upstream, unless a source policy denies it",
        ],
        BuildForm::Kustomize => &[
            "use it as `ecr-mirror/kustomization.yaml`, with `components: [ecr-mirror]` in the kustomization of the manifests",
            "requires kustomize 3.7 or `kubectl apply -k` of kubectl 1.21",
        ],
        BuildForm::BuildArgs => &[
            "use it with `docker build $(…) .`, of any version",
            "an image without a build argument is pulled from upstream",
        ],
        BuildForm::Compose => &[
            "use it with `docker compose -f compose.yaml -f FILE`",
            "changes `image` only: use `source-policy` for the services that are built",
        ],
        BuildForm::Env => {
            &["append it to `$GITHUB_ENV` or `$GITHUB_OUTPUT`, or read it with `. FILE`"]
        }
    };
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines.extend(hosts.iter().map(|host| login(form, host)));
    lines
}

/// The login of the program that pulls.
fn login(form: BuildForm, host: &Host) -> String {
    let program = match form {
        BuildForm::Kustomize => {
            return format!(
                "nodes on AWS pull from {host} with their role: see `ecr-mirror iam pull`"
            );
        }
        BuildForm::RegistriesConf => "buildah",
        _ => "docker",
    };
    match EcrHost::parse(host) {
        Some(ecr) => format!(
            "login: `aws ecr get-login-password --region {} | {program} login --username AWS --password-stdin {host}`",
            ecr.region()
        ),
        None => format!("login: `{program} login {host}`"),
    }
}
