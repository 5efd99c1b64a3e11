//! Makes configurations, manifests and indexes from a recipe.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Attestations, Blob, Format, Layer, Layers, Made, Manifest, PlatformImage, Recipe, Shape, media,
};
use crate::model::{Digest, Platform};

const WINDOWS_BUILD: &str = "10.0.20348.2849";

pub(crate) fn make(recipe: &Recipe, layers: &Layers) -> Made {
    let mut assembler = ImageAssembler { recipe, layers, manifests: Vec::new(), blobs: Vec::new() };
    let first = recipe.images.first().expect("a recipe has at least one image");
    let root = match recipe.shape {
        Shape::Single => assembler.image(first),
        Shape::Chart => assembler.chart(&first.layers),
        Shape::Index => assembler.index(&recipe.images, None),
        Shape::Nested => {
            let (inner, _) = assembler.index(&recipe.images[1..], None);
            assembler.index(&recipe.images[..1], Some(inner))
        }
    };
    Made { root: root.1, manifests: assembler.manifests, blobs: assembler.blobs }
}

type Described = (Value, Digest);

struct ImageAssembler<'a> {
    recipe: &'a Recipe,
    layers: &'a Layers,
    manifests: Vec<Manifest>,
    blobs: Vec<(Digest, Blob)>,
}

