//! Warnings about names that are valid, and are likely misspelled.
//!
//! Warns only with a likely spelling at hand, or of a table without effect: private hosts and new
//! platforms and regions are no mistakes.

use std::collections::{BTreeMap, BTreeSet};

use strsim::osa_distance;

use super::{
    context::{ReadEntry, Tables},
    document::{Table, Text, nearest},
    problem::{Problem, Span},
    types::RegistryConfig,
};
use crate::model::{EcrHost, Host, Platform, ecr_host};

/// Source: `go tool dist list`, which names the values of images.
const SYSTEMS: [&str; 8] =
    ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "android", "wasip1"];
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
];

/// Names of other tools for the architectures.
const ALIASES: [(&str, &str); 17] = [
    ("x86_64", "amd64"),
    ("x86-64", "amd64"),
    ("x64", "amd64"),
    ("i386", "386"),
    ("i686", "386"),
    ("x86", "386"),
    ("aarch64", "arm64"),
    ("armv8", "arm64"),
    ("arm64v8", "arm64"),
    ("armv7", "arm/v7"),
    ("armv7l", "arm/v7"),
    ("armhf", "arm/v7"),
    ("arm32v7", "arm/v7"),
    ("armv6", "arm/v6"),
    ("armv6l", "arm/v6"),
    ("armel", "arm/v6"),
    ("armv5", "arm/v5"),
];

/// Source: AWS General Reference, "Amazon ECR endpoints and quotas".
const REGIONS: [&str; 45] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-isoe-west-1",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-iso-east-1",
    "us-iso-west-1",
    "us-isob-east-1",
    "us-isof-east-1",
    "us-isof-south-1",
    "us-west-1",
    "us-west-2",
];
const DIRECTIONS: [&str; 9] = [
    "north",
    "south",
    "east",
    "west",
    "central",
    "northeast",
    "northwest",
    "southeast",
    "southwest",
];

/// The registries whose names are suggested.
const REGISTRIES: [&str; 14] = [
    "docker.io",
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "registry.k8s.io",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "registry.gitlab.com",
    "cgr.dev",
    "nvcr.io",
    "lscr.io",
    "docker.elastic.co",
    "registry.redhat.io",
    "registry.access.redhat.com",
];

/// Parses the platforms under `key`, and warns of spellings that no image has.
pub(super) fn platforms(table: &Table<'_>, key: &str) -> Result<Vec<Platform>, Problem> {
    let read = |text: &Text| {
        let platform: Platform = text.parse()?;
        if let Some(usual) = text.as_written().and_then(usual_platform) {
            table.warn(
                Problem::at(&text.span, "not the usual name of a platform")
                    .hint(format!("write `{usual}`")),
            );
        }
        Ok(platform)
    };
    table.list(key)?.iter().flatten().map(read).collect()
}

/// The likely spelling of a platform; `None` for a known one, and for one that is like no known one.
fn usual_platform(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let [system, architecture, variant @ ..] = &parts[..] else { return None };
    let (name, version) = system.split_at(system.find('(').unwrap_or(system.len()));
    let alias = ALIASES.iter().find(|(alias, _)| alias == architecture).map(|(_, usual)| *usual);
    let system = slip(name, &SYSTEMS);
    let other = alias.or_else(|| slip(architecture, &ARCHITECTURES));
    let variant = match (other, variant) {
        // the alias names the variant
        (Some(other), _) if other.contains('/') => None,
        (_, [variant]) => Some(*variant),
        _ => None,
    };
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let numbered = variant.filter(|variant| is_number(variant)).map(|number| format!("v{number}"));
    if system.is_none() && other.is_none() && numbered.is_none() {
        return None;
    }
    let variant = numbered.or_else(|| variant.map(str::to_owned));
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{}{version}/{}{variant}", system.unwrap_or(name), other.unwrap_or(architecture)))
}

/// A warning about a host that is almost one of ECR's.
pub(super) fn ecr_host(host: &Host, span: &Span) -> Option<Problem> {
    let usual = "write `ACCOUNT.dkr.ecr.REGION.amazonaws.com`";
    let Some(ecr) = EcrHost::parse(host) else {
        let account = ecr_host::almost(host)?;
        let is_number = account.bytes().all(|b| b.is_ascii_digit());
        let label = match is_number && account.len() != 12 {
            true => format!("not ECR: the account has {} digits, not 12", account.len()),
            false => "not a host name of ECR, and used as a plain registry".to_owned(),
        };
        return Some(Problem::at(span, label).hint(usual));
    };
    let near = usual_region(ecr.region())?;
    let label = format!("AWS has no region `{}`", ecr.region());
    Some(Problem::at(span, label).hint(format!("did you mean `{near}`?")))
}

