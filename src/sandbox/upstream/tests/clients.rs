//! An independent client over a real socket.

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};

use super::*;
use crate::sandbox::{Mode, Options, Sandbox, upstream::synthesis::media};

#[tokio::test]
async fn oci_client_pulls_images_of_many_registries_through_loopback() {
    let sandbox = Sandbox::start(Options { mode: Mode::Standing, ..Options::default() }).await;
    let sandbox = sandbox.unwrap();
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_from(config).unwrap();
    let anonymous = RegistryAuth::Anonymous;
    let accepted = [media::OCI_MANIFEST, media::DOCKER_MANIFEST];
    for name in [
        "docker.io/sandbox/flat:1.0",
        "ghcr.io/sandbox/single:latest",
        "public.ecr.aws/amazonlinux/amazonlinux:2023",
    ] {
        let image: Reference = format!("{}/{name}", sandbox.address()).parse().unwrap();
        let (bytes, digest) =
            client.pull_manifest_raw(&image, &anonymous, &accepted).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes).as_str(), "{name}");
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            let digest = layer["digest"].as_str().unwrap();
            let mut blob = Vec::new();
            client.pull_blob(&image, digest, &mut blob).await.unwrap();
            assert_eq!(Digest::of(&blob).as_str(), digest, "{name}");
        }
        let tags = client.list_tags(&image, &anonymous, None, None).await.unwrap();
        assert!(tags.tags.contains(&image.tag().unwrap().to_owned()), "{name}");
    }
    sandbox.stop().await;
}
