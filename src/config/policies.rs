//! Lifecycle policies and pull rights, from simple keys or from a file, as the documents ECR takes.
//!
//! Guards that what is written is JSON of a length that ECR takes, before anything is asked of it.

use std::{fs, ops::RangeInclusive};

use serde_json::{Value, json};

use super::{
    FileContext,
    arn::is_account,
    document::{Keys, Table, Text},
    problem::{Problem, Span},
    reason,
};
use crate::model::NameError;

const LIFECYCLE: Keys = Keys {
    title: "`lifecycle = { untagged_after_days = 14, keep_newest = 50 }`",
    names: &["untagged_after_days", "keep_newest", "expire_after_days"],
};

pub(super) const ACCESS: Keys = Keys {
    title: "`policy = { organization = \"o-…\", accounts = [\"…\"] }`",
    names: &["organization", "accounts"],
};

/// How long a lifecycle policy may be, in characters: of a repository, and of a creation template.
/// Source: ECR API model.
pub(super) const OF_REPOSITORY: RangeInclusive<usize> = 100..=30_720;
pub(super) const OF_TEMPLATE: RangeInclusive<usize> = 0..=30_720;
/// How long a repository policy may be, in characters. Source: ECR API model.
const ACCESS_LENGTH: RangeInclusive<usize> = 1..=10_240;
/// Rules of a lifecycle policy, at most. Source: ECR user guide, "Service quotas".
const MAX_RULES: usize = 50;

/// What pulling an image takes. Source: `AmazonEC2ContainerRegistryPullOnly`.
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The lifecycle policy of `lifecycle` or `lifecycle_file`, of a length in characters.
pub(super) fn lifecycle(
    table: &Table<'_>,
    around: &FileContext<'_>,
    length: RangeInclusive<usize>,
) -> Result<Option<Value>, Problem> {
    let simple = table.table("lifecycle", &LIFECYCLE)?;
    let Some(file) = one_of(&simple, table, "lifecycle")? else {
        return simple.map(|simple| rules(&simple)).transpose();
    };
    let document = read(&file, around, length)?;
    let rules = document.get("rules").and_then(Value::as_array);
    if rules.is_some_and(|rules| (1..=MAX_RULES).contains(&rules.len())) {
        return Ok(Some(document));
    }
    let problem = format!("has no `rules`, of which a lifecycle policy has 1 to {MAX_RULES}");
    Err(file.wrong(NameError::new(problem)))
}

/// The repository policy of `policy` or `policy_file`.
///
/// Accounts are ARNs of this partition; their bare numbers, which mean the same in each, where
/// there is none.
pub(super) fn access(
    table: &Table<'_>,
    around: &FileContext<'_>,
    partition: Option<&str>,
) -> Result<Option<Value>, Problem> {
    let simple = table.table("policy", &ACCESS)?;
    let Some(file) = one_of(&simple, table, "policy")? else {
        return simple.map(|simple| pull_rights(&simple, partition)).transpose();
    };
    let document = read(&file, around, ACCESS_LENGTH)?;
    if document.get("Statement").is_some_and(|said| said.is_array() || said.is_object()) {
        return Ok(Some(document));
    }
    Err(file.wrong(NameError::new("has no `Statement`, which a policy consists of")))
}

/// The file that is named instead of the simple keys.
fn one_of(
    simple: &Option<Table<'_>>,
    table: &Table<'_>,
    key: &str,
) -> Result<Option<Text>, Problem> {
    let file = table.word(&format!("{key}_file"))?;
    match (simple, file) {
        (Some(_), Some(file)) => Err(Problem::at(&file.span, format!("stands beside `{key}`"))
            .hint("keep the one or the other")),
        (_, file) => Ok(file),
    }
}

/// The file's document, of a length that ECR takes once it is written without blanks.
fn read(
    file: &Text,
    around: &FileContext<'_>,
    length: RangeInclusive<usize>,
) -> Result<Value, Problem> {
    let bytes = fs::read(around.directory.join(&**file)).map_err(|error| {
        file.wrong(
            NameError::new(format!("cannot be read: {}", reason(&error)))
                .hint("the path is relative to the configuration file"),
        )
    })?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| file.wrong(NameError::new(format!("is not JSON: {error}"))))?;
    if !document.is_object() {
        return Err(file.wrong(NameError::new("is not a JSON object")));
    }
    let characters = document.to_string().chars().count();
    if !length.contains(&characters) {
        let (least, most) = length.into_inner();
        let problem = format!("has {characters} characters, ECR takes {least} to {most}");
        return Err(file.wrong(NameError::new(problem)));
    }
    Ok(document)
}

