//! Reads the YAML of `skopeo sync --src yaml`.
//!
//! The file names no destination: it is an argument of the command.
//!
//! Source: skopeo-sync(1), "YAML file content"; skopeo, `cmd/skopeo/sync.go`.

use super::{
    patterns,
    ranges::{Dialect, Patterns},
    wish::{Choice, EntryKeys, ImportedLogin, ImportedSecret, Input, Name, TagWish, Wish},
    yaml::{Node, YamlField},
};
use crate::model::{Digest, Host, Repository};

pub(super) const KEYS: [&str; 6] =
    ["images", "images-by-tag-regex", "images-by-semver", "credentials", "tls-verify", "cert-dir"];

pub(super) fn is_skopeo(root: &Node) -> bool {
    let is_registry = |table: &Node| table.fields().iter().any(|it| KEYS.contains(&&*it.key));
    root.fields().iter().any(|field| is_registry(&field.value))
}

pub(super) fn read(root: &Node, input: &mut Input<'_>) {
    for YamlField { key, line, value } in root.fields() {
        match key.parse() {
            Ok(host) => registry(&host, value, input),
            Err(error) => input.hand(*line, format!("`{key}` {error}, left out")),
        }
    }
}

fn registry(host: &Host, table: &Node, input: &mut Input<'_>) {
    for YamlField { key, line, value } in table.fields() {
        match key.as_str() {
            "images" => {
                for image in value.fields() {
                    let choice = references(&image.value, input);
                    wishes(host, image, choice, input);
                }
            }
            "images-by-tag-regex" => {
                for image in value.fields() {
                    let texts = image.value.texts();
                    let allow = input.patterns(&texts, patterns::of_part).unwrap_or_default();
                    if !allow.is_empty() {
                        let keys = Patterns::default().keys(&allow, Vec::new());
                        wishes(host, image, vec![Choice::select(keys)], input);
                    }
                }
            }
            "images-by-semver" => {
                for image in value.fields() {
                    let texts = image.value.texts();
                    let choices = input.ranges(Dialect::Masterminds, &texts, &Patterns::default());
                    wishes(host, image, choices, input);
                }
            }
            "credentials" => {
                if let (Some(user), Some(_)) =
                    (value.text_of("username"), value.text_of("password"))
                {
                    let login = ImportedLogin {
                        username: Name::Written(user),
                        password: ImportedSecret::Written,
                    };
                    input.login(host, *line, login);
                }
            }
            "tls-verify" if !value.is_true() => {
                let message = "`tls-verify: false`: certificates are always verified; name a `ca_file`, \
                     or write `plain_http = true` if the registry has no TLS";
                input.hand(*line, message);
            }
            "tls-verify" => {}
            "cert-dir" => {
                let message = "`cert-dir`: name the files with `ca_file`, `client_cert_file` and \
                     `client_key_file`";
                input.hand(*line, message);
            }
            _ => input.unknown(key, *line),
        }
    }
}

/// The tags and digests of a repository; every tag if the list is empty.
fn references(list: &Node, input: &mut Input<'_>) -> Vec<Choice> {
    let texts = list.texts();
    if texts.is_empty() {
        return vec![Choice::every_tag()];
    }
    let mut tags = Vec::new();
    for (text, line) in texts {
        if let Ok(digest) = text.parse::<Digest>() {
            input.hand(line, "a digest without a tag gets a tag: write the right one");
            tags.push(TagWish::pinned(None, digest));
        } else {
            tags.extend(input.tag(text, line).map(TagWish::plain));
        }
    }
    vec![Choice::tags(tags)]
}

fn wishes(host: &Host, image: &YamlField, choices: Vec<Choice>, input: &mut Input<'_>) {
    let Some(repository) = repository(host, image, input) else { return };
    let target = input.options.to.clone();
    let target = target.and_then(|to| {
        let path = match input.options.scoped {
            true => format!("{host}/{repository}"),
            false => repository.as_str().rsplit('/').next().unwrap_or_default().to_owned(),
        };
        input.target(&to.host, &to.path(&path), image.line)
    });
    let wish =
        Wish { host: host.clone(), repository, tags: Vec::new(), target, keys: EntryKeys::new() };
    let choices = choices.into_iter().map(|choice| wish.clone().with(choice));
    input.found.wishes.extend(choices);
}

/// The repository as Docker reads it: `docker.io/nginx` is `docker.io/library/nginx`.
fn repository(host: &Host, image: &YamlField, input: &mut Input<'_>) -> Option<Repository> {
    let reference = input.reference(&format!("{host}/{}", image.key), image.line)?;
    if reference.tag.is_some() || reference.digest.is_some() {
        input.hand(image.line, format!("`{}` must not contain a tag, left out", image.key));
        return None;
    }
    Some(reference.repository)
}
