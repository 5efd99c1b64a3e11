//! Reads mirrored images back with an independent client.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ecr_mirror::{
    model::{Digest, MediaType},
    sandbox::Sandbox,
};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    manifest::{ImageIndexEntry, OciImageIndex, OciImageManifest},
    secrets::RegistryAuth,
};

use super::world::{World, aws};

/// Digest of `quay.io/team/index:1`, filtered for amd64 and arm64. It is the same on every run, on
/// every machine, and in every version that keeps the format of the annotations.
const FILTERED: &str = "sha256:1662173bdceb9852caad8a792b26178eed5eaa10823bca5041a29543347517f4";

/// `oci-client`, logged in to the ECR of a standing sandbox.
struct Reader {
    client: Client,
    auth: RegistryAuth,
    registry: String,
}

impl Reader {
    async fn of(sandbox: &Sandbox) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let login = aws(sandbox).get_authorization_token().send().await.unwrap();
        let token = login.authorization_data()[0].authorization_token().unwrap();
        let pair = String::from_utf8(STANDARD.decode(token).unwrap()).unwrap();
        let password = pair.strip_prefix("AWS:").unwrap().to_owned();
        let protocol = ClientProtocol::Http;
        Self {
            client: Client::new(ClientConfig { protocol, ..Default::default() }),
            auth: RegistryAuth::Basic("AWS".to_owned(), password),
            registry: sandbox.ecr_address().to_string(),
        }
    }

    fn reference(&self, image: &str) -> Reference {
        format!("{}/{image}", self.registry).parse().unwrap()
    }

    /// Bytes and digest of the manifest. `oci-client` checks the digest.
    async fn manifest(&self, image: &str) -> (Vec<u8>, String) {
        let types = MediaType::ALL.map(MediaType::as_str);
        let image = self.reference(image);
        let (bytes, digest) =
            self.client.pull_manifest_raw(&image, &self.auth, &types).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes).to_string());
        (bytes.to_vec(), digest)
    }

    async fn index(&self, image: &str) -> OciImageIndex {
        serde_json::from_slice(&self.manifest(image).await.0).unwrap()
    }

    /// Pulls configuration and layers of an image. `oci-client` checks each digest.
    async fn assert_image(&self, repository: &str, digest: &str) {
        let name = format!("{repository}@{digest}");
        let (bytes, _) = self.manifest(&name).await;
        let image: OciImageManifest = serde_json::from_slice(&bytes).unwrap();
        for blob in image.layers.iter().chain([&image.config]) {
            let mut content = Vec::new();
            let image = self.reference(&name);
            self.client.pull_blob(&image, blob, &mut content).await.unwrap();
            assert_eq!(content.len() as i64, blob.size);
        }
    }
}

const UNFILTERED: [&str; 4] = ["index", "docker-list", "nested", "single"];

async fn mirrored() -> (World, Vec<Vec<u8>>) {
    let world = World::new().await;
    let image = |name: &str| world.upstream().image(&format!("quay.io/team/{name}:1"));
    let three = ["linux/amd64", "linux/arm64", "linux/arm/v7"];
    image("index").platforms(three).attestations().push();
    image("docker-list").platforms(three).docker().push();
    image("nested").platforms(three).nested().push();
    image("single").docker().single().push();
    let sources: Vec<Vec<u8>> = UNFILTERED
        .iter()
        .map(|name| world.source(&format!("quay.io/team/{name}:1")).bytes.to_vec())
        .collect();
    let mut world = world;
    for name in UNFILTERED {
        world = world.select(&format!("quay.io/team/{name}:1"), "");
    }
    let two = "repository = \"filtered\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]";
    let world = world.select("quay.io/team/index:1", two);
    let first = world.sync().await;
    first.assert_exit(0);
    (world, sources)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfiltered_image_has_the_bytes_of_the_source() {
    let (world, sources) = mirrored().await;
    let (sandbox, _directory) = world.into_standing_sandbox().await;
    let reader = Reader::of(&sandbox).await;
    for (name, source) in UNFILTERED.iter().zip(sources) {
        let (bytes, digest) = reader.manifest(&format!("team/{name}:1")).await;
        assert!(bytes == source, "{name} has other bytes");
        if *name == "single" {
            reader.assert_image("team/single", &digest).await;
        }
    }
    for child in reader.index("team/index:1").await.manifests {
        reader.assert_image("team/index", &child.digest).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_index_has_a_fixed_digest_and_keeps_its_images_unchanged() {
    let (world, sources) = mirrored().await;
    let (sandbox, _directory) = world.into_standing_sandbox().await;
    let reader = Reader::of(&sandbox).await;
    let (_, digest) = reader.manifest("filtered:1").await;
    assert_eq!(digest, FILTERED);

    let source: OciImageIndex = serde_json::from_slice(&sources[0]).unwrap();
    let kept = reader.index("filtered:1").await.manifests;
    let digests = |entries: &[ImageIndexEntry]| -> Vec<String> {
        entries.iter().map(|entry| entry.digest.clone()).collect()
    };
    // image, attestation, image, attestation, …: the first two pairs are amd64 and arm64
    assert_eq!(digests(&kept), digests(&source.manifests)[..4]);
    for (image, attestation) in [(&kept[0], &kept[1]), (&kept[2], &kept[3])] {
        reader.assert_image("filtered", &image.digest).await;
        reader.assert_image("filtered", &attestation.digest).await;
        let notes = attestation.annotations.as_ref().unwrap();
        assert_eq!(notes["vnd.docker.reference.digest"], image.digest);
    }
    let unwanted = format!("filtered@{}", source.manifests[4].digest);
    let unwanted = reader.reference(&unwanted);
    let request = reader.client.fetch_manifest_digest(&unwanted, &reader.auth);
    assert!(request.await.is_err(), "the third platform is not mirrored");
}
