//! The documents of roles.

use super::*;

#[test]
fn a_templates_role_grants_its_prefix_and_key_only() {
    let prefix: Prefix = "docker-hub".parse().unwrap();
    for (encryption, key) in [
        (None, None),
        (Some(Encryption::Aes256), None),
        (Some(Encryption::Kms(None)), None),
        (Some(Encryption::Kms(Some(KEY.to_owned()))), Some(KEY)),
    ] {
        let Documents { trust, permissions } =
            role_policy(&registry(), Role::Template(&prefix, encryption.as_ref()));
        assert_eq!(trust["Statement"][0]["Principal"], json!({ "Service": "ecr.amazonaws.com" }));
        let statements = permissions["Statement"].as_array().unwrap();
        let below = "arn:aws:ecr:eu-west-1:123456789012:repository/docker-hub/*";
        assert_eq!(statements[0]["Resource"], json!(below));
        let actions = json!(["ecr:CreateRepository", "ecr:ReplicateImage", "ecr:TagResource"]);
        assert_eq!(statements[0]["Action"], actions);
        assert_eq!(statements.get(1).map(|it| &it["Resource"]), key.map(|key| json!(key)).as_ref());
    }
}

#[test]
fn an_upstreams_role_reads_the_upstream_and_writes_the_cache() {
    let upstream_prefix = "team-a".parse().unwrap();
    let cache = Cache { upstream_prefix, ..cache(Upstream::Ecr) };
    let Documents { trust, permissions } = role_policy(&registry(), Role::Upstream(&cache));
    let service = json!({ "Service": "pullthroughcache.ecr.amazonaws.com" });
    assert_eq!(trust["Statement"][0]["Principal"], service);
    let here = "arn:aws:ecr:eu-west-1:123456789012:repository/ecr/*";
    let there = "arn:aws:ecr:us-east-1:210987654321:repository/team-a/*";
    let granted: Vec<_> = permissions["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["Action"].as_array().unwrap().len(), it["Resource"].clone()))
        .collect();
    assert_eq!(granted, [(1, json!("*")), (4, json!([there, here])), (4, json!(here))]);
}
