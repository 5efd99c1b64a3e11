//! Parses the host names of private ECR registries.
//!
//! The only code that knows their form. No other code decides by a suffix that a host is ECR.

use super::names::Host;

/// Every DNS suffix under which AWS serves ECR, with its stack and its partition.
///
/// Source: AWS General Reference, "Amazon ECR endpoints and quotas"; botocore endpoint rules.
const SUFFIXES: [(&str, Stack, &str); 14] = [
    ("amazonaws.com", Stack::V4, "aws"),
    ("on.aws", Stack::Dual, "aws"),
    ("amazonaws.com.cn", Stack::V4, "aws-cn"),
    ("on.amazonwebservices.com.cn", Stack::Dual, "aws-cn"),
    ("amazonaws.eu", Stack::V4, "aws-eusc"),
    ("on.amazonwebservices.eu", Stack::Dual, "aws-eusc"),
    ("c2s.ic.gov", Stack::V4, "aws-iso"),
    ("on.aws.ic.gov", Stack::Dual, "aws-iso"),
    ("sc2s.sgov.gov", Stack::V4, "aws-iso-b"),
    ("on.aws.scloud", Stack::Dual, "aws-iso-b"),
    ("cloud.adc-e.uk", Stack::V4, "aws-iso-e"),
    ("on.cloud-aws.adc-e.uk", Stack::Dual, "aws-iso-e"),
    ("csp.hci.ic.gov", Stack::V4, "aws-iso-f"),
    ("on.aws.hci.ic.gov", Stack::Dual, "aws-iso-f"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    V4,
    Dual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrHost {
    /// The AWS account, twelve digits.
    pub account: String,
    /// The DNS suffix after the region, like `amazonaws.com`.
    pub partition_suffix: &'static str,
    /// The region, like `eu-west-1`.
    pub region: String,
    pub fips: bool,
    /// `true` for an endpoint with IPv4 and IPv6.
    pub dual_stack: bool,
}

impl EcrHost {
    /// Parses a host; `None` if it is not a private ECR registry.
    ///
    /// `public.ecr.aws` and hosts with a port are not.
    pub fn parse(host: &Host) -> Option<Self> {
        let (account, rest) = host.as_str().split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        // the IPv4 names have `dkr.ecr`, the dual-stack ones `dkr-ecr`
        let (stack, rest) = match (rest.strip_prefix("dkr.ecr"), rest.strip_prefix("dkr-ecr")) {
            (Some(rest), _) => (Stack::V4, rest),
            (_, Some(rest)) => (Stack::Dual, rest),
            _ => return None,
        };
        let (fips, rest) = match rest.strip_prefix("-fips") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (region, suffix) = rest.strip_prefix('.')?.split_once('.')?;
        let &(partition_suffix, ..) =
            SUFFIXES.iter().find(|(known, on, _)| *known == suffix && *on == stack)?;
        (is_account && is_region(region)).then(|| Self {
            account: account.to_owned(),
            partition_suffix,
            region: region.to_owned(),
            fips,
            dual_stack: stack == Stack::Dual,
        })
    }

    /// The AWS account, twelve digits.
    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// The region, like `eu-west-1`.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The partition in ARNs, like `aws` or `aws-cn`.
    pub(crate) fn partition(&self) -> &'static str {
        // GovCloud shares its suffixes with the public regions
        if self.region.starts_with("us-gov-") {
            return "aws-us-gov";
        }
        let own = SUFFIXES.iter().find(|(suffix, ..)| *suffix == self.partition_suffix);
        own.map_or("aws", |(_, _, partition)| partition)
    }
}

/// The first label of a host that is almost one of ECR's: it has ECR's labels and an AWS suffix, and
/// is no endpoint of a VPC. For a host that [`EcrHost::parse`] refuses.
pub(crate) fn almost(host: &Host) -> Option<&str> {
    let host = host.as_str();
    let (name, _) = host.split_once(':').unwrap_or((host, ""));
    let is_aws = SUFFIXES
        .iter()
        .any(|(suffix, ..)| name.strip_suffix(suffix).is_some_and(|name| name.ends_with('.')));
    let has_labels = name.contains("dkr.ecr") || name.contains("dkr-ecr");
    let is_almost = is_aws && has_labels && !name.contains(".vpce.");
    is_almost.then(|| name.split('.').next().unwrap_or(name))
}

/// Returns `true` for words joined by `-`, like `eu-west-1`: new regions need no new release.
fn is_region(text: &str) -> bool {
    let word =
        |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.contains('-') && text.split('-').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str) -> Option<(String, &'static str, bool, bool)> {
        let host = EcrHost::parse(&host.parse().unwrap())?;
        assert_eq!(host.account(), "123456789012");
        Some((host.region().to_owned(), host.partition(), host.fips, host.dual_stack))
    }

    #[test]
    fn every_host_name_of_ecr_is_parsed() {
        for (host, region, partition, fips, dual) in [
            ("dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", "aws", false, false),
            ("dkr-ecr.eu-west-1.on.aws", "eu-west-1", "aws", false, true),
            ("dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1", "aws", true, false),
            ("dkr-ecr-fips.us-east-1.on.aws", "us-east-1", "aws", true, true),
            ("dkr.ecr.us-gov-west-1.amazonaws.com", "us-gov-west-1", "aws-us-gov", false, false),
            ("dkr-ecr.us-gov-west-1.on.aws", "us-gov-west-1", "aws-us-gov", false, true),
            ("dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn", false, false),
            ("dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", "aws-cn", false, true),
            ("dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "aws-eusc", false, false),
            ("dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "aws-iso", false, false),
            ("dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", "aws-iso-b", false, false),
            ("dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", "aws-iso-e", false, false),
            ("dkr.ecr.us-isof-east-1.csp.hci.ic.gov", "us-isof-east-1", "aws-iso-f", false, false),
            (
                "dkr-ecr.us-isof-east-1.on.aws.hci.ic.gov",
                "us-isof-east-1",
                "aws-iso-f",
                false,
                true,
            ),
            ("DKR.ECR.EU-WEST-1.AMAZONAWS.COM", "eu-west-1", "aws", false, false),
        ] {
            let expected = Some((region.to_owned(), partition, fips, dual));
            assert_eq!(read(&format!("123456789012.{host}")), expected, "{host}");
        }
    }

    #[test]
    fn other_hosts_are_not_ecr() {
        for host in [
            "public.ecr.aws",
            "docker.io",
            "dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901x.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com",
            "123456789012.dkr.ecr.eu-west-1.on.aws",
            "123456789012.dkr-ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecrx.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.amazonaws.com",
            "123456789012.dkr.ecr.eu_west-1.amazonaws.com",
        ] {
            assert_eq!(read(host), None, "{host}");
        }
    }

    #[test]
    fn a_host_with_the_labels_of_ecr_below_an_aws_suffix_is_almost_one() {
        for (host, expected) in [
            ("12345678901.dkr.ecr.eu-west-1.amazonaws.com", Some("12345678901")),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:443", Some("123456789012")),
            ("dkr.ecr.eu-west-1.amazonaws.com", Some("dkr")),
            ("vpce-1.dkr.ecr.eu-west-1.vpce.amazonaws.com", None),
            ("000000000000.dkr.ecr.us-east-1.localhost.localstack.cloud:4566", None),
            ("public.ecr.aws", None),
            ("registry.corp.example", None),
        ] {
            assert_eq!(almost(&host.parse().unwrap()), expected, "{host}");
        }
    }
}
