//! Writes: no partial file is ever visible, with concurrent runs and after every kind of end.

use std::{fs, time::Duration};

use bytes::Bytes;
use futures::stream;

use super::*;
use crate::{
    model::RawManifest,
    remote::{Body, Mount},
};

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
        artifact_type: None,
        urls: Vec::new(),
    }
}

fn body(size: u64, chunks: Vec<Result<Bytes>>) -> Body {
    Body::new(size, stream::iter(chunks))
}

async fn push(to: &Layout, what: &Descriptor, body: Body) -> Result<()> {
    let repository = "a".parse().unwrap();
    let session = to.open_upload(&repository, what).await?;
    to.push_blob(&repository, what, session, body).await
}

/// Every file below the directory that is not a layout's own, nor the lock.
fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.file_name().unwrap().to_str().unwrap() {
            "oci-layout" | "index.json" | "blobs" | "lock" => {}
            ".ecr-mirror" => found.extend(leftovers(&entry)),
            _ => found.push(entry),
        }
    }
    found
}

#[tokio::test]
async fn a_broken_body_leaves_no_file() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::new(place.path().join("l"), Naming::Tag, Arc::default());
    let what = blob(b"abcdef");
    let broken = || Err(Error::new(Kind::Stalled, "nothing came"));
    for (chunks, expected) in [
        (vec![Ok(Bytes::from_static(b"abc")), broken()], Some(Kind::Stalled)),
        (vec![Ok(Bytes::from_static(b"abc"))], Some(Kind::Unavailable)),
        (vec![broken()], Some(Kind::Stalled)),
        (vec![Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"def"))], None),
    ] {
        let pushed = push(&layout, &what, body(6, chunks)).await;
        assert_eq!(pushed.err().map(|error| error.kind()), expected);
        let is_there = layout.store.path(&what.digest).exists();
        assert_eq!(is_there, expected.is_none());
        let staging = place.path().join("l/.ecr-mirror/0");
        assert_eq!(fs::read_dir(staging).unwrap().count(), 1, "only `held`");
    }
    assert_eq!(layout.context.stats.bytes.value(), 3 + 3 + 6);
    let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
    assert!(matches!(layout.mount(&b, &what, &a).await.unwrap(), Mount::Mounted));
    let other = blob(b"other");
    assert!(matches!(layout.mount(&b, &other, &a).await.unwrap(), Mount::Session(_)));
    drop(layout);
    assert_eq!(leftovers(&place.path().join("l")), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_empty_blob_is_written() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::new(place.path(), Naming::Tag, Arc::default());
    push(&layout, &blob(b""), body(0, vec![])).await.unwrap();
    assert!(layout.store.has(&blob(b"")));
}

