//! Reads image-syncer's files: images, authentication, or both in one file.
//!
//! Source: image-syncer, `README.md`, `pkg/utils/url.go`, `pkg/utils/types` and `pkg/client/config.go`.

use super::{
    patterns,
    ranges::Patterns,
    wish::{
        Choice, EntryKeys, ImportedLogin, ImportedSecret, Input, Name, TagWish, Wish, WishTarget,
    },
    yaml::{Node, YamlContent, YamlField},
};
use crate::model::{Digest, Host, Tag};

/// The keys of a login.
const LOGIN: [&str; 3] = ["username", "password", "insecure"];

/// Returns `true` for a file with `images:` and `auth:`, and for the two parts of one as files of
/// their own.
pub(super) fn is_image_syncer(root: &Node) -> bool {
    let has_images = root.get("images").is_some_and(is_image_map);
    has_images || is_login_map(root) || is_image_map(root)
}

fn is_login_map(root: &Node) -> bool {
    let is_login = |table: &Node| table.fields().iter().any(|it| LOGIN.contains(&&*it.key));
    root.fields().iter().any(|field| is_login(&field.value))
}

/// Every key is a source, and every value a target or a list of targets.
fn is_image_map(root: &Node) -> bool {
    let is_target =
        |node: &Node| matches!(node.content, YamlContent::Scalar(_) | YamlContent::List(_));
    let is_image = |field: &YamlField| is_target(&field.value) && !field.key.contains(' ');
    let has_path =
        |field: &YamlField| field.value.texts().iter().any(|(text, _)| text.contains('/'));
    root.fields().iter().all(is_image) && root.fields().iter().any(has_path)
}

pub(super) fn read(root: &Node, input: &mut Input<'_>) {
    if is_login_map(root) {
        return logins(root, input);
    }
    if !root.get("images").is_some_and(Node::is_map) {
        return images(root, input);
    }
    for YamlField { key, line, value } in root.fields() {
        match key.as_str() {
            "images" => images(value, input),
            "auth" => logins(value, input),
            _ => input.unknown(key, *line),
        }
    }
}

fn images(table: &Node, input: &mut Input<'_>) {
    for YamlField { key, line, value } in table.fields() {
        for (target, line) in value.texts() {
            image(key, target, line, input);
        }
        if value.texts().is_empty() {
            input.hand(*line, format!("`{key}` has no target, left out"));
        }
    }
}

/// The tags that a source or a target names.
enum Suffix {
    None,
    Tags(Vec<Tag>),
    Digest(Digest),
    Regex(String),
}

fn image(source: &str, target: &str, line: usize, input: &mut Input<'_>) {
    let Some((source, tags)) = split(source, line, input) else { return };
    let Some((target, names)) = split(target, line, input) else { return };
    let path = target.repository.as_str();
    let Some(target) = input.target(&target.host, path, line) else { return };
    let choice = match (tags, names) {
        (Suffix::Regex(pattern), Suffix::None) => {
            let allow = input.patterns(&[(pattern.as_str(), line)], patterns::of_part);
            let Some(allow) = allow else { return };
            Choice::select(Patterns::default().keys(&allow, Vec::new()))
        }
        (Suffix::None, Suffix::None) => Choice::every_tag(),
        (Suffix::Tags(tags), Suffix::None) => {
            Choice::tags(tags.into_iter().map(TagWish::plain).collect())
        }
        (Suffix::Tags(tags), Suffix::Tags(names)) if tags.len() == names.len() => {
            let renamed = tags.into_iter().zip(names).map(|(tag, name)| {
                let renamed = (tag != name).then_some(name);
                TagWish { renamed, ..TagWish::plain(tag) }
            });
            Choice::tags(renamed.collect())
        }
        (Suffix::Digest(digest), Suffix::Tags(names)) if names.len() == 1 => {
            Choice::tags(vec![TagWish::pinned(names.into_iter().next(), digest)])
        }
        (Suffix::Digest(digest), Suffix::None | Suffix::Digest(_)) => {
            input.hand(line, "a digest without a tag gets a tag: write the right one");
            Choice::tags(vec![TagWish::pinned(None, digest)])
        }
        _ => {
            let message = "the tags of the source and of the target differ in number, left out";
            return input.hand(line, message);
        }
    };
    let wish = Wish {
        host: source.host,
        repository: source.repository,
        tags: Vec::new(),
        target: Some(target),
        keys: EntryKeys::new(),
    };
    input.found.wishes.push(wish.with(choice));
}

/// `REPOSITORY`, `REPOSITORY:TAG[,TAG…]`, `REPOSITORY@DIGEST` or `REPOSITORY:/REGEX/`.
fn split(text: &str, line: usize, input: &mut Input<'_>) -> Option<(WishTarget, Suffix)> {
    let (name, suffix) = match text.split_once(":/") {
        Some((name, regex)) => match regex.strip_suffix('/') {
            Some(regex) => (name, Suffix::Regex(regex.to_owned())),
            None => {
                input.hand(line, format!("`{text}`: the regular expression has no end, left out"));
                return None;
            }
        },
        None => {
            let (name, more) = text.split_once(',').map_or((text, None), |(a, b)| (a, Some(b)));
            let reference = input.reference(name, line)?;
            let (host, repository) = (reference.host, reference.repository);
            let suffix = match (reference.digest, reference.tag) {
                (Some(digest), _) => Suffix::Digest(digest),
                (None, Some(tag)) => {
                    let mut tags = vec![tag];
                    for tag in more.into_iter().flat_map(|more| more.split(',')) {
                        tags.push(input.tag(tag, line)?);
                    }
                    Suffix::Tags(tags)
                }
                (None, None) => Suffix::None,
            };
            return Some((WishTarget { host, repository }, suffix));
        }
    };
    let reference = input.reference(name, line)?;
    Some((WishTarget { host: reference.host, repository: reference.repository }, suffix))
}

fn logins(table: &Node, input: &mut Input<'_>) {
    for YamlField { key, line, value } in table.fields() {
        let Ok(host) = key.parse::<Host>() else {
            let message =
                "a login of one namespace: write it for the registry, or use `docker login`";
            input.hand(*line, format!("`{key}`: {message}"));
            continue;
        };
        for field in value.fields().iter().filter(|it| !LOGIN.contains(&&*it.key)) {
            input.unknown(&field.key, field.line);
        }
        if value.get("insecure").is_some_and(Node::is_true) {
            input.registry(host.clone()).insert("plain_http", "true".to_owned());
        }
        if let (Some(user), Some(password)) = (value.text_of("username"), value.text_of("password"))
        {
            let username = variable(user).map_or(Name::Written(user), Name::Variable);
            let password =
                variable(password).map_or(ImportedSecret::Written, ImportedSecret::Variable);
            input.login(&host, *line, ImportedLogin { username, password });
        }
    }
}

/// The name of a variable that is the whole text: `${NAME}` or `$NAME`.
fn variable(text: &str) -> Option<String> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_name && name.starts_with(|c: char| !c.is_ascii_digit())).then(|| name.to_owned())
}
