//! The AWS APIs: AWS JSON 1.1 for ECR and Secrets Manager, the query protocol for STS.
//!
//! Tables list the operations; each family has a file. This module checks the protocol, the
//! signature's shape, permission and quota before any operation.

mod account;
mod images;
mod pull_through;
mod registry_policy;
mod repositories;
mod secrets;
mod sts;
mod templates;

use std::sync::Arc;

use axum::{
    body::to_bytes,
    extract::Request,
    http::{StatusCode, header},
    response::Response,
};
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::{
    Ecr,
    authorization::Action,
    error::EcrError,
    identity::{self, Principal, Signed},
    model::{self, Input},
    registry::Registry,
};
use crate::sandbox::{distribution, fault::Name};

/// The longest body: a manifest of 4 MiB, escaped.
const MAX_BODY: usize = 32 << 20;
const ECR_TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.";
const SECRETS_TARGET: &str = "secretsmanager.";

type ApiResult = Result<Value, EcrError>;
type Operation = fn(&Caller<'_>, &Input<'_>) -> ApiResult;
type Import = for<'a> fn(&'a Caller<'a>, &'a Input<'a>) -> BoxFuture<'a, ApiResult>;

const OPERATIONS: &[(&str, Operation)] = &[
    ("GetAuthorizationToken", account::authorization_token),
    ("GetAccountSetting", account::setting),
    ("PutAccountSetting", account::put_setting),
    ("GetRegistryPolicy", registry_policy::read),
    ("PutRegistryPolicy", registry_policy::put),
    ("DeleteRegistryPolicy", registry_policy::delete),
    ("GetRegistryScanningConfiguration", account::scanning),
    ("PutRegistryScanningConfiguration", account::put_scanning),
    ("DescribeRegistry", account::describe),
    ("RegisterPullTimeUpdateExclusion", account::exclude),
    ("DeregisterPullTimeUpdateExclusion", account::include),
    ("ListPullTimeUpdateExclusions", account::exclusions),
    ("CreateRepository", repositories::create),
    ("DescribeRepositories", repositories::describe),
    ("DeleteRepository", repositories::delete),
    ("PutImageTagMutability", repositories::put_mutability),
    ("PutImageScanningConfiguration", repositories::put_scanning),
    ("TagResource", repositories::tag),
    ("UntagResource", repositories::untag),
    ("ListTagsForResource", repositories::list_tags),
    ("PutLifecyclePolicy", repositories::put_lifecycle),
    ("GetLifecyclePolicy", repositories::lifecycle),
    ("DeleteLifecyclePolicy", repositories::delete_lifecycle),
    ("SetRepositoryPolicy", repositories::set_policy),
    ("GetRepositoryPolicy", repositories::policy),
    ("DeleteRepositoryPolicy", repositories::delete_policy),
    ("ListImages", images::list),
    ("DescribeImages", images::describe),
    ("BatchDeleteImage", images::batch_delete),
    ("PutImage", images::put),
    ("BatchCheckLayerAvailability", images::check_layers),
    ("GetDownloadUrlForLayer", images::download_url),
    ("ListImageReferrers", images::referrers),
    ("UpdateImageStorageClass", images::update_storage_class),
    ("CreatePullThroughCacheRule", pull_through::create),
    ("UpdatePullThroughCacheRule", pull_through::update),
    ("DeletePullThroughCacheRule", pull_through::delete),
    ("DescribePullThroughCacheRules", pull_through::describe),
    ("ValidatePullThroughCacheRule", pull_through::validate),
    ("CreateRepositoryCreationTemplate", templates::create),
    ("UpdateRepositoryCreationTemplate", templates::update),
    ("DeleteRepositoryCreationTemplate", templates::delete),
    ("DescribeRepositoryCreationTemplates", templates::describe),
];

/// ECR's operations that may import first.
const IMPORTS: &[(&str, Import)] = &[("BatchGetImage", images::batch_get)];

const SECRETS: &[(&str, Operation)] = &[
    ("CreateSecret", secrets::create),
    ("PutSecretValue", secrets::put),
    ("GetSecretValue", secrets::value),
    ("DescribeSecret", secrets::describe),
    ("DeleteSecret", secrets::delete),
    ("RestoreSecret", secrets::restore),
    ("TagResource", secrets::tag),
    ("ListSecrets", secrets::list),
    ("UpdateSecret", secrets::update),
    ("GetResourcePolicy", secrets::policy),
    ("PutResourcePolicy", secrets::put_policy),
];

/// The caller of an operation, and the host that it called.
pub(super) struct Caller<'a> {
    ecr: &'a Ecr,
    signed: &'a Signed,
    host: &'a str,
}

