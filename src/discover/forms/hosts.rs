//! Forms that change the registry: per repository (`registries.conf`), or per host (`hosts.toml`,
//! `buildkitd.toml`).

use std::collections::BTreeSet;

use super::{
    EmittedFile, FormBody, OmittedImage, destination_hosts,
    mapping::ImageMapping,
    rules::{HostRule, by_host, by_repository},
};
use crate::model::{Host, Result};

impl ImageMapping {
    fn is_plain_http(&self, host: &Host) -> bool {
        host.is_loopback() || self.plain_http.contains(host)
    }
}

/// Source: containers-registries.conf(5).
pub(super) fn registries_conf(mapping: &ImageMapping) -> FormBody {
    let hub = Host::DOCKER_HUB.to_owned();
    let mut text = format!("unqualified-search-registries = [\"{hub}\"]\n");
    let mut omitted: Vec<OmittedImage> = Vec::new();
    for rule in by_repository(mapping) {
        let others = rule.others.iter();
        omitted.extend(others.map(|(image, change)| image.omitted(change.reason())));
        if let Some(intruder) = rule.intruder {
            let reason = format!("shares `{}` in the mirror with {}", rule.to, intruder.source);
            omitted.extend(rule.fitting.iter().map(|image| image.omitted(reason.clone())));
        } else if let Some(image) = rule.fitting.first() {
            let insecure = mapping.is_plain_http(&image.destination.host);
            text += &format!(
                "\n[[registry]]\nprefix = \"{}\"\nlocation = \"{}\"\n",
                rule.from, rule.to
            );
            text += if insecure { "insecure = true\n" } else { "" };
        }
    }
    let destinations: BTreeSet<String> =
        destination_hosts(mapping).iter().map(ToString::to_string).collect();
    let sources = mapping.images.iter().map(|image| &image.source);
    let sources = sources.chain(mapping.missing.iter().map(|image| &image.source));
    let blocked: BTreeSet<String> =
        sources.map(|source| source.host.to_string()).chain([hub]).collect();
    for host in blocked.difference(&destinations) {
        text += &format!(
            "\n[[registry]]\nprefix = \"{host}\"\nlocation = \"{host}\"\nblocked = true\n"
        );
    }
    for host in destination_hosts(mapping) {
        if mapping.is_plain_http(host) {
            text += &format!("\n[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
        }
    }
    FormBody::one(text, omitted)
}

/// Source: containerd, `docs/hosts.md`. A `server` in the mirror prevents the fallback to upstream,
/// and containerd 1.6 needs a `[host]` table.
pub(super) fn hosts_toml(mapping: &ImageMapping) -> Result<FormBody> {
    let (rules, omitted) = by_host(mapping)?;
    let file = |rule: &HostRule<'_>| {
        let scheme = if mapping.is_plain_http(rule.to) { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2{}", rule.to, rule.prefix);
        let text = format!(
            "server = \"{url}\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  \
             override_path = true\n"
        );
        EmittedFile { path: Some(format!("{}/hosts.toml", rule.from).into()), text }
    };
    Ok(FormBody { files: rules.iter().map(file).collect(), omitted })
}

/// Source: moby/buildkit, `docs/buildkitd.toml.md`. A mirror is `HOST/PREFIX`, without `/v2`.
pub(super) fn buildkitd(mapping: &ImageMapping) -> Result<FormBody> {
    let (rules, omitted) = by_host(mapping)?;
    let mut tables: Vec<String> = rules
        .iter()
        .map(|rule| format!("[registry.\"{}\"]\n  mirrors = [\"{}\"]\n", rule.from, rule.mirror()))
        .collect();
    for host in destination_hosts(mapping) {
        if mapping.is_plain_http(host) {
            tables.push(format!("[registry.\"{host}\"]\n  http = true\n"));
        }
    }
    Ok(FormBody::one(tables.join("\n"), omitted))
}
