//! Lifecycle policies and pull permissions: simple keys, or a file, into the JSON that ECR accepts.
//!
//! Ensures that a document is a JSON object and not longer than ECR allows, and that ECR accepts a
//! lifecycle policy.

use std::ops::RangeInclusive;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::{
    arn::{self, is_account},
    context::FileContext,
    document::{Keys, Table, Text},
    problem::Problem,
};
use crate::model::{
    lifecycle,
    pull_through::{Access, Principals},
};

const LIFECYCLE: Keys = Keys {
    title: "`lifecycle = { untagged_after_days = 14, keep_newest = 50 }`",
    names: "untagged_after_days keep_newest expire_after_days archive_unpulled_after_days",
};

/// Source: aws/containers-roadmap#2728.
const NO_EXPIRY_BY_PULL: &str = "ECR cannot expire images by pull time; \
    write `archive_unpulled_after_days` to archive images without a pull";

pub(super) const ACCESS: Keys = Keys {
    title: "`policy = { organization = \"o-…\", accounts = [\"…\"] }`",
    names: "organization accounts roles organizational_units",
};

/// The length of a repository's lifecycle policy, in characters. Source: ECR API model.
pub(super) const REPOSITORY_LIFECYCLE: RangeInclusive<usize> = 100..=30_720;
/// The length of a creation template's lifecycle policy, in characters. Source: ECR API model.
pub(super) const TEMPLATE_LIFECYCLE: RangeInclusive<usize> = 0..=30_720;
/// The length of a repository policy, in characters. Source: ECR API model.
const ACCESS_LENGTH: RangeInclusive<usize> = 1..=10_240;
/// The actions of a pull. Source: `AmazonEC2ContainerRegistryPullOnly`.
const PULL_ACTIONS: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

pub(super) fn lifecycle(
    table: &Table<'_>,
    file: &FileContext<'_>,
    length: RangeInclusive<usize>,
) -> Result<Option<Value>, Problem> {
    let Some(path) = document_path(table, "lifecycle")? else {
        let simple = table.table("lifecycle", &LIFECYCLE).map_err(|problem| {
            // people look for a key that does not exist
            match problem.covers("unpulled", file.sources) {
                true => problem.hint(NO_EXPIRY_BY_PULL),
                false => problem,
            }
        })?;
        return simple.map(|simple| rules(&simple)).transpose();
    };
    let (document, text) = document(&path, file, length)?;
    match lifecycle::check(&document) {
        Ok(()) => Ok(Some(document)),
        Err(violation) => {
            let position = match violation.pointer.is_empty() {
                true => String::new(),
                false => match position(&text, &violation.pointer) {
                    Some((line, column)) => format!("line {line}, column {column}: "),
                    None => format!("`{}`: ", violation.pointer),
                },
            };
            Err(path.invalid(format!("{position}{}", violation.problem), violation.fix))
        }
    }
}

/// The line and column, from 1, of the value at this pointer in a JSON text.
fn position(text: &str, pointer: &str) -> Option<(usize, usize)> {
    /// The value that the text begins with, and its length.
    fn read<T: DeserializeOwned>(text: &str) -> Option<(T, usize)> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter();
        let value = values.next()?.ok()?;
        Some((value, values.byte_offset()))
    }
    let next = |at: usize| {
        let is_value = |c: char| !c.is_ascii_whitespace() && !",:".contains(c);
        text[at..].find(is_value).map(|length| at + length)
    };
    let mut at = next(0)?;
    for name in pointer.split('/').skip(1) {
        let is_list = text[at..].starts_with('[');
        at = next(at + 1)?;
        for index in 0.. {
            let key = match is_list {
                true => index.to_string(),
                false => {
                    let (key, length) = read::<String>(&text[at..])?;
                    at = next(at + length)?;
                    key.replace('~', "~0").replace('/', "~1")
                }
            };
            if key == name {
                break;
            }
            let (_, length) = read::<IgnoredAny>(&text[at..])?;
            at = next(at + length)?;
        }
    }
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let number = 1 + text[..at].matches('\n').count();
    Some((number, 1 + text[line..at].chars().count()))
}

