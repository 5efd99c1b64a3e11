//! `[destination.repositories]`: which ECR repositories are created, and their settings.
//!
//! Ensures ECR's own limits. A setting that ECR would refuse is shown where it is written, before
//! a repository is created.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use toml::de::DeTable;

use super::{
    RepositoryRules,
    context::{FileContext, ReadDestination, ReadEntry, Tables},
    document::{Keys, Table, Text},
    images::MirrorTarget,
    policies,
    problem::{Problem, Span},
};
use crate::model::{
    Create, Repository, RepositoryGlob,
    ecr_settings::{Encryption, Reconcile, RepositoryOverride, RepositorySettings, TagMutability},
};

const KEYS: Keys = Keys {
    title: "`[destination.repositories]`",
    names: "create reconcile tag_mutability exclusions scan_on_push encryption tags \
        lifecycle lifecycle_file policy policy_file",
};

const OVERRIDE: Keys = Keys { title: "`[repository.\"…\"]`", names: KEYS.names };

const ENCRYPTION: Keys =
    Keys { title: "`encryption = { type = \"kms\", key = \"…\" }`", names: "type key" };

/// Exclusion filters of a repository. Source: ECR API model.
const MAX_EXCLUSIONS: usize = 5;
/// Resource tags, and the characters of their keys and values. Source: ECR API model.
const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;
/// The longest name of a KMS key. Source: ECR API model.
const MAX_KEY: usize = 2048;

pub(super) fn read(
    destination: &Table<'_>,
    file: &FileContext<'_>,
    partition: &str,
) -> Result<RepositoryRules, Problem> {
    let Some(table) = destination.table("repositories", &KEYS)? else {
        return Ok(RepositoryRules::default());
    };
    let settings = settings(&table, file, Some(partition), policies::REPOSITORY_LIFECYCLE)?;
    let create = create(&table, &settings)?;
    let is_reconciled = table.switch("reconcile")?.unwrap_or_default();
    let reconcile = if is_reconciled { Reconcile::Always } else { Reconcile::Never };
    Ok(RepositoryRules { create, reconcile, settings, overrides: Vec::new() })
}

/// A `[repository."…"]`, and where it is written.
pub(super) struct ReadOverride {
    glob: RepositoryGlob,
    span: Span,
}

