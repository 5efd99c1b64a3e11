//! Manifests, tags and referrers through the registry protocol.

use anyhow::{Context, Result};
use aws_sdk_ecr::types::ImageTagMutability;
use ecr_mirror::model::Digest;
use http::Method;
use serde_json::{Value, json};

use crate::{
    probe::{Scope::*, Seen, probes},
    probe_run::{IMAGE, INDEX, ProbeRun},
};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The longest manifest, in bytes.
const LONGEST: usize = 4 << 20;

probes! {
    "missing-layer", Own, "A manifest whose layer is missing is refused"
        => "404 BLOB_UPLOAD_UNKNOWN", otherwise "swap-missing-status", missing_layer;
    "missing-child", Own, "An index whose image is missing is refused"
        => "404 MANIFEST_BLOB_UNKNOWN", otherwise "swap-missing-status", missing_child;
    "manifest-digest", Own, "A manifest with another digest than its URL is refused"
        => "400 MANIFEST_INVALID", otherwise "status-after=404@ecr:PUT/manifests/", wrong_digest;
    "manifest-syntax", Own, "A manifest that is not JSON is refused"
        => "405 UNSUPPORTED", otherwise "status-after=400@ecr:PUT/manifests/", syntax;
    "manifest-length", Own, "A manifest of more than 4 MiB is refused"
        => "405 UNSUPPORTED", otherwise "status-after=413@ecr:PUT/manifests/", length;
    "immutable-tag", Own, "An immutable tag is refused with the digest that it has, too"
        => "400 TAG_INVALID", otherwise "status-after=201@ecr:PUT/manifests/", immutable;
    "manifest-answer", Own, "A pushed manifest is confirmed by its digest"
        => "201, its digest", otherwise "omit-digest@ecr:PUT/manifests/", answer;
    "manifest-type", Own, "A tag is served as it is stored, also to a client that does not accept the type"
        => "application/vnd.oci.image.manifest.v1+json", otherwise "translate", media_type;
    "subject-header", Own, "A pushed referrer is answered with `OCI-Subject`"
        => "201, the subject", otherwise "otherwise=no-subject-header", subject;
    "referrers", Own, "The referrers of an image are listed"
        => "200, 1", otherwise "status-after=404@ecr:GET/referrers/", referrers;
    "no-referrers", Own, "The list of referrers of a missing image is empty, and no error"
        => "200, 0", otherwise "status-after=404@ecr:GET/referrers/", no_referrers;
    "wrong-tag", Own, "A tag with `+` is refused, and not missing"
        => "400", otherwise "status-after=404@ecr:HEAD/manifests/", wrong_tag;
    "missing-tag", Own, "A missing tag is answered 404"
        => "404 MANIFEST_UNKNOWN", otherwise "status-after=400@ecr:GET/manifests/", missing_tag;
    "missing-repository", Own, "A tag of a missing repository is answered 404"
        => "404 NAME_UNKNOWN", otherwise "status-after=403@ecr:GET/manifests/", missing_repository;
    "child-deletion", Own, "An image of an index cannot be deleted"
        => "405 UNSUPPORTED", otherwise "status-after=202@ecr:DELETE/manifests/", child_deletion;
    "image-quota", EmbeddedOnly("a repository would need 100,000 images"),
        "A repository at its quota of images refuses a further one with 403"
        => "403 DENIED", otherwise "status-after=429@ecr:PUT/manifests/",
        [given "image-quota=0"] image_quota;
    "tag-page", Own, "A page of more than 1,000 tags is refused"
        => "405 UNSUPPORTED", otherwise "status-after=400@ecr:GET/tags/list", tag_page;
    "tag-link", Own, "The next page of tags has an absolute URL, and `last` is not a tag"
        => "absolute, not a tag", otherwise "otherwise=relative-link", tag_link;
}

/// An index of these images.
fn index(images: &[&Digest]) -> String {
    let entry =
        |digest: &&Digest| json!({ "mediaType": IMAGE, "digest": digest.as_str(), "size": 2 });
    let entries: Vec<Value> = images.iter().map(entry).collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string()
}

/// An artifact that refers to `subject`, with the blobs of another image.
fn referrer(image: &str, subject: &Digest) -> Result<String> {
    let mut manifest: Value = serde_json::from_str(image)?;
    manifest["artifactType"] = "application/vnd.example.probe".into();
    manifest["subject"] = json!({ "mediaType": IMAGE, "digest": subject.as_str(), "size": 2 });
    Ok(manifest.to_string())
}

async fn missing_layer(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "content").await?;
    let text = image.text.replace(image.layer.hex(), Digest::of(b"missing").hex());
    run.prepared();
    Ok(run.put_manifest(&repository, "1", IMAGE, &text).await?.code())
}

async fn missing_child(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    let text = index(&[&Digest::of(b"missing")]);
    Ok(run.put_manifest(&repository, "1", INDEX, &text).await?.code())
}

