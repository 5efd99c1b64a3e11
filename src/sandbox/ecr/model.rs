//! The API model's own limits: lengths, patterns, enumerations, page sizes.
//!
//! The SDK does not check them before it sends, so this is where a client that sends 101
//! digests or a capital letter finds out. Guards nothing else: what depends on the registry's
//! state is decided by the operations.
//!
//! Source: service model `ecr/2015-09-21`.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::error::EcrError;
use crate::model::{Digest, Repository, Tag};

/// A grammar: the regular expression as the model writes it, and the same as a function.
type Pattern = (&'static str, fn(&str) -> bool);

/// The lengths a text may have, in characters, and the grammar it follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    /// The shortest.
    pub min: usize,
    /// The longest.
    pub max: usize,
    /// The grammar, where there is one.
    pub pattern: Option<Pattern>,
}

impl Text {
    const fn of(min: usize, max: usize) -> Self {
        Self { min, max, pattern: None }
    }

    const fn matching(min: usize, max: usize, pattern: &'static str, is: fn(&str) -> bool) -> Self {
        Self { min, max, pattern: Some((pattern, is)) }
    }

    /// Whether `text` is within the limits.
    ///
    /// # Errors
    /// `InvalidParameterException` that names `field` and the limit.
    pub(super) fn check(&self, field: &str, text: &str) -> Result<(), EcrError> {
        let length = text.chars().count();
        if length < self.min {
            let least = self.min;
            return Err(EcrError::parameter(
                field,
                format!("Member must have length greater than or equal to {least}"),
            ));
        }
        if length > self.max {
            let most = self.max;
            return Err(EcrError::parameter(
                field,
                format!("Member must have length less than or equal to {most}"),
            ));
        }
        match self.pattern {
            Some((pattern, is)) if !is(text) => Err(EcrError::parameter(
                field,
                format!("must satisfy regular expression '{pattern}'"),
            )),
            _ => Ok(()),
        }
    }
}

/// `registryId`.
pub(super) const REGISTRY_ID: Text = Text::matching(12, 12, "[0-9]{12}", is_account);
/// `repositoryName`.
pub(super) const REPOSITORY_NAME: Text = Text::matching(
    2,
    256,
    r"(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*",
    is_repository,
);
/// `imageTag`.
pub(super) const IMAGE_TAG: Text = Text::of(1, 300);
/// `imageManifest`: 4 MiB.
pub(super) const IMAGE_MANIFEST: Text = Text::of(1, 4_194_304);
/// A digest in a batch; what is wrong with it becomes a failure of that item.
pub(super) const BATCHED_DIGEST: Text = Text::of(0, 1000);
/// `filter` of a mutability exclusion.
pub(super) const EXCLUSION: Text =
    Text::matching(1, 128, "^[0-9a-zA-Z._*-]{1,128}$", |text| text.bytes().all(is_exclusion_byte));
/// `kmsKey`.
pub(super) const KMS_KEY: Text = Text::of(0, 2048);
/// `kmsKey` of a repository creation template: nothing but a whole ARN.
pub(super) const TEMPLATE_KMS_KEY: Text = Text::matching(
    0,
    2048,
    r"^$|arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/[a-z0-9-]+",
    is_key_arn,
);
/// `name` of an account setting.
pub(super) const SETTING_NAME: Text = Text::of(1, 64);
/// `Key` of a tag.
pub(super) const TAG_KEY: Text = Text::of(1, 128);
/// `Value` of a tag.
pub(super) const TAG_VALUE: Text = Text::of(0, 256);
/// `policyText` of a repository and of the registry.
pub(super) const POLICY: Text = Text::of(0, 10_240);
/// `lifecyclePolicyText`.
pub(super) const LIFECYCLE: Text = Text::of(100, 30_720);
/// `lifecyclePolicy` of a template, which may be empty.
pub(super) const TEMPLATE_LIFECYCLE: Text = Text::of(0, 30_720);
/// `ecrRepositoryPrefix` of a pull-through rule.
pub(super) const RULE_PREFIX: Text = Text::matching(
    2,
    30,
    r"^((?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/?|ROOT)$",
    is_prefix,
);
/// `prefix` of a repository creation template.
pub(super) const TEMPLATE_PREFIX: Text = Text::matching(
    1,
    256,
    r"^((?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/?|ROOT)$",
    is_prefix,
);
/// `credentialArn` of a pull-through rule.
pub(super) const CREDENTIAL_ARN: Text = Text::matching(
    50,
    612,
    r"^arn:aws(-\w+)*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr\-pullthroughcache/[a-zA-Z0-9/_+=.@-]+$",
    is_credential_arn,
);
/// `customRoleArn`.
pub(super) const ROLE_ARN: Text = Text::of(0, 2048);
/// Anything short that has no grammar, such as `description`.
pub(super) const DESCRIPTION: Text = Text::of(0, 256);
/// Anything without a published limit.
pub(super) const FREE: Text = Text::of(0, 100_000);

