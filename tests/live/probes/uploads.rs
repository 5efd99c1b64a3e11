//! Uploads, mounts and reads of blobs.

use anyhow::{Context, Result};
use ecr_mirror::model::Digest;
use http::Method;
use url::Url;

use super::LONG;
use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::{Answer, IMAGE, ProbeRun},
};

/// The time in which an account setting takes effect.
const SETTING: std::time::Duration = std::time::Duration::from_secs(120);
/// The smallest part of an upload but the last.
const PART: usize = 5 << 20;

probes! {
    "upload-location", Own, "An upload is answered 202 with an absolute `Location`"
        => "202, absolute", otherwise "relative-location@ecr:POST", location;
    "upload-missing-repository", Own, "An upload to a missing repository is answered, and not cut off"
        => "404 NAME_UNKNOWN", otherwise "reset@ecr:POST/blobs/uploads/", missing_repository;
    "upload-by-post", Own, "A POST with `digest` and the content opens an upload and stores nothing"
        => "202, not stored", otherwise "status-after=201@ecr:POST/blobs/uploads/", by_post;
    "patch-status", Own, "A PATCH of an upload is answered 201"
        => "201", otherwise "status-after=202@ecr:PATCH", patch_status;
    "patch-range", Own, "The `Range` of a second PATCH is still that of the first"
        => "0-5242879", otherwise "otherwise=patch-range", patch_range;
    "patch-offset", Own, "A part at a wrong offset is refused"
        => "416 BLOB_UPLOAD_INVALID", otherwise "status-after=202@ecr:PATCH", patch_offset;
    "short-part", Own, "A part below 5 MiB that is not the last fails the upload at its end"
        => "400 BLOB_UPLOAD_INVALID", otherwise "status-after=201@ecr:PUT/blobs/uploads/", short_part;
    "wrong-digest", Own, "Content with another digest is refused"
        => "400 BLOB_UPLOAD_INVALID", otherwise "status-after=201@ecr:PUT/blobs/uploads/", wrong_digest;
    "sha512", Own, "A SHA-512 digest is refused"
        => "400 DIGEST_INVALID", otherwise "status-after=201@ecr:PUT/blobs/uploads/", sha512;
    "empty-blob", Own, "A blob without bytes is refused"
        => "500, not stored", otherwise "empty-blob=drop", empty_blob;
    "existing-blob", Own, "A blob that is there can be uploaded again"
        => "201", otherwise "status-after=409@ecr:PUT/blobs/uploads/", existing_blob;
    "upload-life", Slow, "An upload lives for ten minutes without a request"
        => "201", otherwise "otherwise=sessions-expire", upload_life;
    "unnamed-layer-life", Slow, "A layer that no image names is kept for ten minutes"
        => "201", otherwise "vanish", unnamed_layer_life;
    "blob-head", Own, "HEAD of a blob is answered 200, with the layer's media type and length"
        => "200, application/vnd.oci.image.layer.v1.tar+gzip, 10",
        otherwise "otherwise=blob-type", blob_head;
    "missing-blob", Own, "HEAD of a missing blob is answered 404"
        => "404", otherwise "status-after=403@ecr:HEAD/blobs/", missing_blob;
    "blob-get", Own, "GET of a blob redirects to another host"
        => "307, another host", otherwise "status-after=302@ecr:GET/blobs/", blob_get;
    "storage-login", Own, "The other host refuses a login besides the signature of the URL"
        => "200 without, 400 with", otherwise "status-after=200@ecr:GET//prod-", storage_login;
    "unnamed-layer", Own, "A layer that no image names cannot be read"
        => "404 BLOB_UNKNOWN", otherwise "status-after=307@ecr:GET/blobs/", unnamed_layer;
    "mount-without-from", Own, "A mount without `from` opens an upload"
        => "202", otherwise "status-after=201@ecr:POST/blobs/uploads/", mount_without_from;
    "mount", Account, "With `BLOB_MOUNTING`, the layer of an image of another repository is mounted"
        => "201", otherwise "ignore-mount@ecr", mount;
    "mount-unnamed", Account, "A layer that no image of the other repository names is not mounted"
        => "202", otherwise "status-after=201@ecr:POST/blobs/uploads/", mount_unnamed;
}

