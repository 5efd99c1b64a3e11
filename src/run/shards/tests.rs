//! Properties of the assignment, over random configurations.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const DESTINATIONS: &str = "[[destination]]\nname = \"eu\"\nprefix = \"mirror\"\n\
    registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
    rates = { put_image = 100 }\n[destination.account]\nblob_mounting = true\n\
    [[destination]]\nname = \"us\"\nregistry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n\n";

fn config(images: &str) -> Config {
    let text = format!("{DESTINATIONS}{images}");
    Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap()
}

fn image(source: &str, keys: &str) -> String {
    format!("[[image]]\nsource = \"{source}\"\n{keys}\n")
}

fn shard(index: u32, of: u32) -> Shard {
    Shard { index, of: NonZeroU32::new(of).unwrap() }
}

fn parts(config: &Config, of: u32, division: Division<'_>) -> Vec<(Config, ShardPart)> {
    let part = |index| {
        let part = ShardPart::of(config, shard(index, of), division).unwrap();
        (part.of_expanded(config.clone()).unwrap(), part)
    };
    (1..=of).map(part).collect()
}

/// Every source repository and destination repository of the configuration.
fn nodes(config: &Config) -> BTreeSet<String> {
    let of = |entry: &Entry| {
        let targets = entry.targets().map(|(id, repository)| format!("{id:?} {repository}"));
        targets.chain([format!("{}/{}", entry.host, entry.repository)]).collect::<Vec<_>>()
    };
    config.entries.iter().flat_map(of).collect()
}

/// One random entry: its source, its destination repository if it has one, and its tags.
type RandomEntry = (usize, Option<usize>, usize);

