//! Tests of caches, and of `via`.

use super::*;
use crate::model::{
    TagOrDigest,
    ecr_settings::{Encryption, TagMutability},
    pull_through::{Access, Prefix, TemplateSettings, Upstream, UpstreamCredentials},
};

const EU: &str = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n";
const LOGIN: &str = "credentials = { username = \"${NAME}\", access_token = \"${PASSWORD}\" }\n";

/// A valid configuration with one ECR destination and these tables.
fn with_ecr(rest: &str) -> Config {
    parse(&format!("{EU}{rest}")).unwrap_or_else(|error| panic!("{error}"))
}

/// The caches of a `[[pull_through]]` table.
fn caches(rest: &str) -> Vec<Cache> {
    with_ecr(&format!("[[pull_through]]\n{rest}")).caches
}

#[test]
fn a_destination_and_a_cache_are_a_valid_configuration() {
    let config = with_ecr("[[pull_through]]\nupstream = \"quay\"\n");
    assert_eq!((config.entries.len(), config.caches.len(), config.warnings.len()), (0, 1, 0));
    let cache = &config.caches[0];
    assert_eq!(cache.upstream_prefix, Prefix::Root);
    assert!(cache.template.is_none() && cache.access.is_none());
}

#[test]
fn an_upstream_has_a_default_url_and_prefix() {
    let acr = format!("url = \"acme.azurecr.io\"\n{LOGIN}");
    let ecr = "url = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n";
    for (upstream, rest, url) in [
        ("docker-hub", LOGIN, "registry-1.docker.io"),
        ("github", LOGIN, "ghcr.io"),
        ("gitlab", LOGIN, "registry.gitlab.com"),
        ("quay", "", "quay.io"),
        ("quay", "url = \"quay.io\"\n", "quay.io"),
        ("k8s", "", "registry.k8s.io"),
        ("ecr-public", "", "public.ecr.aws"),
        ("azure", &acr, "acme.azurecr.io"),
        ("chainguard", LOGIN, "cgr.dev"),
        ("ecr", ecr, "123456789012.dkr.ecr.us-east-1.amazonaws.com"),
    ] {
        let cache = caches(&format!("upstream = \"{upstream}\"\n{rest}")).remove(0);
        assert_eq!((cache.upstream.name(), cache.url.as_str()), (upstream, url));
        assert_eq!(cache.prefix.to_string(), upstream);
        let is_written = matches!(&cache.credentials, UpstreamCredentials::Written { username, .. } if username == "joe");
        assert_eq!(is_written, rest.contains("credentials"), "{upstream}");
        assert!(!format!("{cache:?}").contains("hunter2"), "{upstream}");
    }
}

#[test]
fn every_key_of_a_cache_is_read() {
    let secret =
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/h-AbCdEf";
    let hub = caches(&format!(
        "upstream = \"docker-hub\"\nprefix = \"ROOT\"\nsecret_arn = \"{secret}\"\n\
         access = {{ organization = \"o-abc123\", accounts = [\"210987654321\"], \
         roles = [\"arn:aws:iam::210987654321:role/node\"], \
         organizational_units = [\"o-abc123/r-ab12/ou-ab12-11111111/*\"] }}\n"
    ))
    .remove(0);
    assert!(matches!(hub.credentials, UpstreamCredentials::Secret(arn) if arn == secret));
    assert_eq!(hub.prefix, Prefix::Root);
    let expected = Access {
        organization: Some("o-abc123".to_owned()),
        accounts: vec!["210987654321".to_owned()],
        roles: vec!["arn:aws:iam::210987654321:role/node".to_owned()],
        organizational_units: vec!["o-abc123/r-ab12/ou-ab12-11111111".to_owned()],
    };
    assert_eq!(hub.access, Some(expected));

    let role = "arn:aws:iam::123456789012:role/ecr";
    let ecr = caches(&format!(
        "upstream = \"ecr\"\nurl = \"210987654321.dkr.ecr.us-east-1.amazonaws.com\"\n\
         prefix = \"team\"\nupstream_prefix = \"platform/team\"\nrole_arn = \"{role}\"\n\
         [pull_through.template]\ntag_mutability = \"immutable\"\nexclusions = [\"latest\"]\n\
         description = \"the team's images\"\nreconcile = true\n\
         tags = {{ a = \"b\" }}\nrole_arn = \"{role}\"\nlifecycle_file = \"lifecycle.json\"\n\
         encryption = {{ type = \"kms\", key = \"arn:aws:kms:eu-west-1:123456789012:key/1\" }}\n"
    ))
    .remove(0);
    assert_eq!(ecr.upstream, Upstream::Ecr);
    assert!(matches!(ecr.credentials, UpstreamCredentials::Role(arn) if arn == role));
    assert_eq!(ecr.upstream_prefix.to_string(), "platform/team");
    let template = ecr.template.unwrap();
    let TemplateSettings { settings, role_arn, description, reconcile } = template;
    assert_eq!(role_arn.as_deref(), Some(role));
    assert_eq!((description.as_deref(), reconcile), (Some("the team's images"), true));
    assert_eq!(
        settings.mutability,
        Some(TagMutability::ImmutableExcept(vec!["latest".to_owned()]))
    );
    assert!(matches!(settings.encryption, Some(Encryption::Kms(Some(_)))));
    assert_eq!((settings.tags["a"].as_str(), settings.scan_on_push), ("b", None));
    assert_eq!(settings.lifecycle.unwrap()["rules"][0]["rulePriority"], 1);
}

