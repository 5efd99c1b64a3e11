//! The client against the embedded registries, with what goes wrong in the wild.

use std::sync::Arc;

use super::{listing::names, push};
use crate::{
    model::{Descriptor, Digest, Kind, Manifest, Repository, Tag, TagOrDigest},
    registry::{ConnectionSettings, Network, Registry, Transport},
    remote::{
        Body, Destination, HostContext, Mount, Source,
        body::verified,
        conformance_tests::{DigestCheck, check_destination, check_source},
    },
    sandbox::{Mode, Options, Sandbox},
};

struct RegistryFixture {
    sandbox: Sandbox,
    context: Arc<HostContext>,
}

impl RegistryFixture {
    async fn new(mode: Mode, faults: &[&str]) -> Self {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let sandbox = Sandbox::start(Options { mode, faults, ..Options::default() }).await;
        Self { sandbox: sandbox.unwrap(), context: Arc::default() }
    }

    fn registry(&self, host: &str) -> Arc<Registry> {
        let transport = Transport::new(Network::Sandbox(self.sandbox.address()));
        let (settings, context) = (ConnectionSettings::default(), Arc::clone(&self.context));
        Arc::new(Registry::new(host.parse().unwrap(), settings, &transport, context).unwrap())
    }

    fn lines(&self) -> Vec<String> {
        let entries = self.sandbox.journal();
        entries
            .iter()
            .map(|entry| format!("{} {}{}", entry.method, entry.host, entry.path))
            .collect()
    }
}

/// The first image of the repository's tag, with its blobs.
async fn blobs(registry: &Registry, repository: &Repository, tag: &Tag) -> Vec<Descriptor> {
    let mut at = TagOrDigest::Tag(tag.clone());
    loop {
        match registry.manifest(repository, &at).await.unwrap().read().unwrap() {
            Manifest::Index(index) => at = TagOrDigest::Digest(index.manifests[0].digest.clone()),
            Manifest::Image(image) => return image.blobs().into_iter().cloned().collect(),
        }
    }
}

#[tokio::test]
async fn every_public_registry_is_read() {
    for (host, repository, tag) in [
        ("docker.io", "library/nginx", "1.27"),
        ("quay.io", "prometheus/prometheus", "v2.55.1"),
        ("ghcr.io", "a/b", "1"),
        ("registry.k8s.io", "pause", "3.10"),
        ("mcr.microsoft.com", "dotnet/runtime", "8.0"),
        ("gcr.io", "a/b", "1"),
        ("eu-docker.pkg.dev", "a/b/c", "1"),
        ("public.ecr.aws", "a/b", "1"),
        ("cgr.dev", "chainguard/static", "latest"),
        ("nvcr.io", "nvidia/cuda", "1"),
        ("registry.gitlab.com", "a/b", "1"),
        ("x.azurecr.io", "a/b", "1"),
        ("unknown.example.com", "a/b", "1"),
    ] {
        let world = RegistryFixture::new(Mode::Cloud, &[]).await;
        let registry = world.registry(host);
        let (repository, tag) = (repository.parse().unwrap(), tag.parse::<Tag>().unwrap());
        let digest = registry.resolve(&repository, &tag).await;
        let digest = digest.unwrap_or_else(|e| panic!("{host}: {e:?}\n{:#?}", world.lines()));
        let manifest =
            registry.manifest(&repository, &TagOrDigest::Digest(digest.clone())).await.unwrap();
        assert_eq!(*manifest.digest(), digest);
        let blob = blobs(&registry, &repository, &tag).await.pop().unwrap();
        let size = blob.size;
        let context = Arc::clone(&world.context);
        let body = verified(Arc::clone(&registry), repository.clone(), blob, context);
        assert_eq!(body.read().await.unwrap().len() as u64, size);
        let tags = names(&registry, &repository).await;
        let listed = registry.digests(&repository, &tags).await;
        for (tag, digest) in listed.iter().take(3) {
            assert_eq!(registry.resolve(&repository, tag).await.unwrap(), *digest);
        }
        if listed.is_empty() {
            assert!(!["docker.io", "quay.io", "gcr.io"].contains(&host), "{host} lists nothing");
        }
    }
}

