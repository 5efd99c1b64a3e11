//! `[destination.repositories]`: which ECR repositories are made, and what they are like.
//!
//! Guards ECR's own limits, so that a setting it would refuse is shown where it is written and
//! not when the first repository is made.

use std::collections::BTreeMap;

use super::{
    FileContext, RepositoryRules,
    document::{Keys, Table, Text},
    policies,
    problem::{Problem, Span},
};
use crate::model::{
    Create, NameError,
    ecr_settings::{Encryption, Reconcile, RepositorySettings, TagMutability},
};

const KEYS: Keys = Keys {
    title: "`[destination.repositories]`",
    names: &[
        "create",
        "reconcile",
        "tag_mutability",
        "exclusions",
        "scan_on_push",
        "encryption",
        "tags",
        "lifecycle",
        "lifecycle_file",
        "policy",
        "policy_file",
    ],
};

const ENCRYPTION: Keys =
    Keys { title: "`encryption = { type = \"kms\", key = \"…\" }`", names: &["type", "key"] };

/// Exclusion filters of a repository, at most. Source: ECR API model.
const MAX_EXCLUSIONS: usize = 5;
/// Resource tags, at most, and how long their halves may be. Source: ECR API model.
const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;
/// The longest name of a KMS key. Source: ECR API model.
const MAX_KEY: usize = 2048;

/// Reads the table inside a destination of this AWS partition.
pub(super) fn read(
    destination: &Table<'_>,
    around: &FileContext<'_>,
    partition: &str,
) -> Result<RepositoryRules, Problem> {
    let Some(table) = destination.table("repositories", &KEYS)? else {
        return Ok(RepositoryRules::default());
    };
    let settings = RepositorySettings {
        mutability: mutability(&table)?,
        scan_on_push: table.switch("scan_on_push")?.map(|(on, _)| on),
        encryption: encryption(&table)?,
        tags: tags(&table)?,
        lifecycle: policies::lifecycle(&table, around, policies::OF_REPOSITORY)?,
        policy: policies::access(&table, around, Some(partition))?,
    };
    let create = create(&table, &settings)?;
    let reconcile = match table.switch("reconcile")? {
        Some((true, _)) => Reconcile::Always,
        Some((false, _)) | None => Reconcile::Never,
    };
    Ok(RepositoryRules { create, reconcile, settings })
}

/// Who makes what is missing.
fn create(table: &Table<'_>, settings: &RepositorySettings) -> Result<Create, Problem> {
    let word = if table.is_string("create") { table.text("create")? } else { None };
    if let Some(text) = word {
        return match &*text {
            "on-push" => on_push(table, settings),
            _ => Err(Problem::at(&text.span, "neither `true`, `false` nor `\"on-push\"`")),
        };
    }
    Ok(match table.switch("create")? {
        Some((false, _)) => Create::Never,
        Some((true, _)) => Create::Missing,
        // whoever writes what repositories are like does not want a template to say it
        None if !settings.is_empty() => Create::Missing,
        None => Create::Unclaimed,
    })
}

/// ECR itself; then nothing can be wanted that a creation template does not give without a role.
fn on_push(table: &Table<'_>, settings: &RepositorySettings) -> Result<Create, Problem> {
    const HINT: &str = "write `create = true`, which makes them like this before the first push";
    if let Some(span) = needing_role(table, settings) {
        let label = "takes a role where ECR makes repositories on push, and a destination has none";
        return Err(Problem::at(&span, label).hint(HINT));
    }
    match table.place("scan_on_push") {
        Some(span) => {
            Err(Problem::at(&span, "not known to repositories that ECR makes on push").hint(HINT))
        }
        None => Ok(Create::OnPush),
    }
}

/// The setting that ECR gives a repository only in the name of a role, where it makes it itself.
///
/// Source: ECR user guide, "Repository creation templates".
pub(super) fn needing_role(table: &Table<'_>, settings: &RepositorySettings) -> Option<Span> {
    let tags = table.place("tags").filter(|_| !settings.tags.is_empty());
    let is_kms = matches!(settings.encryption, Some(Encryption::Kms(_) | Encryption::KmsDsse(_)));
    tags.or(table.place("encryption").filter(|_| is_kms))
}