impl Caller<'_> {
    fn principal(&self) -> &Principal {
        &self.signed.principal
    }

    /// The registry of `registryId`, or the caller's own, in the region of the signature.
    fn registry(&self, input: &Input<'_>) -> Result<Arc<Registry>, EcrError> {
        let account = input.text("registryId", &model::REGISTRY_ID)?;
        self.registry_of(account.unwrap_or(&self.signed.principal.account))
    }

    fn own_registry(&self) -> Result<Arc<Registry>, EcrError> {
        self.registry_of(&self.signed.principal.account)
    }

    fn registry_of(&self, account: &str) -> Result<Arc<Registry>, EcrError> {
        Ok(self.ecr.registry(account, &self.signed.region)?)
    }

    /// An existing repository, and its registry.
    fn repository<'i>(&self, input: &Input<'i>) -> Result<(Arc<Registry>, &'i str), EcrError> {
        let name = input.required("repositoryName", &model::REPOSITORY_NAME)?;
        let registry = self.registry(input)?;
        registry.settings(name)?;
        Ok((registry, name))
    }

    /// The registry and the repository that `resourceArn` names.
    fn resource(&self, input: &Input<'_>) -> Result<(Arc<Registry>, String), EcrError> {
        let arn = input.required("resourceArn", &model::FREE)?;
        let wrong = || EcrError::parameter("resourceArn", "Invalid ARN");
        let (head, name) = arn.split_once(":repository/").ok_or_else(wrong)?;
        let account = head.rsplit(':').next().ok_or_else(wrong)?;
        model::REGISTRY_ID.check("resourceArn", account).map_err(|_| wrong())?;
        let registry = self.registry_of(account)?;
        if registry.arn(name) != arn {
            return Err(wrong());
        }
        registry.settings(name)?;
        Ok((registry, name.to_owned()))
    }
}

pub(super) async fn answer(ecr: &Ecr, host: &str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        let refusal = "the body is too long or broke off";
        return EcrError::new("SerializationException", refusal).into_api_response();
    };
    let content_type = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let Some(target) = text("x-amz-target") else {
        if content_type.starts_with("application/x-www-form-urlencoded") {
            return sts::answer(ecr, &head.headers, &body);
        }
        return unknown_operation().into_api_response();
    };
    let Some(task) = Task::find(target) else { return unknown_operation().into_api_response() };
    if content_type != "application/x-amz-json-1.1" {
        return EcrError::new("SerializationException", "the body is not AWS JSON 1.1")
            .into_api_response();
    }
    let action = task.name;
    let result = match identity::caller(&ecr.faults, &head.headers) {
        Ok(signed) => Caller { ecr, signed: &signed, host }.run(task, &body).await,
        Err(refusal) => Err(refusal),
    };
    match result {
        Ok(value) => distribution::json(StatusCode::OK, "application/x-amz-json-1.1", &value),
        Err(_) if ecr.faults.active_for(Name::Accept, action) => {
            distribution::json(StatusCode::OK, "application/x-amz-json-1.1", &empty())
        }
        Err(refusal) => refusal.into_api_response(),
    }
}

impl Caller<'_> {
    async fn run(&self, task: Task, body: &[u8]) -> ApiResult {
        let Task { service, name, work } = task;
        if self.signed.service != service {
            let text = format!("Credential should be scoped to correct service: '{service}'.");
            return Err(EcrError::new("InvalidSignatureException", text));
        }
        let input: Map<String, Value> = match body {
            [] => Map::new(),
            body => serde_json::from_slice(body)
                .map_err(|error| EcrError::new("SerializationException", error.to_string()))?,
        };
        let input = Input(&input);
        let resource = self.resource_of(service, &input);
        let account = input.value("registryId").and_then(Value::as_str);
        let action = Action {
            service,
            name,
            resource: &resource,
            account: account.unwrap_or(&self.signed.principal.account),
            region: &self.signed.region,
        };
        self.ecr.guard.authorize(&action, &self.signed.principal)?;
        match work {
            Work::Operation(operation) => operation(self, &input),
            Work::Import(import) => import(self, &input).await,
        }
    }

    /// Fails unless the caller may also do an action that the operation implies.
    fn authorize(&self, service: &str, name: &'static str, resource: &str) -> Result<(), EcrError> {
        let Signed { principal, region, .. } = self.signed;
        let action = Action { service, name, resource, account: &principal.account, region };
        self.ecr.guard.authorize(&action, principal)
    }

    /// The ARN in an authorization error.
    fn resource_of(&self, service: &str, input: &Input<'_>) -> String {
        let text = |field: &str| input.value(field).and_then(Value::as_str);
        let account = text("registryId").unwrap_or(&self.signed.principal.account);
        let region = &self.signed.region;
        match (service, text("repositoryName"), text("SecretId").or_else(|| text("Name"))) {
            ("ecr", Some(name), _) => format!("arn:aws:ecr:{region}:{account}:repository/{name}"),
            ("secretsmanager", _, Some(name)) => name.to_owned(),
            _ => "*".to_owned(),
        }
    }
}

struct Task {
    service: &'static str,
    name: &'static str,
    work: Work,
}

enum Work {
    Operation(Operation),
    Import(Import),
}

impl Task {
    fn find(target: &str) -> Option<Task> {
        if let Some(name) = target.strip_prefix(SECRETS_TARGET) {
            let (name, operation) = entry(SECRETS, name)?;
            return Some(Task {
                service: "secretsmanager",
                name,
                work: Work::Operation(operation),
            });
        }
        let name = target.strip_prefix(ECR_TARGET)?;
        let operation = entry(OPERATIONS, name).map(|(name, it)| (name, Work::Operation(it)));
        let import = || entry(IMPORTS, name).map(|(name, it)| (name, Work::Import(it)));
        let (name, work) = operation.or_else(import)?;
        Some(Task { service: "ecr", name, work })
    }
}

fn entry<T: Copy>(table: &[(&'static str, T)], name: &str) -> Option<(&'static str, T)> {
    table.iter().find(|(known, _)| *known == name).copied()
}

fn unknown_operation() -> EcrError {
    EcrError::new("UnknownOperationException", "")
}

fn empty() -> Value {
    Value::Object(Map::new())
}