/// Reads every `[repository."…"]` into the rules of each ECR destination.
pub(super) fn overrides(
    root: &Table<'_>,
    destinations: &mut [ReadDestination],
    file: &FileContext<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<ReadOverride> {
    let named = root.entries("repository", "a table").unwrap_or_else(|problem| {
        problems.push(problem.hint(format!("write {}", OVERRIDE.title)));
        Vec::new()
    });
    let mut overrides = Vec::new();
    for (name, value) in named {
        let span = name.span();
        let glob = match name.get_ref().parse::<RepositoryGlob>() {
            Ok(glob) => glob,
            Err(error) => {
                problems.push(Problem::invalid_name(&span, error));
                continue;
            }
        };
        if !destinations.iter().any(|read| read.destination.is_ecr()) {
            let label = "applies to ECR only, and no destination is ECR";
            problems.push(Problem::at(&span, label).hint("remove the table"));
            continue;
        }
        let none = DeTable::default();
        let entries = value.get_ref().as_table().unwrap_or(&none);
        for read in destinations.iter_mut().filter(|read| read.destination.is_ecr()) {
            // a policy names accounts in the partition of the registry
            let partition = read.destination.registry.ecr().map_or("aws", |ecr| ecr.partition());
            let own = file.attempt(entries, problems, || {
                read_override(&root.open_value(value, &OVERRIDE)?, &glob, file, partition)
            });
            read.destination.repositories.overrides.extend(own);
        }
        overrides.push(ReadOverride { glob, span });
    }
    overrides
}

fn read_override(
    table: &Table<'_>,
    glob: &RepositoryGlob,
    file: &FileContext<'_>,
    partition: &str,
) -> Result<RepositoryOverride, Problem> {
    if table.is_string("create")
        && let Some(span) = table.span_of("create")
    {
        return Err(Problem::at(&span, "must be `true` or `false`")
            .hint("write `create = \"on-push\"` in `[destination.repositories]`"));
    }
    let settings = settings(table, file, Some(partition), policies::REPOSITORY_LIFECYCLE)?;
    let create = table.switch("create")?;
    let reconcile = table.switch("reconcile")?;
    Ok(RepositoryOverride {
        glob: glob.clone(),
        create: create.map(|create| if create { Create::Missing } else { Create::Never }),
        reconcile: reconcile.map(|on| if on { Reconcile::Always } else { Reconcile::Never }),
        settings,
    })
}

/// Rejects two globs that are equally specific for one repository. Warns of those without a repository.
pub(super) fn check_overrides(
    overrides: &[ReadOverride],
    entries: &[ReadEntry],
    tables: &Tables<'_>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    let targets = entries.iter().flat_map(|read| &read.entry.mirrored);
    let is_ecr = |target: &&MirrorTarget| {
        tables.destinations.read[target.destination.0].destination.is_ecr()
    };
    let repositories: BTreeSet<&Repository> =
        targets.filter(is_ecr).map(|target| &target.repository).collect();
    for repository in repositories {
        let matching = overrides.iter().enumerate().filter(|(_, it)| it.glob.matches(repository));
        let matching: Vec<(usize, &ReadOverride)> = matching.collect();
        used.extend(matching.iter().map(|(index, _)| *index));
        let longest = matching.iter().map(|(_, it)| it.glob.literal_length()).max();
        let mut best = matching.iter().filter(|(_, it)| Some(it.glob.literal_length()) == longest);
        if let (Some((_, first)), Some((_, second))) = (best.next(), best.next()) {
            let line = tables.file.line_of(&first.span);
            let label = format!("matches `{repository}`, as the table in line {line} does");
            let hint = "write more of the name before the first `*` in one of the two";
            problems.push(Problem::at(&second.span, label).hint(hint));
        }
    }
    if !tables.file.wildcards.borrow().is_empty() {
        // their repositories are not known yet
        return problems;
    }
    let unused = overrides.iter().enumerate().filter(|(index, _)| !used.contains(index));
    for (_, unused) in unused {
        let label = "no image goes to a repository that matches";
        let hint = "write the repository with the prefix of its destination, or remove the table";
        tables.file.warn(Problem::at(&unused.span, label).hint(hint));
    }
    problems
}

/// The settings of a repository or of a creation template. `lifecycle_length` limits the lifecycle
/// policy, in characters.
pub(super) fn settings(
    table: &Table<'_>,
    file: &FileContext<'_>,
    partition: Option<&str>,
    lifecycle_length: RangeInclusive<usize>,
) -> Result<RepositorySettings, Problem> {
    Ok(RepositorySettings {
        mutability: mutability(table)?,
        scan_on_push: table.switch("scan_on_push")?,
        encryption: encryption(table, file, partition)?,
        tags: tags(table)?,
        lifecycle: policies::lifecycle(table, file, lifecycle_length)?,
        policy: policies::access(table, file, partition)?,
    })
}

fn create(table: &Table<'_>, settings: &RepositorySettings) -> Result<Create, Problem> {
    let word = if table.is_string("create") { table.text("create")? } else { None };
    if let Some(text) = word {
        return match &*text {
            "on-push" => on_push(table, settings),
            _ => Err(Problem::at(&text.span, "must be `true`, `false` or `\"on-push\"`")),
        };
    }
    Ok(match table.switch("create")? {
        Some(false) => Create::Never,
        Some(true) => Create::Missing,
        // a creation template would not apply these settings
        None if !settings.is_empty() => Create::Missing,
        None => Create::Unclaimed,
    })
}

/// ECR creates the repositories: rejects the settings that need a role in a creation template.
fn on_push(table: &Table<'_>, settings: &RepositorySettings) -> Result<Create, Problem> {
    const HINT: &str =
        "write `create = true`: then this program creates the repositories with this setting";
    if let Some(span) = needing_role(table, settings) {
        let label = "cannot be combined with `create = \"on-push\"`: ECR requires a role, and a destination has none";
        return Err(Problem::at(&span, label).hint(HINT));
    }
    match table.span_of("scan_on_push") {
        Some(span) => {
            let label = "cannot be combined with `create = \"on-push\"`: ECR does not support it";
            Err(Problem::at(&span, label).hint(HINT))
        }
        None => Ok(Create::OnPush),
    }
}

/// The setting for which a creation template needs a role.
///
/// Source: ECR user guide, "Repository creation templates".
fn needing_role(table: &Table<'_>, settings: &RepositorySettings) -> Option<Span> {
    let tags = table.span_of("tags").filter(|_| !settings.tags.is_empty());
    let is_kms = matches!(settings.encryption, Some(Encryption::Kms(_) | Encryption::KmsDsse(_)));
    tags.or(table.span_of("encryption").filter(|_| is_kms))
}

fn mutability(table: &Table<'_>) -> Result<Option<TagMutability>, Problem> {
    let words = [("mutable", true), ("immutable", false)];
    let is_mutable = table.choice("tag_mutability", &words)?;
    let exclusions = table.list_up_to("exclusions", MAX_EXCLUSIONS, "exclusions")?;
    let Some(is_mutable) = is_mutable else {
        return match table.span_of("exclusions") {
            None => Ok(None),
            Some(span) => Err(Problem::needing(&span, "`exclusions` requires `tag_mutability`")
                .hint("add `tag_mutability = \"immutable\"`")),
        };
    };
    let wildcards = exclusions.map(|texts| texts.iter().map(exclusion).collect()).transpose()?;
    Ok(Some(match (is_mutable, wildcards) {
        (true, None) => TagMutability::Mutable,
        (false, None) => TagMutability::Immutable,
        (true, Some(wildcards)) => TagMutability::MutableExcept(wildcards),
        (false, Some(wildcards)) => TagMutability::ImmutableExcept(wildcards),
    }))
}

/// Source: ECR API model, `imageTagMutabilityExclusionFilterValue`; the Terraform AWS provider refuses
/// more than two `*`.
fn exclusion(text: &Text) -> Result<String, Problem> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._*-".contains(&b);
    text.checked(
        (1..=128).contains(&text.len())
            && text.bytes().all(is_allowed)
            && text.matches('*').count() <= 2,
        "is not a valid tag wildcard",
        "use letters, digits, `.`, `_`, `-`, and at most two `*` for any text, like `latest*`",
    )
}

