//! Fuzzes names: each parsed name is written and parsed again, and must stay equal.

use std::{fmt::Display, hash::Hash, str::FromStr};

use ecr_mirror::model::{
    Digest, EcrHost, Host, ImageLocation, Location, Naming, Platform, Platforms, Reference,
    Repository, Tag, TagOrDigest,
};

use super::engine::Target;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Parses a name, and checks that its text parses to the same name. Returns the problem otherwise.
fn read<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err = ecr_mirror::model::NameError> + Display + PartialEq + std::fmt::Debug,
{
    let name: T = text.parse().map_err(|wrong: ecr_mirror::model::NameError| wrong.problem)?;
    let written = name.to_string();
    let again = written.parse::<T>();
    assert_eq!(again.as_ref(), Ok(&name), "{text:?} is written {written:?}");
    Ok(name)
}

fn summary<T>(read: &Result<T, String>) -> impl Hash + use<T> {
    read.as_ref().map(|_| ()).map_err(String::clone)
}

#[test]
fn references() {
    let target = Target {
        name: "references",
        seeds: &[
            "nginx",
            "nginx:1.27",
            "quay.io/prometheus/prometheus:v2.53.0",
            "localhost:5000/a/b",
            "[::1]:5000/a_b/c--d:X.y-z",
            "index.docker.io/library/redis",
            concat!(
                "alpine:3.20@sha256:",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            ),
            "sha512:00",
            "https://ghcr.io/a",
        ],
        tokens: &[
            "docker.io/",
            "localhost",
            "[::1]",
            ":5000",
            "@sha256:",
            ":latest",
            "library/",
            "://",
            "__",
            "..",
            "--",
            HEX,
        ],
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let reference = read::<Reference>(&text);
        if let Ok(Reference { host, repository, tag, digest }) = &reference {
            let at = digest.clone().map(TagOrDigest::Digest).or(tag.clone().map(TagOrDigest::Tag));
            let shown = at.map_or_else(String::new, |at| at.to_string());
            assert!(format!("{host}/{repository}{shown}").parse::<Reference>().is_ok());
            assert!(repository.as_str().len() <= 255);
        }
        let host = read::<Host>(&text);
        let names = [
            summary(&read::<Repository>(&text).map(drop)),
            summary(&read::<Tag>(&text).map(drop)),
            summary(&read::<Digest>(&text).map(drop)),
        ];
        let loopback = host.as_ref().map(|host| (host.is_loopback(), host.is_docker_hub()));
        let parts = reference.as_ref().map(|it| (it.tag.is_some(), it.digest.is_some()));
        (summary(&reference), names, loopback.ok(), parts.ok(), host.err())
    });
}

#[test]
fn locations() {
    let target = Target {
        name: "locations",
        seeds: &["ghcr.io", "oci:images", "oci:/mnt/usb:a/b:1", "oci:d:1.27", "nginx:1", "oci:"],
        tokens: &["oci:", ":", "a/b", "/", "../", "latest"],
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let naming = Naming::parse(&text);
        if let Ok((repository, tag)) = &naming {
            let named = Naming::with(repository.as_ref());
            let some = "x".parse().unwrap();
            assert_eq!(named.name(repository.as_ref().unwrap_or(&some), tag), text);
        }
        let naming = naming.map(|(repository, _)| repository.is_some());
        (
            summary(&read::<Location>(&text)),
            summary(&read::<ImageLocation>(&text)),
            naming.map_err(|wrong| wrong.problem),
        )
    });
}

#[test]
fn platforms() {
    let target = Target {
        name: "platforms",
        seeds: &[
            "linux/amd64",
            "linux/arm/v7",
            "windows/x86_64",
            "linux/aarch64/v8",
            "linux",
            "windows(10.0.20348)/amd64",
        ],
        tokens: &["linux", "/", "(", ")", "arm64", "v8", "amd64", "unknown"],
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let platform = read::<Platform>(&text);
        if let Ok(platform) = &platform {
            assert!(platform.matches(platform), "{text:?} is what it asks for");
            let wanted = Platforms::only([platform.clone(), platform.clone()]).unwrap();
            assert_eq!(wanted.to_string(), platform.to_string());
            assert_eq!(
                wanted.missing_from(std::slice::from_ref(platform)),
                Vec::<&Platform>::new()
            );
        }
        (summary(&platform), platform.is_ok_and(|platform| platform.variant.is_some()))
    });
}

#[test]
fn ecr_hosts() {
    let target = Target {
        name: "ecr_hosts",
        seeds: &[
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr-ecr.eu-west-1.on.aws",
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
            "123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
            "public.ecr.aws",
        ],
        tokens: &["dkr.ecr", "dkr-ecr", "-fips", ".on.aws", ".amazonaws.com", ".cn", ":443"],
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let Ok(host) = read::<Host>(&text) else { return None };
        let found = EcrHost::parse(&host);
        found.map(|EcrHost { account, partition_suffix, region, fips, dual_stack }| {
            assert!(account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()), "{text}");
            let service = if dual_stack { "dkr-ecr" } else { "dkr.ecr" };
            let fips = if fips { "-fips" } else { "" };
            let written = format!("{account}.{service}{fips}.{region}.{partition_suffix}");
            assert_eq!(written, host.as_str());
            (service, fips, partition_suffix)
        })
    });
}