/// The likely spelling of a region; `None` for a known one, for one that can be new, and for one that
/// is like no known one.
fn usual_region(region: &str) -> Option<&'static str> {
    let (rest, number) = region.rsplit_once('-')?;
    let (area, direction) = rest.rsplit_once('-').unwrap_or((rest, ""));
    let is_area = |known: &&str| known.strip_prefix(area).is_some_and(|rest| rest.starts_with('-'));
    let can_be_new =
        number.len() == 1 && DIRECTIONS.contains(&direction) && REGIONS.iter().any(is_area);
    if can_be_new { None } else { slip(region, &REGIONS) }
}

/// The known word that differs by one character, or by the order of two; `None` for a known word.
fn slip<'w>(text: &str, known: &'w [&str]) -> Option<&'w str> {
    let near = nearest(text, known)?;
    (osa_distance(text, near) == 1).then_some(near)
}

/// Warns of `[registry."…"]` tables of hosts that the file does not use, and of identities for a
/// source in the table of a host that is a destination only.
pub(super) fn unused_registries(
    registries: &BTreeMap<Host, RegistryConfig>,
    spans: &[(Host, Span)],
    entries: &[ReadEntry],
    tables: &Tables<'_>,
) -> Vec<Problem> {
    if entries.is_empty() && tables.file.wildcards.borrow().is_empty() {
        // the file is for `copy`, or for the cache
        return Vec::new();
    }
    let destinations = tables.destinations.read.iter();
    let destinations = destinations.filter_map(|read| read.destination.registry.host());
    let destinations: BTreeSet<&Host> = destinations.collect();
    let wildcards = tables.file.wildcards.borrow();
    let mut sources: BTreeSet<&Host> = entries.iter().map(|read| &read.entry.host).collect();
    sources.extend(wildcards.iter().map(|wildcard| &wildcard.host));
    let mut used = sources.clone();
    used.extend(&destinations);
    let mirrors = registries.iter().filter(|(host, _)| used.contains(host));
    let mirrors: Vec<&Host> = mirrors.flat_map(|(_, table)| &table.mirrors).collect();
    used.extend(mirrors);
    let warning = |host: &Host, span: &Span| {
        if used.contains(host) {
            let table = registries.get(host)?;
            let has_identity = table.profile.is_some() || table.role_arn.is_some();
            let label =
                "`role_arn` and `profile` here apply to a source, and no image has this source";
            let is_destination_only = destinations.contains(host) && !sources.contains(host);
            return (has_identity && is_destination_only)
                .then(|| Problem::at(span, label).hint("write them in `[[destination]]`"));
        }
        let mut known: Vec<&str> = used.iter().map(|host| host.as_str()).collect();
        known.extend(REGISTRIES);
        let hint = match slip(host.as_str(), &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove the table, or write the host as the images name it".to_owned(),
        };
        Some(Problem::at(span, "no image uses this registry").hint(hint))
    };
    spans.iter().filter_map(|(host, span)| warning(host, span)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_with_the_name_of_another_tool_has_a_usual_spelling() {
        for (text, expected) in [
            ("linux/amd64", None),
            ("linux/arm/v7", None),
            ("windows(10.0.20348)/amd64", None),
            ("linux/loongarch128", None),
            ("solaris/sparc64", None),
            ("linux/riscv32", None),
            ("linux/armv7", Some("linux/arm/v7")),
            ("linux/armhf", Some("linux/arm/v7")),
            ("linux/x86_64", Some("linux/amd64")),
            ("linux/x86_64/v3", Some("linux/amd64/v3")),
            ("linux/aarch64", Some("linux/arm64")),
            ("linux/amd46", Some("linux/amd64")),
            ("linus/arm64", Some("linux/arm64")),
            ("linux/arm/7", Some("linux/arm/v7")),
            ("window(10.0.20348)/amd64", Some("windows(10.0.20348)/amd64")),
        ] {
            assert_eq!(usual_platform(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_region_that_aws_cannot_have_has_a_usual_spelling() {
        for (text, expected) in [
            ("eu-west-1", None),
            ("eu-west-9", None),
            ("us-gov-west-1", None),
            ("ap-southwest-1", None),
            ("eu-west-11", Some("eu-west-1")),
            ("eu-wets-1", Some("eu-west-1")),
            ("us-east-1a", Some("us-east-1")),
            ("moon-base-7", None),
        ] {
            assert_eq!(usual_region(text), expected, "{text}");
        }
    }
}