#[test]
fn a_secret_is_named_by_its_arn_or_name_and_a_written_one_has_settings() {
    let name = "ecr-pullthroughcache/team/hub";
    let hub = caches(&format!("upstream = \"docker-hub\"\nsecret_arn = \"{name}\"\n")).remove(0);
    assert!(matches!(hub.credentials, UpstreamCredentials::Secret(it) if it == name));
    let hub = caches(
        "upstream = \"docker-hub\"\ncredentials = { username = \"u\", access_token = \"t\" }\n\
         secret = { description = \"ours\", recovery_window_days = 7, policy_file = \"policy.json\" }\n",
    )
    .remove(0);
    assert_eq!(hub.secret.description.as_deref(), Some("ours"));
    assert_eq!(hub.secret.recovery_window_days, Some(7));
    assert_eq!(hub.secret.policy.unwrap()["Statement"][0]["Action"], "ecr:BatchGetImage");
}

#[test]
fn a_cache_is_at_all_ecr_destinations_or_at_the_named_ones() {
    let destinations = "[[destination]]\nregistry = \"r.example\"\n\
        [[destination]]\nregistry = \"localhost:5000\"\nendpoint_url = \"http://127.0.0.1:4566\"\n\
        [[destination]]\nregistry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\nname = \"us\"\n";
    let at = |written: &str| {
        let quay = format!("{destinations}[[pull_through]]\nupstream = \"quay\"\n{written}");
        let ids = with_ecr(&quay).caches.remove(0).destinations;
        ids.into_iter().map(|id| id.0).collect::<Vec<_>>()
    };
    assert_eq!(at(""), [0, 3]);
    assert_eq!(at("destinations = [\"us\"]"), [3]);
}

#[test]
fn a_policy_names_an_account_in_its_partition_or_by_number_for_several_partitions() {
    let china =
        "[[destination]]\nregistry = \"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn\"\n";
    let quay = "[[pull_through]]\nupstream = \"quay\"\n\
        template.policy = { accounts = [\"210987654321\"] }\n";
    for (destinations, expected) in [
        (EU.to_owned(), "arn:aws:iam::210987654321:root"),
        (china.to_owned(), "arn:aws-cn:iam::210987654321:root"),
        (format!("{EU}{china}"), "210987654321"),
    ] {
        let config = parse(&format!("{destinations}{quay}")).unwrap();
        let policy = config.caches[0].template.as_ref().unwrap().settings.policy.as_ref().unwrap();
        assert_eq!(policy["Statement"][0]["Principal"]["AWS"][0], expected);
    }
}

/// The mirrored repositories of the only image, and the cached ones with the index of the cache.
fn routes(config: &Config) -> (Vec<String>, Vec<(usize, String)>) {
    let entry = &config.entries[0];
    let mirrored = entry.mirrored.iter().map(|place| place.repository.to_string()).collect();
    let cached = entry.cached.iter().map(|it| (it.cache, it.repository.to_string())).collect();
    (mirrored, cached)
}

const CACHES: &str = "[[destination]]\nregistry = \"r.example\"\nprefix = \"plain\"\n\
    [[pull_through]]\nupstream = \"quay\"\n\
    [[pull_through]]\nupstream = \"ecr\"\nprefix = \"all\"\n\
    url = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n\
    [[pull_through]]\nupstream = \"ecr\"\nprefix = \"team\"\nupstream_prefix = \"platform/team\"\n\
    url = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n";