async fn location(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    let answer = run.post(&format!("{repository}/blobs/uploads/")).await?;
    let location = answer.header("location").context("no Location")?;
    let kind = if Url::parse(location).is_ok() { "absolute" } else { "relative" };
    Ok(format!("{}, {kind}", answer.code()))
}

async fn missing_repository(run: &ProbeRun) -> Seen {
    run.prepared();
    Ok(run.post(&format!("{}/blobs/uploads/", run.name("missing"))).await?.code())
}

/// `stored` if the repository has the blob.
async fn stored(run: &ProbeRun, repository: &str, digest: &Digest) -> Result<&'static str> {
    let head = run.read(Method::HEAD, &format!("{repository}/blobs/{digest}"), "*/*").await?;
    Ok(if head.status == Some(200) { "stored" } else { "not stored" })
}

async fn by_post(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let digest = Digest::of(b"content");
    run.prepared();
    let url = run.url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"))?;
    let headers = [("content-type", "application/octet-stream")];
    let answer = run.send(Method::POST, url, &headers, b"content").await?;
    Ok(format!("{}, {}", answer.code(), stored(run, &repository, &digest).await?))
}

async fn patch(run: &ProbeRun, upload: &Url, range: Option<&str>, body: &[u8]) -> Result<Answer> {
    let mut headers = vec![("content-type", "application/octet-stream")];
    headers.extend(range.map(|range| ("content-range", range)));
    run.send(Method::PATCH, upload.clone(), &headers, body).await
}

async fn patch_status(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    run.prepared();
    Ok(patch(run, &upload, None, b"part").await?.code())
}

async fn patch_range(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    run.prepared();
    patch(run, &upload, None, &vec![0; PART]).await?;
    let second = patch(run, &upload, None, b"part").await?;
    Ok(second.header("range").unwrap_or("no range").to_owned())
}

async fn patch_offset(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    run.prepared();
    Ok(patch(run, &upload, Some("3-5"), b"abc").await?.code())
}

async fn short_part(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    patch(run, &upload, None, b"short").await?;
    run.prepared();
    let whole = Digest::of(b"short part");
    Ok(run.put_upload(&upload, whole.as_str(), b" part").await?.code())
}

async fn wrong_digest(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    run.prepared();
    Ok(run.put_upload(&upload, Digest::of(b"other").as_str(), b"content").await?.code())
}

async fn sha512(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    // of "abc". Source: FIPS 180-4, examples
    let digest = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                  2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    run.prepared();
    Ok(run.put_upload(&upload, digest, b"abc").await?.code())
}

async fn empty_blob(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let upload = run.open_upload(&repository).await?;
    let digest = Digest::of(b"");
    run.prepared();
    let answer = run.put_upload(&upload, digest.as_str(), b"").await?;
    run.note(answer.code());
    let status = answer.status.context("the connection was closed")?;
    Ok(format!("{status}, {}", stored(run, &repository, &digest).await?))
}

async fn existing_blob(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let digest = run.push_blob(&repository, b"content").await?;
    let upload = run.open_upload(&repository).await?;
    run.prepared();
    Ok(run.put_upload(&upload, digest.as_str(), b"content").await?.code())
}

async fn upload_life(run: &ProbeRun) -> Seen {
    let upload = run.open_upload(&run.repository().await?).await?;
    run.prepared();
    run.backend.wait(LONG).await;
    Ok(run.put_upload(&upload, Digest::of(b"late").as_str(), b"late").await?.code())
}