async fn wrong_digest(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "content").await?;
    run.prepared();
    let other = Digest::of(b"other");
    Ok(run.put_manifest(&repository, other.as_str(), IMAGE, &image.text).await?.code())
}

async fn syntax(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    Ok(run.put_manifest(&repository, "1", IMAGE, "{").await?.code())
}

async fn length(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "content").await?;
    let mut manifest: Value = serde_json::from_str(&image.text)?;
    manifest["annotations"] = json!({ "long": "x".repeat(LONGEST) });
    run.prepared();
    Ok(run.put_manifest(&repository, "1", IMAGE, &manifest.to_string()).await?.code())
}

async fn immutable(run: &ProbeRun) -> Seen {
    let immutable = ImageTagMutability::Immutable;
    let repository =
        run.repository_with("a", |create| create.image_tag_mutability(immutable)).await?;
    let image = run.push_image(&repository, "1").await?;
    run.prepared();
    let answer = run.put_manifest(&repository, "1", IMAGE, &image.text).await?;
    run.note(answer.json()["errors"][0]["message"].as_str().unwrap_or("no message"));
    Ok(answer.code())
}

async fn answer(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "content").await?;
    run.prepared();
    let answer = run.put_manifest(&repository, "1", IMAGE, &image.text).await?;
    run.note(if answer.header("location").is_some() { "with Location" } else { "no Location" });
    let digest = match answer.header("docker-content-digest") {
        Some(digest) if digest == image.digest.as_str() => "its digest",
        Some(_) => "another digest",
        None => "no digest",
    };
    Ok(format!("{}, {digest}", answer.code()))
}

async fn media_type(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.push_image(&repository, "1").await?;
    run.prepared();
    let answer = run.read(Method::GET, &format!("{repository}/manifests/1"), DOCKER).await?;
    Ok(answer.header("content-type").unwrap_or("no type").to_owned())
}

async fn subject(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_image(&repository, "1").await?;
    let text = referrer(&image.text, &image.digest)?;
    run.prepared();
    let at = Digest::of(text.as_bytes());
    let answer = run.put_manifest(&repository, at.as_str(), IMAGE, &text).await?;
    let subject = match answer.header("oci-subject") {
        Some(subject) if subject == image.digest.as_str() => "the subject",
        Some(_) => "another subject",
        None => "no subject",
    };
    Ok(format!("{}, {subject}", answer.code()))
}

/// The status and the number of listed referrers.
async fn list(run: &ProbeRun, repository: &str, subject: &Digest) -> Seen {
    let answer = run.get(&format!("{repository}/referrers/{subject}")).await?;
    let listed = answer.json()["manifests"].as_array().map_or(0, Vec::len);
    Ok(format!("{}, {listed}", answer.code()))
}

async fn referrers(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_image(&repository, "1").await?;
    let text = referrer(&image.text, &image.digest)?;
    let at = Digest::of(text.as_bytes());
    run.put_manifest(&repository, at.as_str(), IMAGE, &text).await?;
    run.prepared();
    list(run, &repository, &image.digest).await
}

async fn no_referrers(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    list(run, &repository, &Digest::of(b"missing")).await
}

async fn wrong_tag(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    Ok(run.read(Method::HEAD, &format!("{repository}/manifests/1+2"), IMAGE).await?.code())
}

async fn missing_tag(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    Ok(run.get(&format!("{repository}/manifests/missing")).await?.code())
}

async fn missing_repository(run: &ProbeRun) -> Seen {
    run.prepared();
    Ok(run.get(&format!("{}/manifests/1", run.name("missing"))).await?.code())
}

async fn child_deletion(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_image(&repository, "1").await?;
    run.put_manifest(&repository, "2", INDEX, &index(&[&image.digest])).await?;
    run.prepared();
    let path = format!("{repository}/manifests/{}", image.digest);
    Ok(run.read(Method::DELETE, &path, "*/*").await?.code())
}

async fn image_quota(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "content").await?;
    run.prepared();
    Ok(run.put_manifest(&repository, "1", IMAGE, &image.text).await?.code())
}

async fn tag_page(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    Ok(run.get(&format!("{repository}/tags/list?n=1001")).await?.code())
}

async fn tag_link(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let tags = ["1", "2"];
    for tag in tags {
        run.push_image(&repository, tag).await?;
    }
    run.prepared();
    let answer = run.get(&format!("{repository}/tags/list?n=1")).await?;
    let link = answer.header("link").context("no Link")?;
    let target = link.split(['<', '>']).nth(1).context("a Link without a URL")?;
    let form = if target.starts_with("http") { "absolute" } else { "relative" };
    let url = run.url(target)?;
    let last = url.query_pairs().find(|(name, _)| name == "last").context("no `last`")?.1;
    let is_tag = tags.contains(&last.as_ref());
    Ok(format!("{form}, {}", if is_tag { "a tag" } else { "not a tag" }))
}
