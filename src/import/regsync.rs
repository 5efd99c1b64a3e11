//! Reads regsync's configuration.
//!
//! Source: regclient, `cmd/regsync/config.go` and `root.go`; <https://regclient.org/usage/regsync/>.

use super::{
    patterns,
    ranges::{Dialect, Patterns},
    wish::{
        Choice, EntryKeys, ImportedLogin, ImportedSecret, Input, Name,
        NoEquivalent::{self, Hand, Note, Silent},
        TagWish, Wish, list, string,
    },
    yaml::{Node, YamlField},
};
use crate::model::{Host, Reference, Tag};

const SCHEDULE: &str = "run `ecr-mirror sync` from a scheduler";
const REFERRERS: &str = "referrers are copied from the source of the image to its target";

/// The keys of `defaults` and of an entry that are not translated.
pub(super) const NO_EQUIVALENT: [(&str, NoEquivalent); 15] = [
    ("backup", Hand("the old image of a tag is not kept; use an immutable tag or a lifecycle")),
    ("interval", Note(SCHEDULE)),
    ("schedule", Note(SCHEDULE)),
    ("parallel", Note("`sync --concurrency` limits parallel transfers")),
    ("referrerSource", Hand(REFERRERS)),
    ("referrerTarget", Hand(REFERRERS)),
    ("referrerSlow", Silent),
    ("fastCheck", Silent),
    ("forceRecursive", Note("`sync --deep` checks every manifest and blob")),
    ("mediaTypes", Note("images of every media type are mirrored")),
    ("hooks", Hand("no command runs before or after an image")),
    ("blobLimit", Silent),
    ("cacheCount", Silent),
    ("cacheTime", Silent),
    ("userAgent", Silent),
];

pub(super) const NO_EQUIVALENT_LOGIN: [(&str, NoEquivalent); 15] = [
    ("hostname", Hand("the registry is addressed by its name; write the host in `[images]`")),
    ("pathPrefix", Hand("write the prefix in `[images]`")),
    ("regcert", Hand("save the certificate to a file and name it with `ca_file`")),
    ("clientCert", Hand("save the certificate to a file and name it with `client_cert_file`")),
    ("clientKey", Hand("save the key to a file and name it with `client_key_file`")),
    ("credHelper", Note("credential helpers are read from Docker's configuration")),
    ("credExpire", Silent),
    ("credHost", Hand("name a token service on another host with `auth_host`")),
    ("repoAuth", Silent),
    ("blobChunk", Silent),
    ("blobMax", Silent),
    ("reqPerSec", Note("`max_connections` limits a registry")),
    ("scheme", Silent),
    ("priority", Silent),
    ("apiOpts", Silent),
];

pub(super) fn is_regsync(root: &Node) -> bool {
    root.get("sync").is_some()
}

pub(super) fn read(root: &Node, input: &mut Input<'_>) {
    let defaults = root.get("defaults");
    for YamlField { key, line, value } in root.fields() {
        match key.as_str() {
            "version" => {}
            "creds" => value.items().iter().for_each(|item| login(item, input)),
            "defaults" => read_defaults(value, input),
            "sync" => {
                for item in value.items() {
                    entry(item, defaults, input);
                }
            }
            _ => input.unknown(key, *line),
        }
    }
}

fn read_defaults(table: &Node, input: &mut Input<'_>) {
    for YamlField { key, line, value } in table.fields() {
        match key.as_str() {
            "skipDockerConfig" if value.is_true() => {
                input.note(*line, "`skipDockerConfig`: Docker's configuration is read");
            }
            "ratelimit" => rate_limit(value, &Host::DOCKER_HUB.parse().expect("is a host"), input),
            // every entry reads these
            "digestTags" | "referrers" | "referrerFilters" | "includeExternal"
            | "skipDockerConfig" => {}
            _ if input.has_no_equivalent(key, *line, &NO_EQUIVALENT) => {}
            _ => input.unknown(key, *line),
        }
    }
}

/// regsync waits until this many pulls are left, ecr-mirror defers the images.
fn rate_limit(table: &Node, host: &Host, input: &mut Input<'_>) {
    if let Some(pulls) = table.text_of("min").and_then(|text| text.parse::<u32>().ok()) {
        let known = input.registry(host.clone()).entry("reserve_pulls").or_default();
        *known = known.parse::<u32>().unwrap_or_default().max(pulls).to_string();
    }
    if let Some(retry) = table.get("retry") {
        let message =
            "`ratelimit.retry`: no wait, images beyond the limit are left to the next run";
        input.note(retry.line, message);
    }
}

