//! The API model's limits: lengths, patterns, enumerations, page sizes.
//!
//! The SDK does not check them before it sends, so a client that sends 101 digests or a capital
//! letter fails here. Rules that depend on the registry's state are in the operations.
//!
//! Source: service model `ecr/2015-09-21`.

use std::{fmt::Display, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::error::EcrError;
use crate::model::{Digest, NameError, Repository, Tag};

/// A grammar: the model's regular expression, and the same as a function.
type Pattern = (&'static str, fn(&str) -> bool);

/// The allowed lengths of a text, in characters, and its grammar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub min: usize,
    pub max: usize,
    pub pattern: Option<Pattern>,
}

impl Text {
    const fn of(min: usize, max: usize) -> Self {
        Self { min, max, pattern: None }
    }

    const fn matching(min: usize, max: usize, pattern: &'static str, is: fn(&str) -> bool) -> Self {
        Self { min, max, pattern: Some((pattern, is)) }
    }

    /// Checks `text` against the limits.
    ///
    /// Errors: `InvalidParameterException` that names `field` and the limit.
    pub(super) fn check(&self, field: &str, text: &str) -> Result<(), EcrError> {
        let length = text.chars().count();
        in_limits(field, "length", length as u64, self.min as u64, self.max as u64)?;
        match self.pattern {
            Some((pattern, is)) if !is(text) => Err(EcrError::parameter(
                field,
                format!("must satisfy regular expression '{pattern}'"),
            )),
            _ => Ok(()),
        }
    }
}

pub(super) const REGISTRY_ID: Text = Text::matching(12, 12, "[0-9]{12}", is_account);
pub(super) const REPOSITORY_NAME: Text = Text::matching(
    2,
    256,
    r"(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*",
    is_repository,
);
pub(super) const IMAGE_TAG: Text = Text::of(1, 300);
pub(super) const IMAGE_MANIFEST: Text = Text::of(1, 4_194_304);
/// A digest in a batch; an invalid one is a failure of its item only.
pub(super) const BATCHED_DIGEST: Text = Text::of(0, 1000);
pub(super) const EXCLUSION: Text = Text::matching(1, 128, "^[0-9a-zA-Z._*-]{1,128}$", is_exclusion);
pub(super) const KMS_KEY: Text = Text::of(0, 2048);
pub(super) const SETTING_NAME: Text = Text::of(1, 64);
pub(super) const TAG_KEY: Text = Text::of(1, 128);
pub(super) const TAG_VALUE: Text = Text::of(0, 256);
pub(super) const POLICY: Text = Text::of(0, 10_240);
pub(super) const LIFECYCLE: Text = Text::of(100, 30_720);
pub(super) const TEMPLATE_LIFECYCLE: Text = Text::of(0, 30_720);
pub(super) const RULE_PREFIX: Text = Text::matching(
    2,
    30,
    r"^((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)$",
    is_prefix,
);
pub(super) const TEMPLATE_PREFIX: Text = Text::matching(
    1,
    256,
    r"^((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)$",
    is_prefix,
);
pub(super) const CREDENTIAL_ARN: Text = Text::matching(
    50,
    612,
    r"^arn:aws(-\w+)*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr\-pullthroughcache/[a-zA-Z0-9/_+=.@-]+$",
    is_credential_arn,
);
pub(super) const ROLE_ARN: Text = Text::of(0, 2048);
/// `principalArn` of a pull-time exclusion.
pub(super) const PRINCIPAL_ARN: Text = Text::of(0, 200);
/// A filter of registry scanning.
pub(super) const SCANNING_FILTER: Text =
    Text::matching(1, 256, r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$", is_scanning_filter);
/// Short text without a grammar, such as `description`.
pub(super) const DESCRIPTION: Text = Text::of(0, 256);
/// Text without a published limit.
pub(super) const FREE: Text = Text::of(0, 100_000);

fn is_account(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn is_repository(text: &str) -> bool {
    let accepts = |part: &str| part.parse::<Repository>().is_ok_and(|it| it.check_ecr().is_ok());
    text.split('/').all(accepts)
}

fn is_prefix(text: &str) -> bool {
    text == "ROOT" || is_repository(text.strip_suffix('/').unwrap_or(text))
}

/// Letters, digits and `*`, with one `.`, `_`, `-` or `/` between them.
fn is_scanning_filter(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'*';
    let mut words = text.split(|c| "._-/".contains(c));
    words.all(|word| !word.is_empty() && word.bytes().all(is_word))
}

/// Source: ECR API model for the characters, Terraform AWS provider for the number of `*`.
fn is_exclusion(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._*-".contains(&b))
        && text.matches('*').count() <= 2
}

fn is_credential_arn(text: &str) -> bool {
    let Some((arn, name)) = text.split_once(":secret:ecr-pullthroughcache/") else { return false };
    let mut parts = arn.splitn(4, ':');
    let scheme = parts.next() == Some("arn")
        && parts.next().is_some_and(|it| it == "aws" || it.starts_with("aws-"))
        && parts.next() == Some("secretsmanager")
        && parts.next().is_some_and(|part| !part.is_empty());
    scheme
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b))
}

/// A batch call's failure code and reason for one item.
pub(super) type Failure = (&'static str, String);

/// The digest of a batched item; `code` is its failure code, `what` the kind of content in the
/// reason.
pub(super) fn batched_digest(
    text: &str,
    code: &'static str,
    what: &str,
) -> Result<Digest, Failure> {
    text.parse().map_err(|_| {
        let regex = "[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+";
        let reason =
            format!("Invalid request parameters: {what} digest should satisfy the regex '{regex}'");
        (code, reason)
    })
}

/// A tag of the distribution specification's grammar, which ECR enforces beyond its own model.
pub(super) fn batched_tag(text: &str) -> Result<Tag, Failure> {
    text.parse().map_err(|_| {
        let reason = "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9_][a-zA-Z0-9-_.]{0,127}'";
        ("InvalidImageTag", reason.to_owned())
    })
}

/// One operation's input: a JSON object, read member by member within the model's limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub &'a Map<String, Value>);

impl<'a> Input<'a> {
    /// The member; `None` if it is absent or null.
    pub(super) fn value(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, field: &str, limits: &Text) -> Result<Option<&'a str>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong_type(field, "a string"))?;
        limits.check(field, text)?;
        Ok(Some(text))
    }

    /// A required text within `limits`.
    pub(super) fn required(&self, field: &str, limits: &Text) -> Result<&'a str, EcrError> {
        self.text(field, limits)?.ok_or_else(|| missing(field))
    }

    /// A text within `limits` that must parse.
    pub(super) fn parsed<T: FromStr<Err = NameError>>(
        &self,
        field: &str,
        limits: &Text,
    ) -> Result<Option<T>, EcrError> {
        let text = self.text(field, limits)?;
        text.map(str::parse).transpose().map_err(|error| EcrError::parameter(field, error))
    }

    /// One of an enumeration's values.
    pub(super) fn one_of(
        &self,
        field: &str,
        values: &[&'static str],
    ) -> Result<Option<&'static str>, EcrError> {
        let Some(text) = self.text(field, &FREE)? else { return Ok(None) };
        values.iter().find(|value| **value == text).copied().map(Some).ok_or_else(|| {
            let set = values.join(", ");
            EcrError::parameter(field, format!("Member must satisfy enum value set: [{set}]"))
        })
    }

    /// A number from `min` to `max`.
    pub(super) fn number(&self, field: &str, min: u64, max: u64) -> Result<Option<u64>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let number = value.as_i64().ok_or_else(|| wrong_type(field, "an integer"))?;
        in_limits(field, "value", number, min as i64, max as i64)?;
        Ok(Some(number as u64))
    }

    pub(super) fn flag(&self, field: &str) -> Result<Option<bool>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong_type(field, "a boolean"))
    }

    pub(super) fn list(
        &self,
        field: &str,
        min: usize,
        max: usize,
    ) -> Result<Option<&'a [Value]>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| wrong_type(field, "a list"))?;
        in_limits(field, "length", items.len() as u64, min as u64, max as u64)?;
        Ok(Some(items))
    }

    pub(super) fn texts(
        &self,
        field: &str,
        count: std::ops::RangeInclusive<usize>,
        limits: &Text,
    ) -> Result<Option<Vec<&'a str>>, EcrError> {
        let Some(items) = self.list(field, *count.start(), *count.end())? else { return Ok(None) };
        items
            .iter()
            .map(|item| {
                let text = item.as_str().ok_or_else(|| wrong_type(field, "a list of strings"))?;
                limits.check(field, text).map(|()| text)
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    pub(super) fn structure(&self, field: &str) -> Result<Option<Input<'a>>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        value
            .as_object()
            .map(|map| Some(Input(map)))
            .ok_or_else(|| wrong_type(field, "a structure"))
    }

    pub(super) fn structures(
        &self,
        field: &str,
        count: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<Vec<Input<'a>>>, EcrError> {
        let Some(items) = self.list(field, *count.start(), *count.end())? else { return Ok(None) };
        items
            .iter()
            .map(|item| {
                item.as_object().map(Input).ok_or_else(|| wrong_type(field, "a list of structures"))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// `nextToken` and `maxResults`; neither is allowed with an explicit list in `exclusive`.
    pub(super) fn page(&self, default: u64, max: u64, exclusive: &str) -> Result<Page, EcrError> {
        let limit = self.number("maxResults", 1, max)?;
        let token = self.text("nextToken", &FREE)?;
        if self.value(exclusive).is_some() && (limit.is_some() || token.is_some()) {
            let rule = format!("Member must not be given together with '{exclusive}'");
            return Err(EcrError::parameter("maxResults", rule));
        }
        let after = token.map(|token| {
            decode_token(token)
                .ok_or_else(|| EcrError::parameter("nextToken", "Invalid pagination token"))
        });
        let limit = limit.unwrap_or(default) as usize;
        Ok(Page { after: after.transpose()?, limit })
    }
}

/// The error for a missing required member.
pub(super) fn missing(field: &str) -> EcrError {
    EcrError::parameter(field, "Member must not be null")
}

fn in_limits<N: PartialOrd + Display>(
    field: &str,
    what: &str,
    actual: N,
    min: N,
    max: N,
) -> Result<(), EcrError> {
    let (bound, limit) = match actual {
        actual if actual < min => ("greater", min),
        actual if actual > max => ("less", max),
        _ => return Ok(()),
    };
    let rule = format!("Member must have {what} {bound} than or equal to {limit}");
    Err(EcrError::parameter(field, rule))
}

fn wrong_type(field: &str, expected: &str) -> EcrError {
    EcrError::new("SerializationException", format!("'{field}' is not {expected}"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The key of the previous page's last item; `None` for the first page.
    pub after: Option<String>,
    pub limit: usize,
}

impl Page {
    /// Returns this page of `items`, which are sorted by their keys, and the token of the next
    /// page.
    pub(super) fn cut<T>(&self, items: Vec<(String, T)>) -> (Vec<T>, Option<String>) {
        let mut rest = items
            .into_iter()
            .filter(|(key, _)| self.after.as_ref().is_none_or(|after| key > after));
        let mut page: Vec<(String, T)> = rest.by_ref().take(self.limit).collect();
        let next = match rest.next() {
            Some(_) => page.last().map(|(key, _)| encode_token(key)),
            None => None,
        };
        (page.drain(..).map(|(_, item)| item).collect(), next)
    }
}

/// Encodes a key as an opaque token, which no client can build by accident.
fn encode_token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{{\"v\":1,\"k\":\"{}\"}}", const_hex::encode(key)))
}

/// The key in an opaque token; `None` if this sandbox did not make it.
pub(super) fn decode_token(token: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    String::from_utf8(const_hex::decode(json.get("k")?.as_str()?).ok()?).ok()
}
