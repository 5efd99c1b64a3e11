//! Bodies from a source with scripted answers.

use std::collections::{HashMap, VecDeque};

use oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::{
    model::{RawManifest, Tag, TagOrDigest},
    remote::{MaxWait, PullLimits},
};

/// Answers requests for blobs, each with the next answer.
#[derive(Default)]
struct FakeSource {
    answers: Mutex<VecDeque<Result<ByteStream>>>,
}

impl Source for FakeSource {
    async fn digests(&self, _: &Repository, _: &[Tag]) -> HashMap<Tag, Digest> {
        unreachable!("only blobs are read")
    }

    async fn resolve(&self, _: &Repository, _: &Tag) -> Result<Digest> {
        unreachable!("only blobs are read")
    }

    async fn manifest(&self, _: &Repository, _: &TagOrDigest) -> Result<RawManifest> {
        unreachable!("only blobs are read")
    }

    async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>> {
        unreachable!("only blobs are read")
    }

    async fn blob(&self, _: &Repository, _: &Descriptor, _: u64) -> Result<ByteStream> {
        self.answers.lock().pop_front().expect("one answer per expected request")
    }
}

impl PullLimits for FakeSource {}

fn source(answers: impl IntoIterator<Item = Result<ByteStream>>) -> FakeSource {
    FakeSource { answers: Mutex::new(answers.into_iter().collect()) }
}

fn chunks(chunks: &[&'static str]) -> ByteStream {
    let chunks: Vec<_> = chunks.iter().map(|it| Ok(Bytes::from_static(it.as_bytes()))).collect();
    stream::iter(chunks).boxed()
}

fn repository() -> Repository {
    "a/b".parse().unwrap()
}

fn descriptor(media_type: &str, content: &str, size: u64) -> Descriptor {
    let digest = Digest::of(content.as_bytes());
    let fields = json!({ "mediaType": media_type, "digest": digest.as_str(), "size": size });
    serde_json::from_value(fields).unwrap()
}

const CONFIG: &str = r#"{"os":"linux","architecture":"arm64"}"#;

#[tokio::test]
async fn a_stored_configuration_names_the_platform_unless_it_is_damaged() {
    let (begin, end) = (r#"{"os":"linux","#, r#""architecture":"arm64"}"#);
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(CONFIG.as_bytes()))).boxed();
    for (stored, expected) in [
        (chunks(&[begin, end]), Ok("linux/arm64")),
        (chunks(&[begin]), Err(Kind::Corrupt)),
        (chunks(&[begin, end, " "]), Err(Kind::Corrupt)),
        (chunks(&[r#"{"os":"linux","architecture":"amd64"}"#]), Err(Kind::Corrupt)),
        (endless, Err(Kind::Corrupt)),
    ] {
        let config = descriptor(IMAGE_CONFIG_MEDIA_TYPE, CONFIG, CONFIG.len() as u64);
        let read = stored_platform(&source([Ok(stored)]), &repository(), &config).await;
        let platform = read.map(|platform| platform.unwrap().to_string());
        assert_eq!(platform.as_deref().map_err(Error::kind), expected);
    }
    // content other than a configuration is not requested
    let chart = descriptor("application/vnd.cncf.helm.config.v1+json", CONFIG, 1);
    assert_eq!(stored_platform(&source([]), &repository(), &chart).await.unwrap(), None);
}

#[tokio::test]
async fn a_configuration_is_read_up_to_the_largest_size_of_a_manifest() {
    for (size, expected) in [(MANIFEST_LIMIT, Ok(true)), (MANIFEST_LIMIT + 1, Err(Kind::TooLarge))]
    {
        let config = descriptor(IMAGE_CONFIG_MEDIA_TYPE, CONFIG, size);
        let read = platform(&config, || Body::new(size, chunks(&[CONFIG]))).await;
        let is_known = read.map(|platform| platform.is_some());
        assert_eq!(is_known.map_err(|error| error.kind()), expected, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_waits_as_long_as_its_source_asks_before_the_first_byte() {
    let asked = WAIT_INSIDE + Duration::from_secs(1);
    let refusal = Error::new(Kind::Throttled, "429").after(Some(asked));
    let source = Arc::new(source([Err(refusal), Ok(chunks(&["01234", "56789"]))]));
    let context = Arc::new(HostContext::default().waiting(MaxWait::default()));
    let begun = tokio::time::Instant::now();
    let body = verified(source, repository(), descriptor("", "0123456789", 10), context);
    assert_eq!(body.read().await.unwrap(), b"0123456789");
    assert_eq!(begun.elapsed().as_secs(), asked.as_secs());
}

#[tokio::test]
async fn a_blob_that_is_longer_than_described_is_corrupt_and_the_error_says_so() {
    let source = Arc::new(source([Ok(chunks(&["01234", "567890"]))]));
    let blob = descriptor("", "0123456789", 10);
    let read = verified(source, repository(), blob, Arc::default()).read().await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().ends_with(" is longer than its 10 B"), "{error}");
}

#[tokio::test]
async fn consumers_of_a_shared_download_that_is_dropped_get_an_error() {
    let (mut bodies, feed) = tee(Body::new(10, chunks(&["01234", "56789"])), 1);
    drop(feed);
    let error = bodies.remove(0).read().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}