fn entry(table: &Node, defaults: Option<&Node>, input: &mut Input<'_>) {
    let kind = table.text_of("type").unwrap_or_default();
    if kind == "registry" {
        let message =
            "`type: registry` copies every repository of a registry: list the repositories";
        return input.hand(table.line, message);
    }
    let (mut source, mut target) = (None, None);
    for YamlField { key, line, value } in table.fields() {
        match key.as_str() {
            "source" => source = value.text().and_then(|text| input.reference(text, *line)),
            "target" => target = value.text().and_then(|text| input.reference(text, *line)),
            "type" | "tags" | "tagSets" | "repos" | "platform" | "platforms" | "ratelimit"
            | "digestTags" | "referrers" | "referrerFilters" | "includeExternal" => {}
            _ if input.has_no_equivalent(key, *line, &NO_EQUIVALENT) => {}
            _ => input.unknown(key, *line),
        }
    }
    let (Some(source), Some(target)) = (source, target) else { return };
    if let Some(table) = table.get("ratelimit") {
        rate_limit(table, &source.host, input);
    }
    let keys = keys(table, defaults, input);
    let path = target.repository.as_str();
    let Some(place) = input.target(&target.host, path, table.line) else { return };
    let wish = Wish {
        host: source.host.clone(),
        repository: source.repository.clone(),
        tags: Vec::new(),
        target: Some(place),
        keys,
    };
    match kind {
        "image" => {
            let tags = vec![image(&source, &target)];
            input.found.wishes.push(Wish { tags, ..wish });
        }
        "repository" => {
            for choice in tag_sets(table, input) {
                input.found.wishes.push(wish.clone().with(choice));
            }
        }
        _ => input.hand(table.line, "`type` must be `image` or `repository`, left out"),
    }
}

/// The one image of an entry. Without a tag it is `latest`.
fn image(source: &Reference, target: &Reference) -> TagWish {
    let latest = || "latest".parse::<Tag>().expect("is a tag");
    let to = target.tag.clone().unwrap_or_else(latest);
    match &source.digest {
        Some(digest) => TagWish::pinned(Some(to), digest.clone()),
        None => {
            let tag = source.tag.clone().unwrap_or_else(latest);
            let renamed = (tag != to).then_some(to);
            TagWish { renamed, ..TagWish::plain(tag) }
        }
    }
}

/// The keys that do not select tags.
fn keys(table: &Node, defaults: Option<&Node>, input: &mut Input<'_>) -> EntryKeys {
    let inherited = |key| table.get(key).or_else(|| defaults?.get(key));
    let mut keys = EntryKeys::new();
    if let Some(platforms) = table.get("platforms") {
        input.platforms(&mut keys, &platforms.texts());
    }
    if let Some(platform) = table.get("platform") {
        input.platforms(&mut keys, &platform.texts());
        if keys.contains_key("platforms") {
            keys.insert("flatten", "true".to_owned());
        }
    }
    if inherited("includeExternal").is_some_and(Node::is_true) {
        keys.insert("foreign_layers", string("copy"));
    }
    let is_on = |key| inherited(key).is_some_and(Node::is_true);
    if is_on("digestTags") || is_on("referrers") {
        let filters = inherited("referrerFilters").map(Node::items).unwrap_or_default();
        let types: Vec<&str> =
            filters.iter().filter_map(|filter| filter.text_of("artifactType")).collect();
        if let Some(filter) = filters.iter().find(|filter| filter.get("annotations").is_some()) {
            let message = "`referrerFilters.annotations`: referrers are selected by type only";
            input.hand(filter.line, message);
        }
        let only_types = !types.is_empty() && types.len() == filters.len() && !is_on("digestTags");
        keys.insert("signatures", if only_types { list(&types) } else { string("all") });
    }
    keys
}