pub(super) fn mutability(table: &Table<'_>) -> Result<Option<TagMutability>, Problem> {
    #[derive(Clone, Copy)]
    enum Word {
        Mutable,
        Immutable,
    }
    let words = [("mutable", Word::Mutable), ("immutable", Word::Immutable)];
    let word = table.choice("tag_mutability", &words)?;
    let exclusions = table.list("exclusions")?;
    match (word, exclusions) {
        (None, None) => Ok(None),
        (None, Some((_, span))) => {
            Err(Problem::at(&span, "has no `tag_mutability` to be excluded from")
                .hint("write `tag_mutability = \"immutable\"`"))
        }
        (Some(Word::Mutable), None) => Ok(Some(TagMutability::Mutable)),
        (Some(Word::Immutable), None) => Ok(Some(TagMutability::Immutable)),
        (Some(word), Some((texts, span))) => {
            if texts.len() > MAX_EXCLUSIONS {
                let label = format!("more than the {MAX_EXCLUSIONS} exclusions ECR takes");
                return Err(Problem::at(&span, label));
            }
            let wildcards = texts.iter().map(exclusion).collect::<Result<_, _>>()?;
            Ok(Some(match word {
                Word::Mutable => TagMutability::MutableExcept(wildcards),
                Word::Immutable => TagMutability::ImmutableExcept(wildcards),
            }))
        }
    }
}

/// Source: ECR API model, `imageTagMutabilityExclusionFilterValue`.
fn exclusion(text: &Text) -> Result<String, Problem> {
    let is_ours = |b: u8| b.is_ascii_alphanumeric() || b"._*-".contains(&b);
    if (1..=128).contains(&text.len()) && text.bytes().all(is_ours) {
        return Ok(text.to_string());
    }
    Err(text.wrong(
        NameError::new("is not a wildcard of tags")
            .hint("letters, digits, `.`, `_`, `-`, and `*` for anything, like `latest*`"),
    ))
}

pub(super) fn encryption(table: &Table<'_>) -> Result<Option<Encryption>, Problem> {
    #[derive(Clone, Copy)]
    enum JsonKind {
        Aes256,
        Kms,
        KmsDsse,
    }
    let Some(table) = table.table("encryption", &ENCRYPTION)? else { return Ok(None) };
    let kinds =
        [("aes256", JsonKind::Aes256), ("kms", JsonKind::Kms), ("kms_dsse", JsonKind::KmsDsse)];
    let Some(kind) = table.choice("type", &kinds)? else {
        return Err(Problem::at(&table.span, "has no `type`").hint("write `type = \"kms\"`"));
    };
    let key = table.word("key")?;
    if let Some(key) = &key {
        if matches!(kind, JsonKind::Aes256) {
            return Err(Problem::at(&key.span, "`aes256` has no key of its own")
                .hint("write `type = \"kms\"`, or leave `key` away"));
        }
        if key.len() > MAX_KEY {
            return Err(Problem::at(&key.span, format!("longer than {MAX_KEY} characters")));
        }
    }
    let key = key.map(|key| key.to_string());
    Ok(Some(match kind {
        JsonKind::Aes256 => Encryption::Aes256,
        JsonKind::Kms => Encryption::Kms(key),
        JsonKind::KmsDsse => Encryption::KmsDsse(key),
    }))
}

pub(super) fn tags(table: &Table<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let texts = table.texts("tags")?;
    if let (Some((_, span, _)), true) = (texts.get(MAX_TAGS), texts.len() > MAX_TAGS) {
        return Err(Problem::at(span, format!("more than the {MAX_TAGS} tags ECR takes")));
    }
    let mut tags = BTreeMap::new();
    for (key, span, value) in texts {
        if key.is_empty() || key.chars().count() > MAX_TAG_KEY || !key.chars().all(is_of_a_tag) {
            return Err(Problem::at(&span, "not the key of an AWS tag").hint(TAG));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Problem::at(&span, "keys that begin with `aws:` are AWS's own"));
        }
        if value.chars().count() > MAX_TAG_VALUE || !value.chars().all(is_of_a_tag) {
            return Err(value.wrong(NameError::new("is not the value of an AWS tag").hint(TAG)));
        }
        tags.insert(key.to_owned(), value.to_string());
    }
    Ok(tags)
}

const TAG: &str = "letters, digits, spaces and `_ . : / = + - @`: \
    a key has 1 to 128 of them, a value up to 256";

/// Source: AWS General Reference, "Tag naming limits and requirements".
fn is_of_a_tag(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)
}