impl ImageAssembler<'_> {
    /// Docker's media type or OCI's, by the recipe's format.
    fn media(&self, docker: &'static str, oci: &'static str) -> &'static str {
        match self.recipe.format {
            Format::Docker => docker,
            Format::Oci => oci,
        }
    }

    fn index(&mut self, images: &[PlatformImage], nested: Option<Value>) -> Described {
        let mut children = Vec::new();
        for image in images {
            let (mut child, digest) = self.image(image);
            child["platform"] = platform(&image.platform).into();
            if self.recipe.format == Format::Oci {
                child["annotations"] = json!({
                    "org.opencontainers.image.created": self.recipe.created,
                    "org.opencontainers.image.ref.name": self.recipe.name,
                });
            }
            children.push(child);
            if self.recipe.attestations == Attestations::BuildKit {
                children.push(self.attestation(&digest));
            }
        }
        children.extend(nested);
        let media_type = self.media(media::DOCKER_LIST, media::OCI_INDEX);
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children });
        self.manifest(media_type, &index)
    }

    fn image(&mut self, image: &PlatformImage) -> Described {
        let layer_type = self.media(media::DOCKER_LAYER, media::OCI_LAYER);
        let (layers, diff_ids) = self.describe_layers(&image.layers, layer_type);
        let config = configuration(self.recipe, image, &diff_ids);
        let config_type = self.media(media::DOCKER_CONFIG, media::OCI_CONFIG);
        // real builders write compact configurations and indented manifests
        let config = self.blob(config_type, config.to_string().into());
        let media_type = self.media(media::DOCKER_MANIFEST, media::OCI_MANIFEST);
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
        });
        if self.recipe.format == Format::Oci {
            manifest["annotations"] =
                json!({ "org.opencontainers.image.created": self.recipe.created });
        }
        self.manifest(media_type, &manifest)
    }

    /// Source: docs.docker.com/build/metadata/attestations/attestation-storage.
    fn attestation(&mut self, subject: &Digest) -> Value {
        let predicates = [
            ("https://spdx.dev/Document", packages(&self.recipe.name)),
            ("https://slsa.dev/provenance/v0.2", provenance(&self.recipe.created)),
        ];
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for (kind, predicate) in predicates {
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": kind,
                "subject": [{ "name": self.recipe.name, "digest": { "sha256": subject.hex() } }],
                "predicate": predicate,
            });
            let mut layer = self.blob(media::IN_TOTO, pretty(&statement));
            diff_ids.push(layer["digest"].clone());
            layer["annotations"] = json!({ "in-toto.io/predicate-type": kind });
            layers.push(layer);
        }
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.blob(media::OCI_CONFIG, config.to_string().into());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
        });
        let (mut child, _) = self.manifest(media::OCI_MANIFEST, &manifest);
        child["annotations"] = json!({
            "vnd.docker.reference.digest": subject,
            "vnd.docker.reference.type": "attestation-manifest",
        });
        child["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
        child
    }

    fn chart(&mut self, layers: &[Layer]) -> Described {
        let (name, version) =
            self.recipe.name.rsplit_once(':').unwrap_or((&self.recipe.name, "0.0.0"));
        let name = name.rsplit('/').next().unwrap_or(name);
        let config = json!({
            "name": name, "version": version, "apiVersion": "v2", "type": "application",
            "description": format!("the {name} chart"),
        });
        let annotations = json!({
            "org.opencontainers.image.title": name,
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.created": self.recipe.created,
        });
        let config = self.blob(media::HELM_CONFIG, config.to_string().into());
        let (layers, _) = self.describe_layers(layers, media::HELM_CHART);
        // Helm writes no `mediaType`: only the `Content-Type` names the type
        let manifest = json!({
            "schemaVersion": 2, "config": config, "layers": layers, "annotations": annotations,
        });
        self.manifest(media::OCI_MANIFEST, &manifest)
    }

    fn describe_layers(&mut self, layers: &[Layer], media_type: &str) -> (Vec<Value>, Vec<Digest>) {
        let mut described = Vec::with_capacity(layers.len());
        let mut diff_ids = Vec::with_capacity(layers.len());
        for layer in layers {
            let facts = self.layers.facts(layer);
            described.push(descriptor(media_type, &facts.digest, facts.size));
            diff_ids.push(facts.diff_id);
            self.blobs.push((facts.digest, Blob::Layer(layer.clone())));
        }
        (described, diff_ids)
    }

    fn blob(&mut self, media_type: &str, bytes: Bytes) -> Value {
        let digest = Digest::of(&bytes);
        let described = descriptor(media_type, &digest, bytes.len());
        self.blobs.push((digest, Blob::Bytes(bytes)));
        described
    }

    fn manifest(&mut self, media_type: &str, content: &Value) -> Described {
        let bytes = pretty(content);
        let digest = Digest::of(&bytes);
        let described = descriptor(media_type, &digest, bytes.len());
        self.manifests.push(Manifest {
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            bytes,
        });
        (described, digest)
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn pretty(content: &Value) -> Bytes {
    serde_json::to_vec_pretty(content).expect("a JSON value has text keys only").into()
}

fn platform(platform: &Platform) -> Map<String, Value> {
    let mut described = Map::new();
    described.insert("architecture".into(), platform.architecture.as_str().into());
    described.insert("os".into(), platform.os.as_str().into());
    let windows = (platform.os == "windows").then_some(WINDOWS_BUILD);
    if let Some(version) = platform.os_version.as_deref().or(windows) {
        described.insert("os.version".into(), version.into());
    }
    if let Some(variant) = &platform.variant {
        described.insert("variant".into(), variant.as_str().into());
    }
    described
}

/// Source: OCI image specification, "OCI Image Configuration".
fn configuration(recipe: &Recipe, image: &PlatformImage, diff_ids: &[Digest]) -> Value {
    let mut config = platform(&image.platform);
    let mut history: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| {
            json!({
                "created": recipe.created,
                "created_by": format!("RUN /bin/sh -c make {} # buildkit", layer.seed),
                "comment": "buildkit.dockerfile.v0",
            })
        })
        .collect();
    history.push(json!({
        "created": recipe.created, "created_by": "CMD [\"/bin/app\"]", "empty_layer": true,
    }));
    config.insert("created".into(), recipe.created.as_str().into());
    config.insert(
        "config".into(),
        json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/app"],
            "Labels": { "org.opencontainers.image.title": recipe.name },
        }),
    );
    config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    config.insert("history".into(), history.into());
    config.into()
}

fn packages(name: &str) -> Value {
    let packages: Vec<Value> = (0..24)
        .map(|n| {
            json!({
                "SPDXID": format!("SPDXRef-Package-{n}"), "name": format!("package-{n}"),
                "versionInfo": format!("1.{n}"), "downloadLocation": "NOASSERTION",
            })
        })
        .collect();
    json!({ "spdxVersion": "SPDX-2.3", "name": name, "packages": packages })
}

fn provenance(created: &str) -> Value {
    json!({
        "builder": { "id": "https://github.com/moby/buildkit" },
        "buildType": "https://mobyproject.org/buildkit@v1",
        "metadata": { "buildFinishedOn": created, "reproducible": false },
    })
}