async fn unnamed_layer_life(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "late").await?;
    stored(run, &repository, &image.layer).await?;
    run.prepared();
    run.backend.wait(LONG).await;
    Ok(run.put_manifest(&repository, "1", IMAGE, &image.text).await?.code())
}

async fn blob_head(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_image(&repository, "1").await?;
    run.prepared();
    let path = format!("{repository}/blobs/{}", image.layer);
    let head = run.read(Method::HEAD, &path, "*/*").await?;
    let header = |name| head.header(name).unwrap_or("nothing");
    Ok(format!("{}, {}, {}", head.code(), header("content-type"), header("content-length")))
}

async fn missing_blob(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    let path = format!("{repository}/blobs/{}", Digest::of(b"missing"));
    Ok(run.read(Method::HEAD, &path, "*/*").await?.code())
}

async fn blob_get(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_image(&repository, "1").await?;
    run.prepared();
    let answer = run.get(&format!("{repository}/blobs/{}", image.layer)).await?;
    let target = run.url(answer.header("location").context("no Location")?)?;
    let host = target.host_str().unwrap_or_default();
    run.note(host);
    let place = if host == run.backend.host { "the same host" } else { "another host" };
    Ok(format!("{}, {place}", answer.code()))
}

async fn storage_login(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let image = run.push_image(&repository, "1").await?;
    let answer = run.get(&format!("{repository}/blobs/{}", image.layer)).await?;
    let target = run.url(answer.header("location").context("no Location")?)?;
    let without = run.send_as(None, Method::GET, target.clone(), &[], b"").await?;
    run.prepared();
    // not the login: this host is not the registry
    let with = run.send_as(Some("Basic QVdTOng="), Method::GET, target, &[], b"").await?;
    Ok(format!("{} without, {} with", without.code(), with.code()))
}

async fn unnamed_layer(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    let layer = run.push_blob(&repository, b"unnamed").await?;
    run.prepared();
    Ok(run.get(&format!("{repository}/blobs/{layer}")).await?.code())
}

async fn mount_without_from(run: &ProbeRun) -> Seen {
    let repository = run.repository().await?;
    run.prepared();
    let digest = Digest::of(b"missing");
    Ok(run.post(&format!("{repository}/blobs/uploads/?mount={digest}")).await?.code())
}

/// Enables `BLOB_MOUNTING`, and creates a repository to mount from and one to mount to.
async fn two_repositories(run: &ProbeRun) -> Result<(String, String)> {
    let name = "BLOB_MOUNTING";
    let current = run.api(|ecr| ecr.get_account_setting().name(name).send()).await?;
    let current = current.accepted()?["value"].as_str().unwrap_or("DISABLED").to_owned();
    if current != "ENABLED" {
        run.will_make(Made::Setting(name, current));
        let put = run.api(|ecr| ecr.put_account_setting().name(name).value("ENABLED").send());
        put.await?.accepted()?;
    }
    let unchanged = |create| create;
    Ok((run.repository_with("from", unchanged).await?, run.repository_with("to", unchanged).await?))
}

async fn mount(run: &ProbeRun) -> Seen {
    let (from, to) = two_repositories(run).await?;
    let image = run.push_image(&from, "1").await?;
    run.prepared();
    let path = format!("{to}/blobs/uploads/?mount={}&from={from}", image.layer);
    let mounted = run.until(SETTING, || async {
        let answer = run.post(&path).await?;
        Ok((answer.status == Some(201)).then(|| answer.code()))
    });
    Ok(mounted.await?.unwrap_or_else(|| "no mount".to_owned()))
}

async fn mount_unnamed(run: &ProbeRun) -> Seen {
    let (from, to) = two_repositories(run).await?;
    let layer = run.push_blob(&from, b"unnamed").await?;
    run.prepared();
    Ok(run.post(&format!("{to}/blobs/uploads/?mount={layer}&from={from}")).await?.code())
}
