//! The permissions that AWS checks for a request: those of the action itself, then those that the
//! action depends on.
//!
//! Source: service authorization reference, Amazon ECR and AWS Secrets Manager, "Resource types" and
//! "Dependent actions"; ECR user guide, "IAM permissions for pushing an image", service quotas (the
//! registry's verbs and their actions), pull-through cache, repository creation templates, enhanced
//! scanning, encryption at rest.

use axum::http::{HeaderMap, Method, request::Parts};
use serde_json::Value;

use super::policy::Access;
use crate::world::ACCOUNT;

/// The ECR actions for which a policy can name no resource.
const WITHOUT_RESOURCE: [&str; 20] = [
    "CreatePullThroughCacheRule",
    "CreateRepositoryCreationTemplate",
    "DeletePullThroughCacheRule",
    "DeleteRegistryPolicy",
    "DeleteRepositoryCreationTemplate",
    "DeregisterPullTimeUpdateExclusion",
    "DescribePullThroughCacheRules",
    "DescribeRepositoryCreationTemplates",
    "GetAccountSetting",
    "GetAuthorizationToken",
    "GetRegistryPolicy",
    "GetRegistryScanningConfiguration",
    "ListPullTimeUpdateExclusions",
    "PutAccountSetting",
    "PutRegistryPolicy",
    "PutRegistryScanningConfiguration",
    "RegisterPullTimeUpdateExclusion",
    "UpdatePullThroughCacheRule",
    "UpdateRepositoryCreationTemplate",
    "ValidatePullThroughCacheRule",
];

