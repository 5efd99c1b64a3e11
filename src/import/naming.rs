//! Finds the naming rules of a list of images: a constant prefix, the last component of the path, the
//! registry in front.
//!
//! Pure. A rule is only chosen if every image that it does not cover has its own name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::wish::WishTarget;
use crate::model::{Host, Repository};

/// A source repository and its repository at a destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) host: Host,
    pub(super) repository: Repository,
    pub(super) target: WishTarget,
}

/// The templates that are tried, the preferred one first.
const TEMPLATES: [&str; 5] =
    ["{registry}/{repository}", "{repository}", "{registry}/{name}", "{name}", "{repository:-}"];

/// The template of repositories without a rule.
const DEFAULT: &str = "{repository}";

/// The naming rules of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rules {
    /// Prepended to every repository, without a `/` at the end.
    pub(super) prefix: String,
    /// Below the prefix; `None` for the default.
    pub(super) template: Option<String>,
    /// The templates of single source registries, below the prefix.
    pub(super) registries: BTreeMap<Host, String>,
}

impl Rules {
    /// The name below the prefix, if no rule results in it.
    pub(super) fn exception(&self, pair: &Pair) -> Option<String> {
        let template = self.registries.get(&pair.host).or(self.template.as_ref());
        let name = expand(template.map_or(DEFAULT, String::as_str), pair);
        let target = pair.target.repository.as_str();
        let below = path_below(target, &self.prefix).unwrap_or(target);
        (below != name).then(|| below.to_owned())
    }
}

/// A whole template: `prefix` and `/` precede the template, unless the prefix is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct NamingVote<'a> {
    prefix: &'a str,
    template: usize,
}

/// The rules that cover the most of these pairs, which have one destination. With `per_registry`, a
/// source registry can have a rule of its own.
pub(super) fn find(pairs: &BTreeSet<Pair>, per_registry: bool) -> Rules {
    let all: Vec<&Pair> = pairs.iter().collect();
    let common = common_prefix(&all);
    let Some(rule) = best(&all) else {
        return Rules { prefix: common.to_owned(), ..Rules::default() };
    };
    let prefix = shared(rule.prefix, common);
    let mut rules = Rules { prefix: prefix.to_owned(), ..Rules::default() };
    rules.template = below(rule, prefix).filter(|template| template != DEFAULT);
    let mut by_host: BTreeMap<&Host, Vec<&Pair>> = BTreeMap::new();
    for pair in all.iter().filter(|_| per_registry) {
        by_host.entry(&pair.host).or_default().push(pair);
    }
    for (host, pairs) in by_host {
        let missed = pairs.iter().filter(|pair| rules.exception(pair).is_some()).count();
        let own = best(&pairs).and_then(|rule| below(rule, prefix));
        let Some(own) = own.filter(|_| missed > 1) else { continue };
        rules.registries.insert(host.clone(), own);
        let still = pairs.iter().filter(|pair| rules.exception(pair).is_some()).count();
        if still + 1 >= missed {
            rules.registries.remove(host);
        }
    }
    rules
}

/// The rule that results in the most targets; none if a rule results in none of them.
fn best<'a>(pairs: &[&'a Pair]) -> Option<NamingVote<'a>> {
    let mut votes: HashMap<NamingVote<'a>, usize> = HashMap::new();
    for pair in pairs {
        for (template, text) in TEMPLATES.iter().enumerate() {
            let target = pair.target.repository.as_str();
            let rest = target.strip_suffix(&expand(text, pair));
            let prefix = rest.and_then(|rest| match rest {
                "" => Some(""),
                rest => rest.strip_suffix('/'),
            });
            if let Some(prefix) = prefix {
                *votes.entry(NamingVote { prefix, template }).or_default() += 1;
            }
        }
    }
    // a total order: equal votes are decided by the template, then by the prefix
    let best = votes.into_iter().max_by(|(one, votes), (other, others)| {
        let order = votes.cmp(others).then_with(|| other.template.cmp(&one.template));
        order.then_with(|| other.prefix.cmp(one.prefix))
    });
    best.map(|(rule, _)| rule)
}

/// The template below a prefix; `None` if the rule is not below it.
fn below(rule: NamingVote<'_>, prefix: &str) -> Option<String> {
    let template = TEMPLATES[rule.template];
    Some(match path_below(rule.prefix, prefix)? {
        "" => template.to_owned(),
        rest => format!("{rest}/{template}"),
    })
}