/// The tags of an entry, for each of its sets; every tag without one.
fn tag_sets(table: &Node, input: &mut Input<'_>) -> Vec<Choice> {
    let own = table.get("tags").into_iter();
    let more = table.get("tagSets").map(Node::items).unwrap_or_default();
    let sets: Vec<&Node> = own.chain(more.iter().map(|set| &**set)).collect();
    let is_empty = |set: &&Node| set.fields().iter().all(|field| field.value.texts().is_empty());
    match sets.iter().all(is_empty) {
        true => vec![Choice::every_tag()],
        false => {
            sets.iter().filter(|set| !is_empty(set)).flat_map(|set| tag_set(set, input)).collect()
        }
    }
}

fn tag_set(set: &Node, input: &mut Input<'_>) -> Vec<Choice> {
    let texts = |key| set.get(key).map(Node::texts).unwrap_or_default();
    for field in set.fields() {
        if !["allow", "deny", "semverRange"].contains(&field.key.as_str()) {
            input.unknown(&field.key, field.line);
        }
    }
    let [allow, deny, mut ranges] = ["allow", "deny", "semverRange"].map(texts);
    ranges.retain(|(text, _)| !text.trim().is_empty());
    let tags: Option<Vec<Tag>> = allow.iter().map(|(text, _)| patterns::literal(text)).collect();
    if let (Some(tags), false, true) =
        (tags, allow.is_empty(), deny.is_empty() && ranges.is_empty())
    {
        return vec![Choice::tags(tags.into_iter().map(TagWish::plain).collect())];
    }
    let Some(allow) = input.patterns(&allow, patterns::between_anchors) else { return Vec::new() };
    let Some(deny) = input.patterns(&deny, patterns::between_anchors) else { return Vec::new() };
    let patterns = Patterns { allow, deny };
    match (ranges.is_empty(), patterns.allow.is_empty()) {
        (false, _) => input.ranges(Dialect::Regclient, &ranges, &patterns),
        (true, true) => vec![Choice::select(patterns.keys(&[".*".to_owned()], Vec::new()))],
        (true, false) => vec![Choice::select(patterns.keys(&patterns.allow, Vec::new()))],
    }
}

fn login(table: &Node, input: &mut Input<'_>) {
    let Some(registry) = table.text_of("registry") else {
        return input.hand(table.line, "`creds` without `registry`, left out");
    };
    let Ok(host) = registry.parse::<Host>() else {
        return input.hand(table.line, "`registry` is not a host, left out");
    };
    let mut secrets = (None, None);
    for YamlField { key, line, value } in table.fields() {
        match key.as_str() {
            "registry" => {}
            "user" => secrets.0 = value.text().zip(Some(*line)),
            "pass" => secrets.1 = value.text(),
            "tls" => match value.text() {
                Some("disabled") => {
                    input.registry(host.clone()).insert("plain_http", "true".to_owned());
                }
                Some("insecure") => {
                    let message =
                        "`tls: insecure`: certificates are always verified; name a `ca_file`";
                    input.hand(*line, message);
                }
                _ => {}
            },
            "mirrors" => {
                let mirrors = value.texts().into_iter().map(|(text, _)| text);
                let mirrors: Vec<&str> = mirrors.filter(|it| it.parse::<Host>().is_ok()).collect();
                if !mirrors.is_empty() {
                    input.registry(host.clone()).insert("mirrors", list(&mirrors));
                }
            }
            "reqConcurrent" => {
                let count = value.text().and_then(|text| text.parse::<u32>().ok());
                if let Some(count) = count.filter(|count| *count > 0) {
                    input.registry(host.clone()).insert("max_connections", count.to_string());
                }
            }
            _ if input.has_no_equivalent(key, *line, &NO_EQUIVALENT_LOGIN) => {}
            _ => input.unknown(key, *line),
        }
    }
    if let (Some((user, line)), Some(pass)) = secrets {
        let username = match environment(user) {
            Some(name) => Name::Variable(name),
            None if user.contains("{{") => Name::Variable("REGISTRY_USERNAME".to_owned()),
            None => Name::Written(user),
        };
        let password = environment(pass).map_or(ImportedSecret::Written, ImportedSecret::Variable);
        input.login(&host, line, ImportedLogin { username, password });
    }
}

/// The variable of a template like `{{env "HUB_USER"}}`.
fn environment(text: &str) -> Option<String> {
    let template = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let name = template.strip_prefix("env")?.trim().trim_matches(['"', '`', '\'']);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_valid = name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit());
    (is_valid && !name.is_empty()).then(|| name.to_owned())
}