#[tokio::test]
async fn broken_transfers_are_resumed_or_reported() {
    for (fault, expected) in [
        ("cut@upstream:GET/blobs/*2", Ok(())),
        ("cut-last@upstream:GET/blobs/*2", Ok(())),
        ("cut=100@upstream*3", Ok(())),
        ("ignore-range@upstream", Ok(())),
        ("status=503@upstream:GET/blobs/*1", Ok(())),
        ("reset@upstream*1", Ok(())),
        ("expire-tokens@upstream*1", Ok(())),
        ("omit-digest@upstream", Ok(())),
        ("corrupt@upstream", Err(Kind::Corrupt)),
        ("short@upstream", Err(Kind::Corrupt)),
        ("long@upstream", Err(Kind::Corrupt)),
        ("html@upstream:GET/manifests/", Err(Kind::Corrupt)),
    ] {
        let world = RegistryFixture::new(Mode::Cloud, &[]).await;
        let registry = world.registry("docker.io");
        let repository: Repository = "library/alpine".parse().unwrap();
        let tag: Tag = "3.20".parse().unwrap();
        let blob = blobs(&registry, &repository, &tag).await.remove(0);
        world.sandbox.faults().add(fault.parse().unwrap());
        let result = async {
            let digest = registry.resolve(&repository, &tag).await?;
            registry.manifest(&repository, &TagOrDigest::Digest(digest)).await?;
            let context = Arc::clone(&world.context);
            let body = verified(Arc::clone(&registry), repository.clone(), blob, context);
            body.read().await.map(drop)
        };
        let result = result.await;
        assert_eq!(
            result.clone().map_err(|e| e.kind()),
            expected,
            "{fault} {result:?}\n{:#?}",
            world.lines()
        );
    }
}

#[tokio::test]
async fn an_ordinary_registry_accepts_an_image() {
    for faults in [&[][..], &["relative-location@ecr"], &["status=500@ecr:POST*1"]] {
        let world = RegistryFixture::new(Mode::Plain, faults).await;
        let registry = world.registry("registry.example.com");
        let repository: Repository = "a/b".parse().unwrap();
        let tag: Tag = "1".parse().unwrap();
        assert_eq!(
            registry.current_tags(&repository, std::slice::from_ref(&tag)).await.unwrap(),
            None
        );
        let content = b"{}".to_vec();
        let blob = Descriptor {
            media_type: String::new(),
            digest: Digest::of(&content),
            size: content.len() as u64,
            platform: None,
            annotations: Default::default(),
            artifact_type: None,
            urls: Vec::new(),
        };
        let body = Body::new(2, futures::stream::iter([Ok(content.into())]));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"x","digest":"{}","size":2}},"layers":[]}}"#,
            blob.digest
        );
        let manifest = crate::model::RawManifest::new(manifest.into(), None).unwrap();
        let early = registry.push_manifest(&repository, &manifest, Some(&tag)).await;
        assert_eq!(early.unwrap_err().kind(), Kind::ContentMissing);
        push(&*registry, &repository, &blob, body).await.unwrap();
        registry.push_manifest(&repository, &manifest, Some(&tag)).await.unwrap();
        let current =
            registry.current_tags(&repository, std::slice::from_ref(&tag)).await.unwrap().unwrap();
        assert_eq!(current[&tag], *manifest.digest());
        let other = "c".parse().unwrap();
        assert!(matches!(
            registry.mount(&other, &blob, &repository).await.unwrap(),
            Mount::Mounted
        ));
        assert!(registry.missing_blobs(&other, &[blob]).await.unwrap().is_empty());
        assert_eq!(names(&registry, &repository).await, [tag]);
    }
}

#[tokio::test]
async fn a_plain_registry_conforms_to_the_traits_of_the_seam() {
    let world = RegistryFixture::new(Mode::Plain, &[]).await;
    let registry = world.registry("registry.example.com");
    check_destination(&*registry, DigestCheck::ByDestination).await;
    check_source(registry).await;
}