/// The actions of a first pull through a cache, for the prefixes of the caches.
pub(super) type FirstPulls = [(&'static str, &'static [&'static str])];

/// The accesses of a request; empty if AWS checks no permission.
pub(super) fn accesses(parts: &Parts, body: &[u8], caches: &FirstPulls) -> Vec<Access> {
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let mut accesses = match target.and_then(|target| target.split_once('.')) {
        Some((service, operation)) => {
            let input: Value = serde_json::from_slice(body).unwrap_or_default();
            let region = signed_region(&parts.headers);
            match service.strip_prefix("AmazonEC2ContainerRegistry") {
                Some(_) => ecr(operation, &region, &input),
                None => secrets_manager(operation, &region, &input),
            }
        }
        None => registry(parts, body),
    };
    let pulled = accesses.iter().filter(|access| access.action == "ecr:BatchGetImage");
    let first_pulls: Vec<Access> = pulled.flat_map(|access| first_pull(access, caches)).collect();
    accesses.extend(first_pulls);
    accesses
}

fn arn(region: &str, account: &str, repository: &str) -> String {
    format!("arn:aws:ecr:{region}:{account}:repository/{repository}")
}

/// The region in the scope of the signature.
fn signed_region(headers: &HeaderMap) -> String {
    let signature = headers.get("authorization").and_then(|value| value.to_str().ok());
    let scope = signature.and_then(|text| text.split_once("Credential=")).map(|(_, scope)| scope);
    scope.and_then(|scope| scope.split('/').nth(2)).unwrap_or_default().to_owned()
}

fn ecr(operation: &str, region: &str, input: &Value) -> Vec<Access> {
    let text = |member: &str| input[member].as_str();
    let account = text("registryId").unwrap_or(ACCOUNT);
    let action = format!("ecr:{operation}");
    let names = input["repositoryNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = text("repositoryName").into_iter().chain(names).collect();
    let resources: Vec<String> = match text("resourceArn") {
        Some(arn) => vec![arn.to_owned()],
        None if WITHOUT_RESOURCE.contains(&operation) => vec!["*".to_owned()],
        None if names.is_empty() => vec![arn(region, account, "*")],
        None => names.into_iter().map(|name| arn(region, account, name)).collect(),
    };
    let mut all: Vec<Access> =
        resources.iter().map(|resource| Access::new(&*action, resource)).collect();
    let resource = &*resources[0];
    let mut depends = |access: Access| all.push(access);
    let linked_role = |service: &str| {
        Access::new("iam:CreateServiceLinkedRole", "*").with("iam:AWSServiceName", service)
    };
    let pass_role = |role: &str, service: &str| {
        Access::new("iam:PassRole", role).with("iam:PassedToService", service)
    };
    match operation {
        "CreateRepository" => {
            if input["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
                depends(Access::new("ecr:TagResource", resource));
            }
            if let Some(key) = input["encryptionConfiguration"]["kmsKey"].as_str() {
                for action in ["kms:CreateGrant", "kms:DescribeKey"] {
                    depends(key_access(action, key, region));
                }
            }
        }
        "PutAccountSetting" => {
            all[0] = all[0].clone().with("ecr:AccountSetting", text("name").unwrap_or_default());
        }
        "PutRegistryScanningConfiguration" => {
            for action in ["ListAccountPermissions", "ListCoverage"] {
                depends(Access::new(format!("inspector2:{action}"), "*"));
            }
            if text("scanType") == Some("ENHANCED") {
                depends(Access::new("inspector2:Enable", "*"));
                depends(linked_role("inspector2.amazonaws.com"));
            } else {
                depends(Access::new("inspector2:Disable", "*"));
            }
        }
        "CreatePullThroughCacheRule" | "UpdatePullThroughCacheRule" => {
            let service = "pullthroughcache.ecr.amazonaws.com";
            if operation.starts_with("Create") {
                depends(linked_role(service));
            }
            if let Some(secret) = text("credentialArn") {
                depends(Access::new("secretsmanager:GetSecretValue", secret));
            }
            if let Some(role) = text("customRoleArn") {
                depends(pass_role(role, service));
            }
        }
        "CreateRepositoryCreationTemplate" | "UpdateRepositoryCreationTemplate" => {
            let service = "ecr.amazonaws.com";
            if operation.starts_with("Create") {
                depends(linked_role(service));
            }
            depends(Access::new("ecr:CreateRepository", arn(region, account, "*")));
            if text("repositoryPolicy").is_some_and(|policy| !policy.is_empty()) {
                depends(Access::new("ecr:SetRepositoryPolicy", arn(region, account, "*")));
            }
            if text("lifecyclePolicy").is_some_and(|policy| !policy.is_empty()) {
                depends(Access::new("ecr:PutLifecyclePolicy", arn(region, account, "*")));
            }
            if let Some(role) = text("customRoleArn") {
                depends(pass_role(role, service));
            }
        }
        _ => {}
    }
    all
}

/// An access to a key by its ARN, its id or its alias. A policy knows an alias as a condition only.
fn key_access(action: &str, key: &str, region: &str) -> Access {
    let own = format!("arn:aws:kms:{region}:{ACCOUNT}:");
    match key.split_once("alias/") {
        Some((_, alias)) => Access::new(action, format!("{own}key/0a1b2c3d"))
            .with("kms:ResourceAliases", &format!("alias/{alias}")),
        None if key.starts_with("arn:") => Access::new(action, key),
        None => Access::new(action, format!("{own}key/{key}")),
    }
}

fn secrets_manager(operation: &str, region: &str, input: &Value) -> Vec<Access> {
    let id = input["SecretId"].as_str().or(input["Name"].as_str());
    let resource = match id {
        Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
        // six characters that Secrets Manager chooses
        Some(name) => {
            format!("arn:aws:secretsmanager:{region}:{ACCOUNT}:secret:{name}-AbCdEf")
        }
        None => "*".to_owned(),
    };
    let mut all = vec![Access::new(format!("secretsmanager:{operation}"), &resource)];
    if operation == "CreateSecret" && input["Tags"].is_array() {
        all.push(Access::new("secretsmanager:TagResource", &resource));
    }
    all
}

/// The accesses of a registry's verb. STS's `GetCallerIdentity` and the storage of layers need no
/// permission.
fn registry(parts: &Parts, body: &[u8]) -> Vec<Access> {
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (account, region) = match host.split('.').collect::<Vec<_>>()[..] {
        [account, "dkr", "ecr", region, "amazonaws", "com"] => (account, region),
        // the registry of a standing sandbox
        _ if host.starts_with("127.0.0.1:") => (ACCOUNT, "us-east-1"),
        _ => return Vec::new(),
    };
    let Some(path) = parts.uri.path().strip_prefix("/v2/") else { return Vec::new() };
    let is = |method: Method| parts.method == method;
    let is_read = is(Method::GET) || is(Method::HEAD);
    let (repository, actions): (&str, &[&str]) = if path == "_catalog" {
        ("*", &["DescribeRepositories"])
    } else if let Some((repository, _)) = path.rsplit_once("/manifests/") {
        (repository, if is_read { &["BatchGetImage"] } else { &["PutImage"] })
    } else if let Some((repository, session)) = path.rsplit_once("/blobs/uploads/") {
        let actions: &[&str] = match parts.method {
            Method::POST if session.is_empty() => &["InitiateLayerUpload"],
            Method::PUT if body.is_empty() => &["CompleteLayerUpload"],
            Method::PUT => &["UploadLayerPart", "CompleteLayerUpload"],
            _ => &["UploadLayerPart"],
        };
        (repository, actions)
    } else if let Some((repository, _)) = path.rsplit_once("/blobs/") {
        let head: &[&str] = &["BatchCheckLayerAvailability"];
        (repository, if is(Method::HEAD) { head } else { &["GetDownloadUrlForLayer"] })
    } else if let Some(repository) = path.strip_suffix("/tags/list") {
        (repository, &["ListImages"])
    } else if let Some((repository, _)) = path.rsplit_once("/referrers/") {
        (repository, &["BatchGetImage"])
    } else {
        return Vec::new();
    };
    let on = |action: &str, repository: &str| {
        Access::new(format!("ecr:{action}"), arn(region, account, repository))
    };
    let mut all: Vec<Access> = actions.iter().map(|action| on(action, repository)).collect();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let mount = query.into_owned().find(|(name, _)| name == "from");
    all.extend(mount.map(|(_, from)| on("GetDownloadUrlForLayer", &from)));
    all
}

/// The further accesses of a pull below the prefix of a cache, as if it was the first one.
fn first_pull(pulled: &Access, caches: &FirstPulls) -> Vec<Access> {
    let below = |prefix: &str| pulled.resource.contains(&format!(":repository/{prefix}/"));
    let cache = caches.iter().find(|(prefix, _)| below(prefix));
    let actions = cache.map_or(&[][..], |(_, actions)| *actions);
    actions.iter().map(|action| Access::new(*action, &pulled.resource)).collect()
}