#[test]
fn via_decides_for_each_destination_whether_an_image_is_mirrored_or_cached() {
    let us = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
    for (source, rest, mirrored, cached) in [
        ("quay.io/a/b", "", &["a/b", "plain/a/b"][..], &[][..]),
        ("quay.io/a/b", "via = \"mirror\"", &["a/b", "plain/a/b"], &[]),
        ("quay.io/a/b", "via = \"auto\"", &["plain/a/b"], &[(0, "quay/a/b")]),
        // its names are for where it is mirrored
        ("quay.io/a/b", "via = \"auto\"\nrepository = \"c\"", &["plain/c"], &[(0, "quay/a/b")]),
        ("gcr.io/a/b", "via = \"auto\"", &["a/b", "plain/a/b"], &[]),
        (&format!("{us}/x"), "via = \"auto\"", &["plain/x"], &[(1, "all/x")]),
        (
            &format!("{us}/platform/team/x"),
            "via = \"auto\"",
            &["plain/platform/team/x"],
            &[(2, "team/x")],
        ),
    ] {
        let image = format!("{CACHES}[[image]]\nsource = \"{source}\"\ntags = [\"1\"]\n{rest}\n");
        let (to, through) = routes(&with_ecr(&image));
        assert_eq!(to, mirrored, "{source} {rest}");
        let through: Vec<_> = through.iter().map(|(at, name)| (*at, name.as_str())).collect();
        assert_eq!(through, cached, "{source} {rest}");
    }
}

#[test]
fn a_cache_applies_to_every_destination_with_the_same_registry() {
    let config = with_ecr(
        "name = \"eu\"\n\
         [[destination]]\nregistry = \"123456789012.dkr-ecr.eu-west-1.on.aws\"\nprefix = \"six\"\n\
         [[pull_through]]\nupstream = \"quay\"\ndestinations = [\"eu\"]\n\
         [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\nvia = \"pull-through\"\n",
    );
    let cached = (0, "quay/a/b".to_owned());
    assert_eq!(routes(&config), (vec![], vec![cached.clone(), cached]));
}

#[test]
fn an_entry_that_is_only_cached_has_pulls_and_no_images() {
    let tag = |text: &str| TagOrDigest::Tag(text.parse().unwrap());
    let pinned = format!("source = \"quay.io/a/b@sha256:{HEX}\"\ntag = \"1\"");
    for (image, pulls) in [
        ("source = \"quay.io/a/b\"\ntags = [\"1\", \"2\"]", Some(vec![tag("1"), tag("2")])),
        (&pinned, Some(vec![TagOrDigest::Digest(digest())])),
        ("source = \"quay.io/a/b\"\nselect = { newest = 1 }", None),
    ] {
        let text = format!(
            "[[pull_through]]\nupstream = \"quay\"\n[[image]]\n{image}\nvia = \"pull-through\"\n"
        );
        let config = with_ecr(&text);
        let entry = &config.entries[0];
        assert_eq!(entry.pulls(), pulls, "{image}");
        // tags that are selected have to be asked for in either case
        assert_eq!(entry.images(), pulls.map(|_| Vec::new()), "{image}");
    }
}

fn digest() -> Digest {
    format!("sha256:{HEX}").parse().unwrap()
}

#[test]
fn a_mirrored_and_cached_image_has_targets_only_where_it_is_mirrored() {
    let text = format!(
        "{CACHES}[[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\nretag = \"{{tag}}-{{digest8}}\"\nvia = \"auto\"\n"
    );
    let config = with_ecr(&text);
    let entry = &config.entries[0];
    assert!(entry.images().is_none(), "its tag is made of a digest");
    let image = entry.image(&"1".parse().unwrap(), Some(&digest())).unwrap();
    let targets: Vec<_> =
        image.targets.iter().map(|it| (it.destination.0, it.tag.as_str())).collect();
    assert_eq!(targets, [(1, "1-e3b0c442")]);
    assert_eq!(entry.pulls(), Some(vec![TagOrDigest::Tag("1".parse().unwrap())]));
}

#[test]
fn flatten_of_the_defaults_does_not_apply_to_cached_images() {
    let config = with_ecr(
        "[defaults]\nvia = \"auto\"\nflatten = true\n[[pull_through]]\nupstream = \"quay\"\n\
         [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\n\
         [[image]]\nsource = \"gcr.io/a/b\"\ntags = [\"1\"]\nplatforms = [\"linux/amd64\"]\n",
    );
    let shapes: Vec<_> = config.entries.iter().map(|entry| entry.filter.shape).collect();
    assert_eq!(shapes, [Shape::Index, Shape::Flat]);
}

