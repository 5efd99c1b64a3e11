//! Listings with digests and push times: Docker Hub's, Quay's, Google's.
//!
//! Sources: hub.docker.com's API reference ("List repository tags", "Read repository tag"), Quay's (`listRepoTags`),
//! go-containerregistry's `google.Tags`.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    http::{Method, StatusCode, Uri, request::Parts},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    address::Address,
    content::{Content, Tagged, Visibility},
    synthesis::{Manifest, media},
};
use crate::{
    model::{Digest, TagOrDigest},
    sandbox::distribution::{json as answer_json, query},
};

/// Maximum tags per page, at Docker Hub and at Quay.
const LARGEST_PAGE: usize = 100;

pub(crate) async fn hub(content: &Arc<Content>, address: &Address, request: &Parts) -> Response {
    let path = request.uri.path().trim_end_matches('/');
    if request.method == Method::POST && path == "/v2/users/login" {
        return ok(&json!({ "token": "sandbox" }));
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    if let ["v2", "namespaces", namespace, "repositories", name, "tags", tag] = parts.as_slice() {
        return hub_one_tag(content, format!("{namespace}/{name}"), (*tag).to_owned()).await;
    }
    if let ["v2", "namespaces", namespace, "repositories"] = parts.as_slice() {
        return hub_repositories(content, address, namespace, &request.uri);
    }
    let repository = match parts.as_slice() {
        ["v2", "namespaces", namespace, "repositories", name, "tags"]
        | ["v2", "repositories", namespace, name, "tags"] => format!("{namespace}/{name}"),
        _ => return not_found(),
    };
    let request_page = PageRequest::read(&request.uri, "page_size", 10);
    let Some(tag_page) = tag_page(content, "docker.io", repository, request_page, hub_tag).await
    else {
        return not_found();
    };
    let page = |number: usize| {
        let query = format!("?page={number}&page_size={}", request_page.size);
        address.url(&format!("{}{query}", request.uri.path()))
    };
    let previous = (request_page.page > 1).then(|| page(request_page.page - 1));
    let next = tag_page.has_more.then(|| page(request_page.page + 1));
    let TagPage { count, rows, .. } = tag_page;
    ok(&json!({ "count": count, "next": next, "previous": previous, "results": rows }))
}

/// The names of a namespace's repositories, without the namespace.
fn names_below(content: &Content, host: &str, namespace: &str) -> Vec<String> {
    let names = content.repositories(host).into_iter().filter_map(|name| {
        let (own, name) = name.rsplit_once('/')?;
        (own == namespace).then(|| name.to_owned())
    });
    names.collect()
}

fn hub_repositories(content: &Content, address: &Address, namespace: &str, uri: &Uri) -> Response {
    let names = names_below(content, "docker.io", namespace);
    let PageRequest { page, size } = PageRequest::read(uri, "page_size", 10);
    let start = (page - 1).saturating_mul(size).min(names.len());
    let end = (start + size).min(names.len());
    let row = |name: &String| json!({ "namespace": namespace, "name": name });
    let rows: Vec<Value> = names[start..end].iter().map(row).collect();
    let next = (end < names.len())
        .then(|| address.url(&format!("{}?page={}&page_size={size}", uri.path(), page + 1)));
    ok(&json!({ "count": names.len(), "next": next, "previous": null, "results": rows }))
}

/// Quay's `listRepos`: the token of the next page is the number of repositories before it.
fn quay_repositories(content: &Content, uri: &Uri) -> Response {
    let namespace = query(uri, "namespace").unwrap_or_default();
    let names = names_below(content, "quay.io", &namespace);
    let start = query(uri, "next_page").and_then(|text| text.parse().ok()).unwrap_or(0);
    let start = names.len().min(start);
    let end = names.len().min(start + LARGEST_PAGE);
    let row = |name: &String| json!({ "namespace": namespace, "name": name, "is_public": true });
    let rows: Vec<Value> = names[start..end].iter().map(row).collect();
    let next = (end < names.len()).then(|| end.to_string());
    ok(&json!({ "repositories": rows, "next_page": next }))
}

async fn hub_one_tag(content: &Arc<Content>, repository: String, name: String) -> Response {
    if content.visibility("docker.io", &repository) != Visibility::Public {
        return not_found();
    }
    let find = move |content: &Content| {
        let tag = content.tag("docker.io", &repository, &name)?;
        Some(hub_tag(content, &repository, &tag))
    };
    content.run_blocking(find).await.map_or_else(not_found, |tag| ok(&tag))
}

fn hub_tag(content: &Content, repository: &str, tag: &Tagged) -> Value {
    let pushed = humantime::format_rfc3339_micros(tag.pushed).to_string();
    let images: Vec<Value> = images(content, "docker.io", repository, &tag.manifest)
        .into_iter()
        .map(|image| {
            let text = |name: &str| image.platform[name].as_str().unwrap_or("unknown");
            json!({
                "architecture": text("architecture"), "features": "",
                "variant": image.platform["variant"], "digest": image.digest,
                "os": text("os"), "os_features": "", "os_version": image.platform["os.version"],
                "size": image.size, "status": "active", "last_pushed": pushed,
            })
        })
        .collect();
    json!({
        "creator": 7, "id": 1, "name": tag.name, "full_size": images[0]["size"], "images": images,
        "last_updated": pushed, "tag_status": "active", "tag_last_pushed": pushed, "v2": true,
        "media_type": tag.manifest.media_type, "content_type": "image",
        "digest": tag.manifest.digest,
    })
}

pub(crate) async fn quay(content: &Arc<Content>, request: &Parts) -> Response {
    let path = request.uri.path().trim_end_matches('/');
    if path == "/api/v1/repository" {
        return quay_repositories(content, &request.uri);
    }
    let repository =
        path.strip_prefix("/api/v1/repository/").and_then(|rest| rest.strip_suffix("/tag"));
    let Some(repository) = repository else { return not_found() };
    let request_page = PageRequest::read(&request.uri, "limit", 50);
    let Some(tag_page) =
        tag_page(content, "quay.io", repository.to_owned(), request_page, quay_tag).await
    else {
        return not_found();
    };
    ok(
        &json!({ "tags": tag_page.rows, "page": request_page.page, "has_additional": tag_page.has_more }),
    )
}

fn quay_tag(content: &Content, repository: &str, tag: &Tagged) -> Value {
    let is_list = is_list(&tag.manifest);
    let size = match is_list {
        true => Value::Null,
        false => images(content, "quay.io", repository, &tag.manifest)[0].size.into(),
    };
    json!({
        "name": tag.name, "reversion": false, "start_ts": millis(tag.pushed) / 1000,
        "manifest_digest": tag.manifest.digest, "is_manifest_list": is_list, "size": size,
        "last_modified": rfc_2822(tag.pushed),
    })
}

/// The field `manifest` of Google's `tags/list`: every tagged digest with its tags and times.
pub(crate) async fn google(content: &Arc<Content>, registry: &str, repository: &str) -> Value {
    let (registry, repository) = (registry.to_owned(), repository.to_owned());
    content.run_blocking(move |content| google_manifests(content, &registry, &repository)).await
}

fn google_manifests(content: &Content, registry: &str, repository: &str) -> Value {
    let mut manifests = Map::new();
    for tag in content.tags(registry, repository) {
        let entry = manifests.entry(tag.manifest.digest.as_str()).or_insert_with(|| {
            let size: u64 = images(content, registry, repository, &tag.manifest)
                .iter()
                .map(|image| image.size)
                .sum();
            json!({
                "imageSizeBytes": size.to_string(), "layerId": "",
                "mediaType": tag.manifest.media_type, "tag": [],
                "timeCreatedMs": millis(tag.pushed).to_string(),
                "timeUploadedMs": millis(tag.pushed).to_string(),
            })
        });
        if let Some(names) = entry["tag"].as_array_mut() {
            names.push(tag.name.as_str().into());
        }
    }
    manifests.into()
}

struct Image {
    digest: Digest,
    platform: Value,
    size: u64,
}

/// The images of a tag, at least one: an index's children, or the manifest itself.
fn images(content: &Content, registry: &str, repository: &str, root: &Manifest) -> Vec<Image> {
    let parsed: Value = serde_json::from_slice(&root.bytes).unwrap_or_default();
    let itself = || Image {
        digest: root.digest.clone(),
        platform: json!({ "architecture": "amd64", "os": "linux" }),
        size: transferred(&parsed),
    };
    let children = parsed["manifests"].as_array().into_iter().flatten();
    let mut images: Vec<Image> = children
        .filter_map(|child| {
            let digest: Digest = child["digest"].as_str()?.parse().ok()?;
            let at = TagOrDigest::Digest(digest.clone());
            let manifest = content.manifest(registry, repository, &at)?;
            let parsed: Value = serde_json::from_slice(&manifest.bytes).ok()?;
            Some(Image { digest, platform: child["platform"].clone(), size: transferred(&parsed) })
        })
        .collect();
    if images.is_empty() {
        images.push(itself());
    }
    images
}

fn transferred(manifest: &Value) -> u64 {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    layers.filter_map(|layer| layer["size"].as_u64()).sum()
}

fn is_list(manifest: &Manifest) -> bool {
    [media::OCI_INDEX, media::DOCKER_LIST].contains(&&*manifest.media_type)
}

/// Page number (from 1) and page size.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageRequest {
    pub(super) page: usize,
    pub(super) size: usize,
}