fn encryption(
    table: &Table<'_>,
    file: &FileContext<'_>,
    partition: Option<&str>,
) -> Result<Option<Encryption>, Problem> {
    let Some(table) = table.table("encryption", &ENCRYPTION)? else { return Ok(None) };
    type Make = fn(Option<String>) -> Encryption;
    let kinds: [(&str, Make); 3] = [
        ("aes256", |_| Encryption::Aes256),
        ("kms", Encryption::Kms),
        ("kms_dsse", Encryption::KmsDsse),
    ];
    let hint = "add `type = \"kms\"` or `type = \"aes256\"`";
    let make = table.choice("type", &kinds)?.ok_or_else(|| table.missing("type", hint))?;
    let key = table.word("key")?;
    let encryption = make(key.as_ref().map(|key| key.to_string()));
    // source: ECR user guide, "Encryption at rest"
    let is_dsse = matches!(encryption, Encryption::KmsDsse(_));
    if let (true, Some(span)) = (is_dsse && partition != Some("aws-us-gov"), table.span_of("type"))
    {
        let label = "ECR offers `kms_dsse` in the AWS GovCloud (US) regions only";
        file.warn(Problem::at(&span, label).hint("write `type = \"kms\"`"));
    }
    match key {
        Some(key) if encryption == Encryption::Aes256 => {
            Err(Problem::at(&key.span, "`aes256` does not use a `key`")
                .hint("write `type = \"kms\"`, or remove `key`"))
        }
        Some(key) if key.len() > MAX_KEY => {
            Err(Problem::at(&key.span, format!("must have at most {MAX_KEY} characters")))
        }
        _ => Ok(Some(encryption)),
    }
}

fn tags(table: &Table<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let texts = table.texts("tags")?;
    if let Some((key, _)) = texts.get(MAX_TAGS) {
        return Err(Problem::at(&key.span(), format!("ECR accepts at most {MAX_TAGS} tags"))
            .hint("remove tags"));
    }
    let mut tags = BTreeMap::new();
    for (key, value) in texts {
        let (key, span) = (key.get_ref().as_ref(), key.span());
        if key.is_empty() || key.chars().count() > MAX_TAG_KEY || !key.chars().all(is_tag_character)
        {
            return Err(Problem::at(&span, "not a valid key of an AWS tag").hint(TAG));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Problem::at(&span, "AWS reserves keys that begin with `aws:`")
                .hint("rename the tag"));
        }
        if value.chars().count() > MAX_TAG_VALUE || !value.chars().all(is_tag_character) {
            return Err(value.invalid("is not a valid value of an AWS tag", TAG));
        }
        tags.insert(key.to_owned(), value.to_string());
    }
    Ok(tags)
}

const TAG: &str = "use letters, digits, spaces and `_ . : / = + - @`: \
    1 to 128 in a key, up to 256 in a value";

/// Source: AWS General Reference, "Tag naming limits and requirements".
fn is_tag_character(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)
}