fn is_account(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn is_repository(text: &str) -> bool {
    text.split('/').all(|part| part.parse::<Repository>().is_ok())
}

fn is_prefix(text: &str) -> bool {
    text == "ROOT" || is_repository(text.strip_suffix('/').unwrap_or(text))
}

fn is_exclusion_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._*-".contains(&b)
}

fn is_credential_arn(text: &str) -> bool {
    let Some((arn, name)) = text.split_once(":secret:ecr-pullthroughcache/") else { return false };
    let mut parts = arn.splitn(4, ':');
    let scheme = parts.next() == Some("arn")
        && parts.next().is_some_and(|it| it == "aws" || it.starts_with("aws-"))
        && parts.next() == Some("secretsmanager")
        && parts.next().is_some_and(|place| !place.is_empty());
    scheme
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b))
}

fn is_key_arn(text: &str) -> bool {
    let word = |part: &str| {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(is_word)
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [""] => true,
        ["arn", partition, "kms", region, account, key] => {
            partition.starts_with("aws")
                && word(partition)
                && word(region)
                && account.len() == 12
                && is_account(account)
                && key.strip_prefix("key/").is_some_and(word)
        }
        _ => false,
    }
}

/// A batch call's refusal of one item: the failure code and the reason.
pub(super) type Failure = (&'static str, String);

/// The digest of a batched item; `what` it is of goes into the reason, `code` is its failure code.
pub(super) fn batched_digest(
    text: &str,
    (code, what): (&'static str, &str),
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

/// One operation's input: a JSON object, read member by member under the model's limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub &'a Map<String, Value>);

impl<'a> Input<'a> {
    /// The member, `None` when absent or null.
    pub(super) fn value(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// A text within `limits`.
    pub(super) fn text(&self, field: &str, limits: &Text) -> Result<Option<&'a str>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong_type(field, "a string"))?;
        limits.check(field, text)?;
        Ok(Some(text))
    }

    /// A text within `limits` that has to be there.
    pub(super) fn required(&self, field: &str, limits: &Text) -> Result<&'a str, EcrError> {
        self.text(field, limits)?.ok_or_else(|| missing(field))
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

    /// A number between `min` and `max`, both included.
    pub(super) fn number(&self, field: &str, min: u64, max: u64) -> Result<Option<u64>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let number = value.as_i64().ok_or_else(|| wrong_type(field, "an integer"))?;
        if number < min as i64 {
            let rule = format!("Member must have value greater than or equal to {min}");
            return Err(EcrError::parameter(field, rule));
        }
        if number > max as i64 {
            let rule = format!("Member must have value less than or equal to {max}");
            return Err(EcrError::parameter(field, rule));
        }
        Ok(Some(number as u64))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, field: &str) -> Result<Option<bool>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong_type(field, "a boolean"))
    }

    /// A list of `min` to `max` items.
    pub(super) fn list(
        &self,
        field: &str,
        min: usize,
        max: usize,
    ) -> Result<Option<&'a [Value]>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| wrong_type(field, "a list"))?;
        if items.len() < min {
            let rule = format!("Member must have length greater than or equal to {min}");
            return Err(EcrError::parameter(field, rule));
        }
        if items.len() > max {
            let rule = format!("Member must have length less than or equal to {max}");
            return Err(EcrError::parameter(field, rule));
        }
        Ok(Some(items))
    }

    /// A list of texts, each within `limits`.
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

    /// A structure, to be read the same way.
    pub(super) fn structure(&self, field: &str) -> Result<Option<Input<'a>>, EcrError> {
        let Some(value) = self.value(field) else { return Ok(None) };
        value
            .as_object()
            .map(|map| Some(Input(map)))
            .ok_or_else(|| wrong_type(field, "a structure"))
    }

    /// A list of structures, to be read the same way.
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

    /// `nextToken` and `maxResults`; neither may come with an explicit list in `exclusive`.
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

/// A member that has to be there and is not.
pub(super) fn missing(field: &str) -> EcrError {
    EcrError::parameter(field, "Member must not be null")
}

fn wrong_type(field: &str, expected: &str) -> EcrError {
    EcrError::new("SerializationException", format!("'{field}' is not {expected}"))
}

/// Where a page begins and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The key of the last item of the page before, `None` for the first page.
    pub after: Option<String>,
    /// The most items it may have.
    pub limit: usize,
}

impl Page {
    /// Cuts this page out of `items`, which are sorted by their keys; the token of the next page
    /// where there is one.
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

/// A key as an opaque token: nothing a client could build itself by accident.
fn encode_token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{{\"v\":1,\"k\":\"{}\"}}", const_hex::encode(key)))
}

/// The key in an opaque token, `None` when it is not one of ours.
pub(super) fn decode_token(token: &str) -> Option<String> {
    let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    String::from_utf8(const_hex::decode(json.get("k")?.as_str()?).ok()?).ok()
}

/// A JSON answer of this content type.
pub(super) fn json_response(
    status: StatusCode,
    content_type: &'static str,
    body: &Value,
) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