fn random(entries: &[RandomEntry]) -> Config {
    let entry = |(at, (source, target, tags)): (usize, &RandomEntry)| {
        let tags: Vec<String> = (0..=*tags).map(|tag| format!("\"{at}-{tag}\"")).collect();
        let target = target.map(|it| format!("repository = \"t{it}\"\n")).unwrap_or_default();
        image(&format!("quay.io/team/s{source}"), &format!("{target}tags = [{}]", tags.join(", ")))
    };
    config(&entries.iter().enumerate().map(entry).collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_entry_is_in_one_shard_and_no_repository_is_in_two(
        entries in prop::collection::vec((0..30usize, prop::option::of(0..15usize), 0..6usize), 1..40),
        of in 1..9u32,
    ) {
        let config = random(&entries);
        let parts = parts(&config, of, Division::default());
        let all = |config: &Config| {
            let names = config.entries.iter().map(|entry| format!("{entry:?}"));
            names.collect::<Vec<_>>()
        };
        let mut assigned: Vec<String> = parts.iter().flat_map(|(config, _)| all(config)).collect();
        let mut whole = all(&config);
        assigned.sort();
        whole.sort();
        prop_assert_eq!(assigned, whole);
        let mut seen = BTreeSet::new();
        for (config, _) in &parts {
            for node in nodes(config) {
                prop_assert!(seen.insert(node.clone()), "{} is in two shards", node);
            }
        }
        // the heaviest exceeds the lightest by at most one group
        let groups = groups(&config, &ShardItem::all(&config, Division::default()).unwrap(), None);
        let most = groups.iter().map(|group| group.weight).max().unwrap();
        let weights = assign(groups, NonZeroU32::new(of).unwrap());
        let weights = weights.iter().map(|shard| shard.weight);
        prop_assert!(weights.clone().max().unwrap() - weights.min().unwrap() <= most);
    }

    #[test]
    fn the_order_of_the_entries_does_not_change_the_assignment(
        mut entries in prop::collection::vec((0..30usize, prop::option::of(0..15usize), Just(0usize)), 1..20),
        of in 1..5u32,
    ) {
        let shards = |entries: &[RandomEntry]| {
            let parts = parts(&random(entries), of, Division::default());
            parts.iter().map(|(config, _)| nodes(config)).collect::<Vec<_>>()
        };
        let before = shards(&entries);
        entries.reverse();
        prop_assert_eq!(before, shards(&entries));
    }
}

/// About three tags a repository, as many images as this.
fn long_list(images: usize) -> Config {
    let (mut text, mut left, mut at) = (String::new(), images, 0);
    while left > 0 {
        let tags = [1, 1, 2, 3, 4, 6][at * 7 % 6].min(left);
        let names: Vec<String> = (0..tags).map(|tag| format!("\"{tag}\"")).collect();
        text += &image(
            &format!("quay.io/org{}/app{at}", at % 20),
            &format!("tags = [{}]", names.join(", ")),
        );
        left -= tags;
        at += 1;
    }
    config(&text)
}

#[test]
fn the_heaviest_of_eight_shards_has_at_most_a_tenth_more_than_the_mean() {
    let config = long_list(2_500);
    let items = ShardItem::all(&config, Division::default()).unwrap();
    let shards = assign(groups(&config, &items, None), NonZeroU32::new(8).unwrap());
    let weights: Vec<u64> = shards.iter().map(|shard| shard.weight).collect();
    let mean = weights.iter().sum::<u64>() as f64 / 8.0;
    assert!(*weights.iter().max().unwrap() as f64 <= 1.1 * mean, "{weights:?}");
}

#[test]
fn rates_and_pulls_are_divided_among_the_shards_that_use_them() {
    let only_eu = "tags = [\"1\"]\ndestinations = [\"eu\"]";
    let images = (0..4).map(|at| image(&format!("quay.io/team/app{at}"), only_eu));
    let images = images.collect::<String>() + &image("nginx", "tags = [\"1\"]");
    let config = config(&images);
    for (of, in_eu, in_us, of_docker_hub) in
        [(1, 1, 1, 1), (2, 2, 1, 1), (5, 5, 1, 1), (8, 5, 1, 1)]
    {
        let parts = parts(&config, of, Division::default());
        for (index, (config, _)) in parts.iter().enumerate() {
            let [eu, us] = &config.destinations[..] else { panic!("two destinations") };
            assert_eq!(eu.rates.steady("PutImage"), Some(80.0 / f64::from(in_eu)), "{of}");
            assert_eq!(us.rates.steady("PutImage"), Some(8.0 / f64::from(in_us)), "{of}");
            let host: Host = "docker.io".parse().unwrap();
            assert_eq!(config.pull_shares[&host].get(), of_docker_hub, "{of}");
            assert_eq!(eu.account.is_empty(), index > 0, "only the first shard sets the account");
        }
    }
    let own = Division { pulls: ShardPulls::Own, ..Division::default() };
    assert!(parts(&config, 4, own).iter().all(|(config, _)| config.pull_shares.is_empty()));
}

#[test]
fn all_shards_name_one_configuration_and_another_configuration_has_another_name() {
    let images = image("quay.io/team/a", "tags = [\"1\"]") + &image("nginx", "tags = [\"1\"]");
    let config = config(&images);
    let names = |config: &Config, division: Division<'_>| {
        let parts = parts(config, 3, division);
        parts.into_iter().map(|(_, part)| part.shard.configuration).collect::<BTreeSet<_>>()
    };
    let whole = names(&config, Division::default());
    assert_eq!(whole.len(), 1);
    let only = ["nginx".to_owned()];
    let narrow = names(&config, Division { only: &only, ..Division::default() });
    assert_eq!((narrow.len(), narrow == whole), (1, false));
    let mut other = config.clone();
    other.entries.pop();
    assert_ne!(names(&other, Division::default()), whole);
}

#[test]
fn a_report_replaces_the_estimate_of_the_images_that_it_names() {
    for (reference, repository) in [
        ("quay.io/team/a:1", "quay.io/team/a"),
        ("localhost:5000/a:1", "localhost:5000/a"),
        ("localhost:5000/a", "localhost:5000/a"),
        ("quay.io/team/a:1@sha256:00", "quay.io/team/a"),
    ] {
        assert_eq!(repository_of(reference), repository);
    }
    let images =
        ["a", "b", "c"].map(|name| image(&format!("quay.io/team/{name}"), "tags = [\"1\"]"));
    let config = config(&images.concat());
    let items = ShardItem::all(&config, Division::default()).unwrap();
    let mut report = crate::output::table::tests::report();
    let moved = report.images[0].clone();
    report.images = [("a", 1 << 30), ("b", 0)]
        .map(|(name, bytes)| crate::model::outcome::Row {
            name: format!("team/{name}"),
            source: format!("quay.io/team/{name}:1"),
            bytes_pushed: Some(bytes),
            ..moved.clone()
        })
        .to_vec();
    let unit = BYTES_OF_A_PLATFORM;
    assert_eq!(weights(&items, Some(&report)), [unit + (1 << 30), unit, ALL_PLATFORMS * unit]);
    assert_eq!(weights(&items, None), [ALL_PLATFORMS; 3]);
}