/// The repository policy of `policy` or `policy_file`.
///
/// Accounts are written as ARNs of this partition. Without a partition they are written as
/// numbers, which have the same meaning in each.
pub(super) fn access(
    table: &Table<'_>,
    file: &FileContext<'_>,
    partition: Option<&str>,
) -> Result<Option<Value>, Problem> {
    let Some(path) = document_path(table, "policy")? else {
        let simple = table.table("policy", &ACCESS)?;
        return simple.map(|simple| pull_permissions(&simple, partition)).transpose();
    };
    let (document, _) = document(&path, file, ACCESS_LENGTH)?;
    if document.get("Statement").is_some_and(|value| value.is_array() || value.is_object()) {
        if allows_creation(&document) {
            let label =
                "allows `ecr:CreateRepository`, which has no effect in the policy of a repository";
            file.warn(Problem::at(&path.span, label).hint(
                "remove the action: an identity policy or the registry's policy grants it, as `access` of a cache does",
            ));
        }
        return Ok(Some(document));
    }
    Err(path.invalid("has no `Statement`", "name a file with a repository policy"))
}

/// Returns `true` if a statement allows `ecr:CreateRepository` by its name.
///
/// Source: ECR user guide, "IAM permissions required to sync an upstream registry".
fn allows_creation(policy: &Value) -> bool {
    let items = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let is_creation = |action: &Value| {
        action.as_str().is_some_and(|it| it.eq_ignore_ascii_case("ecr:CreateRepository"))
    };
    items(&policy["Statement"]).iter().any(|statement| {
        statement["Effect"] == "Allow" && items(&statement["Action"]).iter().any(is_creation)
    })
}

/// The path under `KEY_file`, which excludes the simple keys.
fn document_path(table: &Table<'_>, key: &str) -> Result<Option<Text>, Problem> {
    match (table.span_of(key), table.word(&format!("{key}_file"))?) {
        (Some(_), Some(path)) => Err(Problem::conflict(&path.span, &format!("`{key}`"))),
        (_, path) => Ok(path),
    }
}

/// The file's JSON object, and its text. `length` limits it as written without blanks.
pub(super) fn document(
    path: &Text,
    file: &FileContext<'_>,
    length: RangeInclusive<usize>,
) -> Result<(Value, String), Problem> {
    let bytes = file.read(path)?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| {
        path.invalid(format!("is not JSON: {error}"), "name a file with a JSON object")
    })?;
    if !document.is_object() {
        return Err(path.invalid("is not a JSON object", "name a file with a JSON object"));
    }
    let characters = document.to_string().chars().count();
    if !length.contains(&characters) {
        let (least, most) = length.into_inner();
        let label = format!("has {characters} characters, ECR accepts {least} to {most}");
        return Err(path.invalid(label, "shorten or extend the document"));
    }
    Ok((document, String::from_utf8_lossy(&bytes).into_owned()))
}

/// The lifecycle rules, in the order in which ECR applies them.
///
/// Only the first rule that selects an image applies to it, so a rule for all tags hides later
/// rules. The children of an index are untagged, but ECR keeps them as long as the index. A count
/// would include them, so only tagged images are counted.
///
/// Source: ECR user guide, "Lifecycle policies".
fn rules(table: &Table<'_>) -> Result<Value, Problem> {
    let number = |key| table.number(key, 1);
    let untagged = number("untagged_after_days")?;
    // each selects images that an untagged rule does not
    let selecting = ["keep_newest", "expire_after_days", "archive_unpulled_after_days"];
    let [newest, expired, unpulled] = selecting.map(number);
    let (newest, expired, unpulled) = (newest?, expired?, unpulled?);
    let written: Vec<_> =
        selecting.iter().filter_map(|key| Some((*key, table.span_of(key)?))).collect();
    if let [(first, _), (_, span), ..] = &written[..] {
        return Err(Problem::conflict(span, &format!("`{first}`")).hint(
            "remove one of the two, or write a `lifecycle_file`: ECR applies only one rule to an image",
        ));
    }
    let mut rules = Vec::new();
    let mut rule = |description: String, selection: Value, action: Value| {
        rules.push(json!({
            "rulePriority": rules.len() + 1,
            "description": description,
            "selection": selection,
            "action": action,
        }));
    };
    let since = |event: &str, status: &str, days: u32| {
        json!({
            "tagStatus": status,
            "countType": event,
            "countUnit": "days",
            "countNumber": days,
        })
    };
    let expire = || json!({ "type": "expire" });
    if let Some(days) = untagged {
        let selection = since("sinceImagePushed", "untagged", days);
        rule(format!("untagged images expire after {days} days"), selection, expire());
    }
    if let Some(count) = newest {
        let selection = json!({
            "tagStatus": "tagged",
            "tagPatternList": ["*"],
            "countType": "imageCountMoreThan",
            "countNumber": count,
        });
        rule(format!("the {count} newest tagged images are kept"), selection, expire());
    }
    if let Some(days) = expired {
        let selection = since("sinceImagePushed", "any", days);
        rule(format!("images expire after {days} days"), selection, expire());
    }
    if let Some(days) = unpulled {
        let action = json!({ "type": "transition", "targetStorageClass": "archive" });
        let description = format!("images are archived {days} days after their last pull");
        rule(description, since("sinceImagePulled", "any", days), action);
    }
    if rules.is_empty() {
        return Err(Problem::empty(&table.span).hint(format!("write {}", LIFECYCLE.title)));
    }
    Ok(json!({ "rules": rules }))
}

