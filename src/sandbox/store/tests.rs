//! The store's guarantees, tested on a real directory.

use futures::{Stream, stream};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn body(parts: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> + use<> {
    stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part))).collect::<Vec<_>>())
}

async fn content(store: &Store, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
    let (mut file, size) = store.open_blob(repository, digest).await.unwrap()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len() as u64, size);
    Some(bytes)
}

#[tokio::test]
async fn an_upload_in_parts_becomes_a_blob() {
    let (_directory, store) = store();
    let id = store.start_upload("a/b").unwrap();
    assert_eq!(store.append("a/b", &id, body(&[b"one ", b"two "])).await.unwrap(), 8);
    assert_eq!(store.upload_offset("a/b", &id), Some(8));
    assert_eq!(store.append("a/b", &id, body(&[b"three"])).await.unwrap(), 13);
    let digest = Digest::of(b"one two three");
    assert_eq!(store.blob_size("a/b", &digest), None);
    assert_eq!(store.finish_upload("a/b", &id, &digest).await.unwrap(), 13);
    assert_eq!(store.blob_size("a/b", &digest), Some(13));
    assert_eq!(content(&store, "a/b", &digest).await.unwrap(), b"one two three");
    assert_eq!(store.upload_offset("a/b", &id), None);
}

#[tokio::test]
async fn a_large_upload_stores_the_sent_bytes() {
    let (_directory, store) = store();
    let part = Bytes::from(vec![7_u8; 300_000]);
    let parts = stream::iter((0..10).map(|_| Ok::<_, io::Error>(part.clone())));
    let id = store.start_upload("a").unwrap();
    store.append("a", &id, parts).await.unwrap();
    let digest = Digest::of(&vec![7_u8; 3_000_000]);
    assert_eq!(store.finish_upload("a", &id, &digest).await.unwrap(), 3_000_000);
    assert_eq!(content(&store, "a", &digest).await.unwrap(), vec![7_u8; 3_000_000]);
}