#[test]
fn a_source_with_a_wildcard_is_one_group_that_one_shard_lists() {
    let text = image("ghcr.io/org/*", "select = { newest = 3 }\nat_most = 20")
        + &image("quay.io/lib/*", "tags = [\"1\"]\nat_most = 5\ndestinations = [\"us\"]")
        // of the first namespace, and at its destination
        + &image("ghcr.io/org/app", "tags = [\"old\"]")
        + &image("quay.io/other/app", "tags = [\"1\"]\nrepository = \"org/app2\"")
        + &(0..6).map(|at| image(&format!("quay.io/team/a{at}"), "tags = [\"1\"]")).collect::<String>();
    let config = config(&text);
    let items = ShardItem::all(&config, Division::default()).unwrap();
    let groups = groups(&config, &items, None);
    let mut shown: Vec<(&str, u64)> = groups.iter().map(|it| (&*it.name, it.weight)).collect();
    shown.sort();
    assert_eq!(shown[..2], [("ghcr.io/org/*", 20 + 4 + 4), ("quay.io/lib/*", 5)]);
    assert_eq!((shown.len(), shown[2]), (8, ("quay.io/team/a0", 4)));
    // what the registries list, for the shards that ask them
    let names = |names: &[&str]| {
        crate::config::KnownRepositories::All(
            names.iter().map(|name| name.parse().unwrap()).collect(),
        )
    };
    let listed = [
        (("ghcr.io", "org"), names(&["org/app", "org/app2", "org/deep/app"])),
        (("quay.io", "lib"), names(&["lib/one"])),
    ];
    let place = |host: &str, namespace: &str| (host.parse().unwrap(), namespace.parse().unwrap());
    let listed = listed.into_iter().map(|((host, namespace), all)| (place(host, namespace), all));
    let listed: crate::config::ListedRepositories = listed.collect();
    let mut all: Vec<String> = Vec::new();
    let mut asked = Vec::new();
    let of = 3;
    for index in 1..=of {
        let part = ShardPart::of(&config, shard(index, of), Division::default()).unwrap();
        let own = part.without_other_wildcards(config.clone());
        let keys = own.wildcards.iter().map(|it| (it.host.clone(), it.namespace.clone()));
        let listed = keys.map(|key| (key.clone(), listed[&key].clone())).collect();
        asked.extend(own.wildcards.iter().map(Wildcard::full_source));
        let config = part.of_expanded(own.expanded(&listed, &|_| None).unwrap()).unwrap();
        all.extend(config.entries.iter().map(|it| format!("{}/{}", it.host, it.repository)));
        assert!(config.wildcards.is_empty());
    }
    asked.sort();
    assert_eq!(asked, ["ghcr.io/org/*", "quay.io/lib/*"]);
    all.sort();
    let whole = config.expanded(&listed, &|_| None).unwrap().entries;
    let mut whole: Vec<String> =
        whole.iter().map(|it| format!("{}/{}", it.host, it.repository)).collect();
    whole.sort();
    assert_eq!(all, whole);
    let only = ["ghcr.io/org/app2".to_owned()];
    let division = Division { only: &only, ..Division::default() };
    let items = ShardItem::all(&config, division).unwrap();
    assert_eq!(items.iter().map(|it| it.source()).collect::<Vec<_>>(), ["ghcr.io/org/*"]);
    // only the shard that lists the source can see that no repository has the name
    let failures = |name: &str| {
        let only = [name.to_owned()];
        let division = Division { only: &only, ..Division::default() };
        let fails = |index: u32| {
            let part = ShardPart::of(&config, shard(index, of), division).unwrap();
            let own = part.without_other_wildcards(config.clone());
            let keys = own.wildcards.iter().map(|it| (it.host.clone(), it.namespace.clone()));
            let listed = keys.map(|key| (key.clone(), listed[&key].clone())).collect();
            let expanded = own.expanded(&listed, &|_| None).unwrap();
            let error = part.of_expanded(expanded).err()?;
            assert!(error.chain()[0].contains(&format!("`--only {name}`")), "{error:?}");
            Some(index)
        };
        (1..=of).filter_map(fails).count()
    };
    assert_eq!(failures("ghcr.io/org/nosuch"), 1);
    assert_eq!(failures("ghcr.io/org/app2"), 0);
}
