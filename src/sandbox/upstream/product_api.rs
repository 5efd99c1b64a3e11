//! The lists of repositories of GitLab and Harbor.
//!
//! A token, or a user's password, is accepted unless it is `wrong`. Without one, the lists have public
//! repositories only.
//!
//! Sources: docs.gitlab.com, "Container registry API"; Harbor's API, `listRepositories`.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    content::{Content, Visibility},
    listing::PageRequest,
    token::{authorization, credentials},
};
use crate::sandbox::distribution::{Refusal, json as answer_json};

/// Answers GitLab's API on this host. Its registry is the host with `registry.` before it. Names of one
/// component are groups, longer ones are projects.
pub(super) fn gitlab(content: &Content, host: &str, request: &Parts) -> Response {
    let refuse = |status: StatusCode, problem: &str| {
        let message = format!("{} {problem}", status.as_u16());
        answer_json(status, "application/json", &json!({ "message": message }))
    };
    let token = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let token = authorization(&request.headers, "bearer")
        .or_else(|| token("private-token"))
        .or_else(|| token("job-token"));
    if token == Some("wrong") {
        return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let parts: Vec<&str> = request.uri.path().split('/').skip(1).collect();
    let ["api", "v4", kind @ ("groups" | "projects"), id, "registry", "repositories"] = parts[..]
    else {
        return refuse(StatusCode::NOT_FOUND, "Not Found");
    };
    let (registry, path) = (format!("registry.{host}"), id.replace("%2F", "/"));
    let names = names_below(content, &registry, &path, token.is_some());
    if path.contains('/') == (kind == "groups") || names.is_empty() {
        let subject = if kind == "groups" { "Group" } else { "Project" };
        return refuse(StatusCode::NOT_FOUND, &format!("{subject} Not Found"));
    }
    let row = |name: &String| {
        json!({
            "id": 1, "name": name.splitn(3, '/').nth(2).unwrap_or_default(), "path": name,
            "project_id": 9, "location": format!("{registry}/{name}"),
            "created_at": "2024-01-10T13:38:57.391Z", "cleanup_policy_started_at": null,
        })
    };
    page(&names, request, "per_page", 20, row)
}

/// Answers Harbor's API of this registry. The first component of a repository is its project.
pub(super) fn harbor(content: &Content, registry: &str, request: &Parts) -> Response {
    let user = credentials(&request.headers);
    let unauthorized = || Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "unauthorized");
    if user.as_ref().is_some_and(|(_, password)| password == "wrong") {
        return unauthorized().into_response();
    }
    let parts: Vec<&str> = request.uri.path().split('/').skip(1).collect();
    let ["api", "v2.0", "projects", project, "repositories"] = parts[..] else {
        return Refusal::unknown("NOT_FOUND", "path not found").into_response();
    };
    let names = names_below(content, registry, project, user.is_some());
    match (names.is_empty(), user) {
        (true, None) => unauthorized().into_response(),
        (true, Some(_)) => {
            Refusal::new(StatusCode::FORBIDDEN, "FORBIDDEN", "forbidden").into_response()
        }
        (false, _) => {
            let row = |name: &String| {
                json!({
                    "id": 1, "project_id": 9, "name": name, "artifact_count": 1, "pull_count": 0,
                    "creation_time": "2024-01-10T13:38:57.391Z",
                })
            };
            page(&names, request, "page_size", 10, row)
        }
    }
}

/// The repositories below a path, or with this name, that the caller may see.
fn names_below(content: &Content, registry: &str, path: &str, has_account: bool) -> Vec<String> {
    let mut names = content.repositories(registry);
    names.retain(|name| {
        let is_below =
            name.strip_prefix(path).is_some_and(|it| it.is_empty() || it.starts_with('/'));
        is_below && (has_account || content.visibility(registry, name) == Visibility::Public)
    });
    names
}

/// A page of rows, with a link to the next page.
fn page(
    names: &[String],
    request: &Parts,
    size_name: &str,
    usual: usize,
    row: impl Fn(&String) -> Value,
) -> Response {
    let PageRequest { page, size } = PageRequest::read(&request.uri, size_name, usual);
    let start = (page - 1).saturating_mul(size).min(names.len());
    let end = (start + size).min(names.len());
    let rows: Vec<Value> = names[start..end].iter().map(row).collect();
    let mut response = answer_json(StatusCode::OK, "application/json", &rows.into());
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert("x-total-count", names.len().into());
    if end < names.len() {
        let next = format!("{}?page={}&{size_name}={size}", request.uri.path(), page + 1);
        let link = HeaderValue::try_from(format!("<{next}>; rel=\"next\""));
        headers.extend(link.ok().map(|link| (header::LINK, link)));
    }
    response
}