/// The components of a path after those of the prefix; `None` if it has others.
pub(super) fn path_below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    match path.strip_prefix(prefix)? {
        "" => Some(""),
        rest if prefix.is_empty() => Some(rest),
        rest => rest.strip_prefix('/'),
    }
}

fn expand(template: &str, pair: &Pair) -> String {
    let repository = pair.repository.as_str();
    let name = repository.rsplit('/').next().unwrap_or(repository);
    template
        .replace("{registry}", &pair.host.as_str().replace(':', "-"))
        .replace("{repository:-}", &repository.replace('/', "-"))
        .replace("{repository}", repository)
        .replace("{name}", name)
}

/// The components that all targets have in front of their last one.
fn common_prefix<'a>(pairs: &[&'a Pair]) -> &'a str {
    let parents = pairs.iter().map(|pair| {
        pair.target.repository.as_str().rsplit_once('/').map_or("", |(parent, _)| parent)
    });
    parents.reduce(shared).unwrap_or_default()
}

/// The components that both paths begin with.
fn shared<'a>(one: &'a str, other: &str) -> &'a str {
    let mut end = 0;
    for (component, same) in one.split('/').zip(other.split('/')) {
        if component != same || component.is_empty() {
            break;
        }
        end += component.len() + usize::from(end > 0);
    }
    &one[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pairs: &[(&str, &str)]) -> Rules {
        let pair = |source: &str, target: &str| {
            let source: crate::model::Reference = source.parse().unwrap();
            let target = WishTarget {
                host: "r.example".parse().unwrap(),
                repository: target.parse().unwrap(),
            };
            Pair { host: source.host, repository: source.repository, target }
        };
        let pairs: BTreeSet<Pair> =
            pairs.iter().map(|(source, target)| pair(source, target)).collect();
        let rules = find(&pairs, true);
        // a rule and its exceptions result in the targets
        for pair in &pairs {
            let template = rules.registries.get(&pair.host).or(rules.template.as_ref());
            let name = rules
                .exception(pair)
                .unwrap_or_else(|| expand(template.map_or(DEFAULT, String::as_str), pair));
            let prefix = [&rules.prefix, "/"].concat();
            let whole = [prefix.trim_start_matches('/'), &name].concat();
            assert_eq!(whole, pair.target.repository.as_str());
        }
        rules
    }

    fn shown(pairs: &[(&str, &str)]) -> String {
        let Rules { prefix, template, registries } = rules(pairs);
        let own = registries.iter().map(|(host, template)| format!(" {host}={template}"));
        format!("{prefix}|{}{}", template.as_deref().unwrap_or("-"), own.collect::<String>())
    }

    #[test]
    fn the_rule_that_covers_the_most_images_is_found() {
        for (pairs, expected) in [
            (&[("nginx", "mirror/library/nginx"), ("quay.io/a/b", "mirror/a/b")][..], "mirror|-"),
            (&[("quay.io/a/b", "mirror/b"), ("quay.io/c/d", "mirror/d")], "mirror|{name}"),
            (&[("quay.io/a/b", "b"), ("quay.io/c/d", "d")], "|{name}"),
            (
                &[("nginx", "m/docker.io/library/nginx"), ("quay.io/a/b", "m/quay.io/a/b")],
                "m|{registry}/{repository}",
            ),
            (&[("quay.io/a/b", "m/a-b"), ("quay.io/c/d", "m/c-d")], "m|{repository:-}"),
            // one image outside keeps the prefix out of the destination
            (
                &[("quay.io/a/b", "m/a/b"), ("quay.io/c/d", "m/c/d"), ("quay.io/e/f", "tools/x")],
                "|m/{repository}",
            ),
            // one registry has a rule of its own
            (
                &[
                    ("quay.io/a/b", "m/a/b"),
                    ("quay.io/c/d", "m/c/d"),
                    ("quay.io/e/f", "m/e/f"),
                    ("ghcr.io/x/y", "m/gh/y"),
                    ("ghcr.io/z/w", "m/gh/w"),
                ],
                "m|- ghcr.io=gh/{name}",
            ),
            (&[("quay.io/a/b", "other")], "|-"),
            (&[], "|-"),
        ] {
            assert_eq!(shown(pairs), expected, "{pairs:?}");
        }
    }
}