#[tokio::test]
async fn a_manifest_is_refused_while_its_content_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::new(place.path(), Naming::Tag, Arc::default());
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    let text = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": Digest::of(config), "size": config.len()},
        "layers": [{"digest": Digest::of(layer), "size": layer.len()}],
    });
    let manifest = RawManifest::new(text.to_string().into(), None).unwrap();
    let (repository, tag) = ("a".parse::<Repository>().unwrap(), "1".parse::<Tag>().unwrap());
    for missing in [layer, config] {
        let refused = layout.push_manifest(&repository, &manifest, Some(&tag)).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::ContentMissing);
        assert!(refused.to_string().contains(Digest::of(missing).as_str()), "{refused}");
        assert!(!layout.store.path(manifest.digest()).exists());
        let bytes = Ok(Bytes::copy_from_slice(missing));
        push(&layout, &blob(missing), body(missing.len() as u64, vec![bytes])).await.unwrap();
    }
    layout.push_manifest(&repository, &manifest, Some(&tag)).await.unwrap();
    let current =
        layout.current_tags(&repository, std::slice::from_ref(&tag)).await.unwrap().unwrap();
    assert_eq!(current[&tag], *manifest.digest());
    assert_valid(place.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_that_write_at_once_keep_each_others_entries() {
    let fixture = LayoutFixture::new().await;
    let upstream = fixture.upstream.upstream();
    let names: Vec<String> = (0..12).map(|number| format!("x:{number}")).collect();
    for name in &names {
        upstream.image(&format!("r.example/{name}")).layers(1).layer_size(1000).push();
    }
    let all = Filter::default();
    // each copy opens the layout anew, as another process would
    let copies = names.iter().map(|name| {
        let from = reference(&format!("r.example/{name}"));
        fixture.copy(from, (fixture.layout(Naming::RepositoryAndTag), name), &all)
    });
    for copied in futures::future::join_all(copies).await {
        assert_eq!(copied.outcome(), "Copied");
    }
    let document = document(&fixture.directory());
    assert_eq!(document["manifests"].as_array().unwrap().len(), names.len());
    assert_valid(&fixture.directory());
    assert_eq!(leftovers(&fixture.directory()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_dropped_run_leaves_a_valid_layout_and_the_next_run_completes_it() {
    let fixture = LayoutFixture::new().await;
    fixture.upstream.upstream().image("r.example/x:1").layers(4).push();
    let all = Filter::default();
    let layout = || (fixture.layout(Naming::Tag), "x:1");
    let copy = || fixture.copy(reference("r.example/x:1"), layout(), &all);
    for fault in ["stall=0", "stall=100", "stall"] {
        fixture.upstream.faults().add(fault.parse().unwrap());
        let struck = async {
            while !fixture.upstream.faults().idle().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let copied = tokio::select! {
            copied = copy() => Some(copied.outcome()),
            () = struck => None,
        };
        assert_eq!(copied, None, "{fault}");
        fixture.upstream.faults().clear();
        assert_valid(&fixture.directory());
        let index = document(&fixture.directory());
        assert_eq!(index["manifests"], serde_json::json!([]), "{fault}");
    }
    assert_eq!(copy().await.outcome(), "Copied");
    assert_valid(&fixture.directory());
}

#[tokio::test]
async fn files_of_killed_runs_are_removed_and_files_of_live_runs_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let repository = "a".parse().unwrap();
    let staging = |name: &str| place.path().join(".ecr-mirror").join(name);
    for dead in ["0", "3"] {
        fs::create_dir_all(staging(dead)).unwrap();
        fs::write(staging(dead).join("17"), "half a blo").unwrap();
        fs::write(staging(dead).join("held"), "").unwrap();
    }
    // a run that was killed before it held its directory
    fs::create_dir(staging("4")).unwrap();
    let living = Layout::new(place.path(), Naming::Tag, Arc::default());
    living.ensure(&repository).await.unwrap();
    assert!(staging("0").join("held").exists() && !staging("0").join("17").exists());
    assert!(!staging("3").exists() && !staging("4").exists());
    let other = Layout::new(place.path(), Naming::Tag, Arc::default());
    other.ensure(&repository).await.unwrap();
    assert!(staging("0").join("held").exists() && staging("1").join("held").exists());
    drop((living, other));
    assert_eq!(leftovers(place.path()), Vec::<PathBuf>::new());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_stays_held_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join(".ecr-mirror")).unwrap();
    let held = fs::File::create(place.path().join(".ecr-mirror/lock")).unwrap();
    held.lock().unwrap();
    let layout = Layout::new(place.path(), Naming::Tag, Arc::default());
    let error = layout.ensure(&"a".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("another process has held"), "{error}");
    assert!(!error.is_transient() && error.remedy().is_some());
    drop(held);
    layout.ensure(&"a".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_directory_is_created_with_the_first_write() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("not/there");
    let layout = Layout::new(&directory, Naming::Tag, Arc::default());
    let (repository, tag) = ("a".parse().unwrap(), "1".parse::<Tag>().unwrap());
    assert_eq!(layout.current_tags(&repository, &[tag]).await.unwrap(), None);
    assert!(!place.path().join("not").exists());
    layout.ensure(&repository).await.unwrap();
    assert_valid(&directory);
    assert_eq!(
        fs::read(directory.join("oci-layout")).unwrap(),
        br#"{"imageLayoutVersion":"1.0.0"}"#
    );
}