#[tokio::test]
async fn a_wrong_digest_stores_nothing_and_ends_the_session() {
    let (directory, store) = store();
    let id = store.start_upload("a").unwrap();
    store.append("a", &id, body(&[b"x"])).await.unwrap();
    let refused = store.finish_upload("a", &id, &Digest::of(b"y")).await.unwrap_err();
    assert!(
        matches!(refused, FinishError::DigestMismatch { calculated } if calculated == Digest::of(b"x"))
    );
    assert_eq!(store.blob_size("a", &Digest::of(b"y")), None);
    assert!(matches!(
        store.finish_upload("a", &id, &Digest::of(b"x")).await,
        Err(FinishError::Unknown)
    ));
    assert_eq!(fs::read_dir(directory.path().join("unfinished")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_broken_body_keeps_the_received_bytes() {
    let (_directory, store) = store();
    let id = store.start_upload("a").unwrap();
    let broken = stream::iter([Ok(Bytes::from_static(b"abc")), Err(io::Error::other("gone"))]);
    assert!(matches!(store.append("a", &id, broken).await, Err(AppendError::Body(_))));
    assert_eq!(store.upload_offset("a", &id), Some(3));
}

#[tokio::test]
async fn a_session_belongs_to_its_repository() {
    let (_directory, store) = store();
    let id = store.start_upload("a").unwrap();
    assert_eq!(store.upload_offset("b", &id), None);
    assert!(matches!(store.append("b", &id, body(&[b"x"])).await, Err(AppendError::Unknown)));
    assert!(!store.cancel_upload("b", &id));
    assert!(store.cancel_upload("a", &id));
    assert!(!store.cancel_upload("a", &id));
}

#[tokio::test]
async fn a_blob_is_visible_only_where_it_is_linked() {
    let (_directory, store) = store();
    let digest = store.put_blob("a", b"x").await.unwrap();
    assert_eq!(store.blob_size("b", &digest), None);
    assert!(store.link_blob("b", &digest).unwrap());
    assert!(!store.link_blob("b", &Digest::of(b"never came")).unwrap());
    assert!(store.unlink_blob("a", &digest).unwrap());
    assert!(!store.unlink_blob("a", &digest).unwrap());
    assert_eq!(store.blob_size("a", &digest), None);
    assert_eq!(content(&store, "b", &digest).await.unwrap(), b"x");
}

#[tokio::test]
async fn all_content_survives_the_process_except_open_uploads() {
    let (directory, store) = store();
    let blob = store.put_blob("a/b", b"x").await.unwrap();
    let manifest = store.put_manifest("a/b", "application/x", b"{\n}").unwrap();
    store.set_tag("a/b", "v1", &manifest).unwrap();
    store.create_repository("a").unwrap();
    store.set_document("settings/a/b", &json!({ "n": 1 })).unwrap();
    let id = store.start_upload("a/b").unwrap();

    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.repositories(), ["a", "a/b"]);
    assert_eq!(store.blob_size("a/b", &blob), Some(1));
    assert_eq!(store.blob_size("a", &blob), None);
    let (media_type, bytes) = store.manifest("a/b", &manifest).unwrap();
    assert_eq!((media_type.as_str(), &bytes[..]), ("application/x", &b"{\n}"[..]));
    assert_eq!(store.tags("a/b"), [("v1".to_owned(), manifest)]);
    assert_eq!(store.document("settings/a/b"), Some(json!({ "n": 1 })));
    assert_eq!(store.upload_offset("a/b", &id), None);
    assert_eq!(fs::read_dir(directory.path().join("unfinished")).unwrap().count(), 0);
}

#[test]
fn deleting_a_manifest_removes_its_tags() {
    let (directory, store) = store();
    let one = store.put_manifest("a", "x", b"{}").unwrap();
    let two = store.put_manifest("a", "x", b"{ }").unwrap();
    for (tag, digest) in [("1", &one), ("latest", &one), ("2", &two)] {
        store.set_tag("a", tag, digest).unwrap();
    }
    assert!(store.delete_manifest("a", &one).unwrap());
    assert!(!store.delete_manifest("a", &one).unwrap());
    for store in [store, Store::open(directory.path()).unwrap()] {
        assert_eq!(store.tags("a"), [("2".to_owned(), two.clone())]);
        assert_eq!(store.manifests("a"), std::slice::from_ref(&two));
    }
}

#[test]
fn a_tag_moves_and_is_deleted_without_its_manifest() {
    let (_directory, store) = store();
    let one = store.put_manifest("a", "x", b"{}").unwrap();
    let two = store.put_manifest("a", "x", b"{ }").unwrap();
    store.set_tag("a", "t", &one).unwrap();
    store.set_tag("a", "t", &two).unwrap();
    assert_eq!(store.tag("a", "t"), Some(two.clone()));
    assert!(store.delete_tag("a", "t").unwrap());
    assert!(!store.delete_tag("a", "t").unwrap());
    assert!(store.manifest("a", &two).is_some());
}

#[test]
fn a_blob_is_referenced_while_a_manifest_names_it() {
    let (_directory, store) = store();
    let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
    let manifest = |n: u8| {
        json!({ "config": { "digest": config }, "layers": [{ "digest": layer }], "n": n })
            .to_string()
    };
    let one = store.put_manifest("a", "x", manifest(1).as_bytes()).unwrap();
    let two = store.put_manifest("a", "x", manifest(2).as_bytes()).unwrap();
    store.put_manifest("a", "x", manifest(2).as_bytes()).unwrap();
    store.delete_manifest("a", &one).unwrap();
    assert!(store.is_referenced("a", &layer) && store.is_referenced("a", &config));
    assert!(!store.is_referenced("b", &layer));
    store.delete_manifest("a", &two).unwrap();
    assert!(!store.is_referenced("a", &layer));
}

#[tokio::test]
async fn deleting_a_repository_keeps_those_below_it() {
    let (directory, store) = store();
    let blob = store.put_blob("a", b"x").await.unwrap();
    store.create_repository("a/b").unwrap();
    assert!(store.delete_repository("a").unwrap());
    assert!(!store.delete_repository("a").unwrap());
    for store in [&store, &Store::open(directory.path()).unwrap()] {
        assert_eq!(store.repositories(), ["a/b"]);
        assert_eq!(store.blob_size("a", &blob), None);
    }
}

#[test]
fn names_cannot_leave_the_directory() {
    let (_directory, store) = store();
    for name in ["..", "../x", "a/../b", "/a", "a//b", "", "_", "a/_", ".x"] {
        assert!(store.create_repository(name).is_err(), "{name}");
    }
    let digest = Digest::of(b"");
    for tag in ["..", "a/b", "", "-"] {
        assert!(store.set_tag("a", tag, &digest).is_err(), "{tag}");
    }
    assert!(store.set_document("../x", &json!(1)).is_err());
}

#[test]
fn a_document_set_to_null_is_removed() {
    let (_directory, store) = store();
    store.set_document("a", &json!(1)).unwrap();
    store.set_document("a", &Value::Null).unwrap();
    assert_eq!(store.document("a"), None);
}

#[test]
fn references_are_read_from_every_kind_of_manifest() {
    let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
    let d = |digest: &Digest| json!({ "digest": digest, "mediaType": "t/x", "size": 1 });
    let read = |value: Value| Links::read(value.to_string().as_bytes()).unwrap();
    let image = read(json!({ "config": d(&a), "layers": [d(&b)], "subject": d(&c) }));
    assert_eq!(image.blobs, [a.clone(), b.clone()]);
    assert_eq!((image.subject, image.artifact_type.as_deref()), (Some(c.clone()), Some("t/x")));
    let index = read(json!({ "manifests": [d(&a), d(&b)], "artifactType": "t/y" }));
    assert_eq!((index.children, index.blobs), (vec![a.clone(), b.clone()], vec![]));
    assert_eq!(index.artifact_type.as_deref(), Some("t/y"));
    let foreign = json!({ "digest": b, "urls": ["https://example.com/layer"] });
    assert_eq!(
        read(json!({ "config": d(&a), "layers": [foreign] })).blobs,
        std::slice::from_ref(&a)
    );
    assert_eq!(read(json!({ "fsLayers": [{ "blobSum": c }] })).blobs, [c]);
    assert!(Links::read(b"[]").is_err());
    assert!(Links::read(br#"{"config":{"digest":"sha512:00"}}"#).is_err());
}

#[test]
fn concurrent_changes_leave_memory_and_disk_alike() {
    let (directory, store) = store();
    let manifests: Vec<Digest> = (0..4)
        .map(|n| store.put_manifest("a", "x", json!({ "n": n }).to_string().as_bytes()).unwrap())
        .collect();
    std::thread::scope(|threads| {
        for digest in &manifests {
            let store = &store;
            threads.spawn(move || {
                for n in 0..50 {
                    store.set_tag("a", &format!("t{}", n % 5), digest).unwrap();
                    store.delete_tag("a", &format!("t{}", (n + 1) % 5)).unwrap();
                }
            });
        }
    });
    assert_eq!(Store::open(directory.path()).unwrap().tags("a"), store.tags("a"));
}
