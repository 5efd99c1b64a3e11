//! Operations on the registry as a whole: logins, account settings, scanning, pull-time exclusions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ApiResult, Caller, repositories::with_next};
use crate::sandbox::{
    Naming,
    ecr::{
        clock::{now, since_epoch},
        error::EcrError,
        identity::{PASSWORD_SECONDS, Password},
        model::{self, Input, missing},
        registry::{ACCOUNT_SETTINGS, PULL_EXCLUSIONS},
    },
    fault::{Name, Side},
    is_loopback,
};

const SCANNING: &str = "registry-scanning";
const MAX_EXCLUSIONS: usize = 100;

pub(super) fn authorization_token(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let own = caller.principal().account.as_str();
    let accounts = input.texts("registryIds", 1..=10, &model::REGISTRY_ID)?;
    let life = caller.ecr.faults.active(Name::TokenLife, Side::Ecr).and_then(|arg| arg.number());
    let expires = now() + life.map_or(PASSWORD_SECONDS, |seconds| seconds as f64);
    let password = Password {
        principal: caller.principal().clone(),
        region: caller.signed.region.clone(),
        issued: since_epoch().as_nanos(),
        expires,
    };
    let token = password.to_token();
    let data = accounts.unwrap_or_else(|| vec![own]).into_iter().map(|account| {
        let registry = caller.registry_of(account)?;
        let endpoint = match caller.ecr.naming {
            Naming::Loopback if is_loopback(caller.host) => format!("http://{}", caller.host),
            _ => format!("https://{}", registry.host()),
        };
        Ok(json!({
            "authorizationToken": token,
            "expiresAt": expires,
            "proxyEndpoint": endpoint,
        }))
    });
    let data: Vec<Value> = data.collect::<Result<_, EcrError>>()?;
    Ok(json!({ "authorizationData": data }))
}

const SETTINGS: &[(&str, &[&str])] = &[
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE"]),
    ("REGISTRY_POLICY_SCOPE", &["V1", "V2"]),
    ("BLOB_MOUNTING", &["ENABLED", "DISABLED"]),
];

fn find_setting(name: &str) -> Result<(&'static str, &'static [&'static str]), EcrError> {
    SETTINGS.iter().find(|(known, _)| *known == name).copied().ok_or_else(|| {
        let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        let set = names.join(", ");
        EcrError::parameter("name", format!("Member must satisfy enum value set: [{set}]"))
    })
}

pub(super) fn setting(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (name, _) = find_setting(input.required("name", &model::SETTING_NAME)?)?;
    let registry = caller.own_registry()?;
    Ok(json!({ "name": name, "value": registry.account_setting(name) }))
}

pub(super) fn put_setting(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (name, values) = find_setting(input.required("name", &model::SETTING_NAME)?)?;
    let value = input.one_of("value", values)?.ok_or_else(|| missing("value"))?;
    let registry = caller.own_registry()?;
    registry.change(ACCOUNT_SETTINGS, |settings: &mut BTreeMap<String, String>| {
        settings.insert(name.to_owned(), value.to_owned());
        Ok(json!({ "name": name, "value": value }))
    })
}

pub(super) fn scanning(caller: &Caller<'_>, _input: &Input<'_>) -> ApiResult {
    let registry = caller.own_registry()?;
    let stored = registry.document::<Option<Value>>(SCANNING);
    let scanning = stored.unwrap_or_else(|| json!({ "scanType": "BASIC", "rules": [] }));
    Ok(json!({ "registryId": registry.account, "scanningConfiguration": scanning }))
}

pub(super) fn put_scanning(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let kind = input.one_of("scanType", &["BASIC", "ENHANCED"])?.unwrap_or("BASIC");
    let rules = input.structures("rules", 0..=2)?.unwrap_or_default();
    let frequencies = &["SCAN_ON_PUSH", "CONTINUOUS_SCAN", "MANUAL"];
    for rule in &rules {
        let frequency = rule.one_of("scanFrequency", frequencies)?;
        let frequency = frequency.ok_or_else(|| missing("scanFrequency"))?;
        if kind == "BASIC" && frequency == "CONTINUOUS_SCAN" {
            let text = "CONTINUOUS_SCAN is not available with the scan type BASIC";
            return Err(EcrError::validation(text));
        }
        let filters = rule.structures("repositoryFilters", 0..=100)?;
        for filter in filters.ok_or_else(|| missing("repositoryFilters"))? {
            filter.one_of("filterType", &["WILDCARD"])?.ok_or_else(|| missing("filterType"))?;
            filter.required("filter", &model::SCANNING_FILTER)?;
        }
    }
    let rules: Vec<&_> = rules.iter().map(|rule| rule.0).collect();
    let scanning = json!({ "scanType": kind, "rules": rules });
    caller.own_registry()?.change(SCANNING, |stored: &mut Option<Value>| {
        *stored = Some(scanning.clone());
        Ok(json!({ "registryScanningConfiguration": scanning }))
    })
}

pub(super) fn describe(caller: &Caller<'_>, _input: &Input<'_>) -> ApiResult {
    let account = &caller.own_registry()?.account;
    Ok(json!({ "registryId": account, "replicationConfiguration": { "rules": [] } }))
}

type Exclusions = BTreeMap<String, f64>;

fn principal_arn<'a>(input: &Input<'a>) -> Result<&'a str, EcrError> {
    let arn = input.required("principalArn", &model::PRINCIPAL_ARN)?;
    let is_principal = arn.starts_with("arn:")
        && arn.contains(":iam::")
        && (arn.contains(":role/") || arn.contains(":user/"));
    let wrong = || EcrError::parameter("principalArn", "Member must be the ARN of a role or user");
    is_principal.then_some(arn).ok_or_else(wrong)
}

pub(super) fn exclude(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let arn = principal_arn(input)?;
    let registry = caller.own_registry()?;
    registry.change(PULL_EXCLUSIONS, |exclusions: &mut Exclusions| {
        if exclusions.contains_key(arn) {
            let text = format!("A pull time update exclusion for '{arn}' already exists");
            return Err(EcrError::new("ExclusionAlreadyExistsException", text));
        }
        if exclusions.len() >= MAX_EXCLUSIONS {
            let text = format!("a registry has at most {MAX_EXCLUSIONS} exclusions");
            return Err(EcrError::new("LimitExceededException", text));
        }
        let created = registry.now();
        exclusions.insert(arn.to_owned(), created);
        Ok(json!({ "principalArn": arn, "createdAt": created }))
    })
}

pub(super) fn include(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let arn = principal_arn(input)?;
    caller.own_registry()?.change(PULL_EXCLUSIONS, |exclusions: &mut Exclusions| {
        match exclusions.remove(arn) {
            Some(_) => Ok(json!({ "principalArn": arn })),
            None => {
                let text = format!("A pull time update exclusion for '{arn}' does not exist");
                Err(EcrError::new("ExclusionNotFoundException", text))
            }
        }
    })
}

pub(super) fn exclusions(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let page = input.page(100, 1000, "")?;
    let exclusions: Exclusions = caller.own_registry()?.document(PULL_EXCLUSIONS);
    let (arns, next) = page.cut(exclusions.into_keys().map(|arn| (arn.clone(), arn)).collect());
    Ok(with_next(json!({ "pullTimeUpdateExclusions": arns }), next))
}
