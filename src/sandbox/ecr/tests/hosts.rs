//! The AWS service behind each host name.

use super::super::{AwsHost, CALLER_ACCOUNT, aws_host};

#[test]
fn host_names_select_the_aws_service() {
    let registry = |region: &str| {
        Some(AwsHost::Registry { account: CALLER_ACCOUNT.to_owned(), region: region.to_owned() })
    };
    for (host, expected) in [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", registry("eu-west-1")),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:80", registry("eu-west-1")),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", registry("eu-west-1")),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", registry("us-east-1")),
        ("123456789012.dkr-ecr-fips.us-east-1.on.aws", registry("us-east-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", registry("cn-north-1")),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", registry("eusc-de-east-1")),
        ("prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com", Some(AwsHost::Storage)),
        ("123456789012.dkr.ecr.eu-west-1.on.aws", None),
        ("123456789012.dkr-ecr.eu-west-1.amazonaws.com", None),
        ("12345678901.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("api.ecr.eu-west-1.amazonaws.com", None),
        ("public.ecr.aws", None),
        ("127.0.0.1:5000", None),
    ] {
        assert_eq!(aws_host(host), expected, "{host}");
    }
}