impl PageRequest {
    pub(super) fn read(uri: &Uri, size_name: &str, usual: usize) -> Self {
        let number = |name: &str| query(uri, name).and_then(|text| text.parse::<usize>().ok());
        let size = number(size_name).unwrap_or(usual).clamp(1, LARGEST_PAGE);
        Self { page: number("page").unwrap_or(1).max(1), size }
    }
}

struct TagPage {
    rows: Vec<Value>,
    /// Number of tags on all pages.
    count: usize,
    has_more: bool,
}

/// A page of a repository's tags, newest first; `None` unless the repository is public.
async fn tag_page(
    content: &Arc<Content>,
    registry: &'static str,
    repository: String,
    request_page: PageRequest,
    row: fn(&Content, &str, &Tagged) -> Value,
) -> Option<TagPage> {
    if content.visibility(registry, &repository) != Visibility::Public {
        return None;
    }
    let make = move |content: &Content| {
        let tags = content.tags(registry, &repository);
        let start = (request_page.page - 1).saturating_mul(request_page.size).min(tags.len());
        let end = (start + request_page.size).min(tags.len());
        let rows = tags[start..end].iter().map(|tag| row(content, &repository, tag)).collect();
        TagPage { rows, count: tags.len(), has_more: end < tags.len() }
    };
    Some(content.run_blocking(make).await)
}

fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

/// Formats a time as Quay does: `Thu, 02 Jan 2025 14:04:05 -0000`.
fn rfc_2822(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = humantime::format_rfc3339_seconds(time).to_string();
    // 1 January 1970 was a Thursday
    let weekday = DAYS[(millis(time) / 86_400_000 % 7) as usize];
    let month = text[5..7].parse().map_or("Jan", |month: usize| MONTHS[month - 1]);
    format!("{weekday}, {} {month} {} {} -0000", &text[8..10], &text[..4], &text[11..19])
}

fn ok(body: &Value) -> Response {
    answer_json(StatusCode::OK, "application/json", body)
}

fn not_found() -> Response {
    let body = json!({ "message": "object not found", "errinfo": {} });
    answer_json(StatusCode::NOT_FOUND, "application/json", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_quays_format() {
        for (time, expected) in [
            ("2025-01-02T14:04:05Z", "Thu, 02 Jan 2025 14:04:05 -0000"),
            ("2024-02-29T00:00:00Z", "Thu, 29 Feb 2024 00:00:00 -0000"),
            ("2024-11-17T23:59:59Z", "Sun, 17 Nov 2024 23:59:59 -0000"),
        ] {
            assert_eq!(rfc_2822(humantime::parse_rfc3339(time).unwrap()), expected);
        }
    }
}