/// The rules in the order in which ECR applies them.
///
/// An image is subject to the first rule that selects it and to no other, so a rule over all
/// tags leaves nothing to a later one. What an index refers to is untagged, but ECR keeps it
/// as long as the index; counting would count it, which is why only tagged images are counted.
///
/// Source: ECR user guide, "Lifecycle policies".
fn rules(table: &Table<'_>) -> Result<Value, Problem> {
    let number = |key| table.number(key, 1);
    let untagged = number("untagged_after_days")?;
    let (newest, expired) = (number("keep_newest")?, number("expire_after_days")?);
    if let (Some(_), Some(_), Some(span)) = (newest, expired, table.place("expire_after_days")) {
        return Err(Problem::at(&span, "stands beside `keep_newest`").hint(
            "ECR applies one rule to an image: keep the one or the other, or write a `lifecycle_file`",
        ));
    }
    let mut rules = Vec::new();
    let mut rule = |description: String, selection: Value| {
        rules.push(json!({
            "rulePriority": rules.len() + 1,
            "description": description,
            "selection": selection,
            "action": { "type": "expire" },
        }));
    };
    let pushed = |status: &str, days: u32| {
        json!({
            "tagStatus": status,
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": days,
        })
    };
    if let Some(days) = untagged {
        rule(format!("untagged images expire after {days} days"), pushed("untagged", days));
    }
    if let Some(count) = newest {
        let selection = json!({
            "tagStatus": "tagged",
            "tagPatternList": ["*"],
            "countType": "imageCountMoreThan",
            "countNumber": count,
        });
        rule(format!("the {count} newest tagged images are kept"), selection);
    }
    if let Some(days) = expired {
        rule(format!("images expire after {days} days"), pushed("any", days));
    }
    if rules.is_empty() {
        return Err(Problem::at(&table.span, "says nothing")
            .hint(format!("write it like {}", LIFECYCLE.title)));
    }
    Ok(json!({ "rules": rules }))
}

/// The right to pull, for the organisation and for the accounts.
fn pull_rights(table: &Table<'_>, partition: Option<&str>) -> Result<Value, Problem> {
    let mut statements = Vec::new();
    if let Some(organization) = organization(table)? {
        statements.push(json!({
            "Sid": "PullFromOrganization",
            "Effect": "Allow",
            "Principal": "*",
            "Action": PULL,
            "Condition": { "StringEquals": { "aws:PrincipalOrgID": organization } },
        }));
    }
    if let Some((accounts, span)) = accounts(table)? {
        let principal = |account: String| match partition {
            Some(partition) => format!("arn:{partition}:iam::{account}:root"),
            None => account,
        };
        let principals: Vec<String> = accounts.into_iter().map(principal).collect();
        statements.push(json!({
            "Sid": "PullFromAccounts",
            "Effect": "Allow",
            "Principal": { "AWS": principals },
            "Action": PULL,
        }));
        too_long(&statements, &span)?;
    }
    if statements.is_empty() {
        return Err(Problem::at(&table.span, "lets nobody pull")
            .hint(format!("write it like {}", ACCESS.title)));
    }
    Ok(policy(&statements))
}

/// The organisation that is named.
pub(super) fn organization(table: &Table<'_>) -> Result<Option<String>, Problem> {
    let Some(organization) = table.text("organization")? else { return Ok(None) };
    let is_id = organization.strip_prefix("o-").is_some_and(|id| {
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    if is_id {
        return Ok(Some(organization.to_string()));
    }
    let error = NameError::new("is not the id of an organization");
    Err(organization.wrong(error.hint("write it like `o-a1b2c3d4e5`")))
}

/// The accounts that are named, and where; never none.
pub(super) fn accounts(table: &Table<'_>) -> Result<Option<(Vec<String>, Span)>, Problem> {
    let Some((accounts, span)) = table.list("accounts")? else { return Ok(None) };
    let account = |text: &Text| match is_account(text) {
        true => Ok(text.to_string()),
        false => {
            let error = NameError::new("is not an AWS account");
            Err(text.wrong(error.hint("write its twelve digits, as a string")))
        }
    };
    Ok(Some((accounts.iter().map(account).collect::<Result<_, _>>()?, span)))
}

fn policy(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn too_long(statements: &[Value], accounts: &Span) -> Result<(), Problem> {
    let (_, most) = ACCESS_LENGTH.into_inner();
    if policy(statements).to_string().chars().count() <= most {
        return Ok(());
    }
    Err(Problem::at(accounts, format!("make a policy above the {most} characters ECR takes"))
        .hint("name their `organization`"))
}