fn pull_permissions(table: &Table<'_>, partition: Option<&str>) -> Result<Value, Problem> {
    let statement = |Principals { kind, principal, condition }| {
        let mut statement = json!({
            "Sid": format!("PullFrom{kind}"),
            "Effect": "Allow",
            "Principal": principal,
            "Action": PULL_ACTIONS,
        });
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statement
    };
    let statements: Vec<Value> =
        principals(table)?.principals(partition).into_iter().map(statement).collect();
    if statements.is_empty() {
        return Err(Problem::empty(&table.span).hint(format!("write {}", ACCESS.title)));
    }
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    let (_, most) = ACCESS_LENGTH.into_inner();
    if policy.to_string().chars().count() > most {
        let lists = ["accounts", "roles", "organizational_units"];
        let span = lists.iter().find_map(|key| table.span_of(key)).unwrap_or(table.span.clone());
        let label =
            format!("result in a policy with more than {most} characters, the limit of ECR");
        return Err(Problem::at(&span, label).hint("write their `organization` instead"));
    }
    Ok(policy)
}

/// The principals of `organization`, `accounts`, `roles` and `organizational_units`.
pub(super) fn principals(table: &Table<'_>) -> Result<Access, Problem> {
    let roles = table.list("roles")?;
    let units = table.list("organizational_units")?;
    Ok(Access {
        organization: organization(table)?,
        accounts: accounts(table)?,
        roles: roles.iter().flatten().map(arn::role).collect::<Result<_, _>>()?,
        organizational_units: units.iter().flatten().map(unit).collect::<Result<_, _>>()?,
    })
}

/// The path of an organizational unit from its organization, without a slash at the end.
///
/// The id of a unit alone would also match a unit of another organization.
fn unit(text: &Text) -> Result<String, Problem> {
    let path = text.strip_suffix("/*").or(text.strip_suffix('/')).unwrap_or(text);
    let is_id = |part: &str, start: &str| {
        part.strip_prefix(start).is_some_and(|id| {
            let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !id.is_empty() && id.bytes().all(is_allowed)
        })
    };
    let is_path = match &path.split('/').collect::<Vec<_>>()[..] {
        [organization, root, units @ ..] => {
            is_id(organization, "o-")
                && is_id(root, "r-")
                && !units.is_empty()
                && units.iter().all(|unit| is_id(unit, "ou-"))
        }
        _ => false,
    };
    let hint = "write the whole path, like `o-a1b2c3d4e5/r-ab12/ou-ab12-11111111`";
    let checked = text.checked(is_path, "is not the path of an organizational unit", hint);
    checked.map(|_| path.to_owned())
}

fn organization(table: &Table<'_>) -> Result<Option<String>, Problem> {
    let Some(organization) = table.text("organization")? else { return Ok(None) };
    let is_id = organization.strip_prefix("o-").is_some_and(|id| {
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    let hint = "write an id like `o-a1b2c3d4e5`";
    organization.checked(is_id, "is not an organization id", hint).map(Some)
}

/// The account numbers under `accounts`; empty without the key.
fn accounts(table: &Table<'_>) -> Result<Vec<String>, Problem> {
    let hint = "write twelve digits, as a string";
    let account =
        |text: &Text| text.checked(is_account(text), "is not an AWS account number", hint);
    table.list("accounts")?.iter().flatten().map(account).collect()
}