#[test]
fn ecr_can_create_repositories_on_push() {
    let config = with_ecr(
        "[destination.repositories]\ncreate = \"on-push\"\ntag_mutability = \"immutable\"\n\
         lifecycle = { keep_newest = 5 }\nencryption = { type = \"aes256\" }\n",
    );
    let repositories = &config.destinations[0].repositories;
    assert_eq!(repositories.create, Create::OnPush);
    assert!(!repositories.create.is_ours());
}

#[test]
fn a_registry_has_at_most_50_rules() {
    let rule = |n| format!("[[pull_through]]\nupstream = \"quay\"\nprefix = \"q{n:02}\"\n");
    let rules = |count| format!("{EU}{}", (0..count).map(rule).collect::<String>());
    assert_eq!(parse(&rules(50)).unwrap().caches.len(), 50);
    let error = parse(&rules(51)).unwrap_err().to_string();
    assert!(error.starts_with("error: mirror.toml:154:12\n"), "{error}");
    assert!(error.contains("^ exceeds the 50 rules that a registry can have\nhint: "), "{error}");
}

#[test]
fn sensible_settings_cause_no_warning() {
    for rest in [
        "[[pull_through]]\nupstream = \"quay\"\n[pull_through.template]\ntag_mutability = \"mutable\"\n",
        "[[pull_through]]\nupstream = \"quay\"\n[pull_through.template]\n\
         tag_mutability = \"immutable\"\nexclusions = [\"latest\"]\n",
        "[[pull_through]]\nupstream = \"quay\"\ntemplate.lifecycle = { keep_newest = 5 }\n",
        "[[pull_through]]\nupstream = \"quay\"\nprefix = \"ROOT\"\ntemplate.lifecycle = { keep_newest = 50 }\n",
        "[[pull_through]]\nupstream = \"quay\"\nprefix = \"ROOT\"\ntemplate.lifecycle = { expire_after_days = 5 }\n",
        "[[pull_through]]\nupstream = \"quay\"\nprefix = \"ab\"\n\
         [[pull_through]]\nupstream = \"k8s\"\nprefix = \"abc/d\"\n",
        // below a prefix, and at another registry
        "name = \"eu\"\n[[destination]]\nregistry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\nname = \"us\"\n\
         [[pull_through]]\nupstream = \"quay\"\nprefix = \"aa\"\ndestinations = [\"eu\"]\n\
         [[pull_through]]\nupstream = \"k8s\"\nprefix = \"aa/b\"\ndestinations = [\"us\"]\n\
         [[image]]\nsource = \"nginx\"\nrepository = \"aa/nginx\"\ntags = [\"1\"]\ndestinations = [\"us\"]\n",
        &format!(
            "prefix = \"mirror\"\n[[pull_through]]\nupstream = \"docker-hub\"\n{LOGIN}\
             [[image]]\nsource = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub/library/nginx\"\ntags = [\"1\"]\n\
             [[image]]\nsource = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com/app\"\ntags = [\"1\"]\n"
        ),
    ] {
        assert_eq!(with_ecr(rest).warnings, [] as [&str; 0], "{rest}");
    }
}

#[test]
fn the_examples_are_valid_short_and_without_warnings() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/pull-through");
    let environment = |name: &str| {
        Some(match name {
            "ECR_REGISTRY" => "123456789012.dkr.ecr.eu-west-1.amazonaws.com".to_owned(),
            "AWS_ORGANIZATION" => "o-a1b2c3d4e5".to_owned(),
            "UPSTREAM_REGISTRY" => "210987654321.dkr.ecr.eu-west-1.amazonaws.com".to_owned(),
            "PULL_ROLE_ARN" => "arn:aws:iam::123456789012:role/ecr-pull-through".to_owned(),
            _ => "value".to_owned(),
        })
    };
    let mut shown: Vec<&str> = Vec::new();
    for upstream in Upstream::all() {
        let path = directory.join(upstream.name()).with_extension("toml");
        let config = Config::load(&[&path], &environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.warnings, [] as [&str; 0], "{}", path.display());
        assert!(config.caches.iter().any(|cache| cache.upstream == upstream));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ") && text.lines().count() <= 15, "{}", path.display());
        shown.push(upstream.name());
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), shown.len(), "each is of an upstream");

    let text = fs::read_to_string(directory.join("docker-hub.toml")).unwrap();
    assert!(text.lines().count() <= 12);
    let hub =
        Config::load(&[directory.join("docker-hub.toml")], &environment).unwrap().caches.remove(0);
    assert!(matches!(hub.credentials, UpstreamCredentials::Written { .. }));
    assert!(hub.template.unwrap().settings.lifecycle.is_some());
    assert!(hub.access.unwrap().organization.is_some());
}
