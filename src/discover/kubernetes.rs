//! Reads Kubernetes manifests: every container of the built-in kinds. In other kinds, texts under a
//! key `image` may be references.
//!
//! Source: Kubernetes API reference, "PodSpec", "Container", "ImageVolumeSource".

use super::{FileReader, forms::UseKind, variables::Expansion};
use crate::model::{Reference, yaml::Node};

/// The built-in kinds that have a pod, and the way to it.
const WORKLOADS: [(&str, &[&str]); 9] = [
    ("Pod", &[]),
    ("PodTemplate", &["template"]),
    ("ReplicationController", &["spec", "template"]),
    ("Deployment", &["spec", "template"]),
    ("ReplicaSet", &["spec", "template"]),
    ("StatefulSet", &["spec", "template"]),
    ("DaemonSet", &["spec", "template"]),
    ("Job", &["spec", "template"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
];

/// Kinds whose texts are data, or descriptions of other kinds.
const DATA: [&str; 4] = ["ConfigMap", "Secret", "CustomResourceDefinition", "Kustomization"];

pub(super) fn is_object(node: &Node) -> bool {
    node.text_of("apiVersion").is_some() && node.text_of("kind").is_some()
}

pub(super) fn read(reader: &mut FileReader<'_>, root: &Node) {
    for item in root.items() {
        read(reader, item);
    }
    let Some(kind) = root.text_of("kind") else { return };
    if kind.ends_with("List")
        && let Some(items) = root.get("items")
    {
        return items.items().iter().for_each(|item| read(reader, item));
    }
    let group = root.text_of("apiVersion").unwrap_or_default();
    let is_built_in = matches!(group, "v1" | "extensions/v1beta1")
        || group.starts_with("apps/")
        || group.starts_with("batch/");
    let workload = WORKLOADS.iter().find(|(name, _)| *name == kind).filter(|_| is_built_in);
    match workload {
        Some((_, path)) => {
            let mut pod = Some(root);
            for key in *path {
                pod = pod.and_then(|node| node.get(key));
            }
            if let Some(spec) = pod.and_then(|pod| pod.get("spec")) {
                read_pod(reader, spec, kind);
            }
        }
        None if DATA.contains(&kind) => {}
        None => read_unknown(reader, root, kind),
    }
}

fn read_pod(reader: &mut FileReader<'_>, spec: &Node, kind: &str) {
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get(key).map(Node::items).unwrap_or_default() {
            let name = container.text_of("name").unwrap_or_default();
            add(reader, container.get("image"), format!("{kind} {key} {name}"), false);
        }
    }
    for volume in spec.get("volumes").map(Node::items).unwrap_or_default() {
        let name = volume.text_of("name").unwrap_or_default();
        let reference = volume.get("image").and_then(|image| image.get("reference"));
        add(reader, reference, format!("{kind} volumes {name}"), false);
    }
}

/// Adds the texts under `image` that look like references.
fn read_unknown(reader: &mut FileReader<'_>, node: &Node, kind: &str) {
    for item in node.items() {
        read_unknown(reader, item, kind);
    }
    for field in node.fields() {
        let text = field.value.text().unwrap_or_default();
        let is_reference = text.contains([':', '/']) && text.parse::<Reference>().is_ok();
        if field.key == "image" && is_reference {
            add(reader, Some(&field.value), format!("{kind} image"), true);
        }
        read_unknown(reader, &field.value, kind);
    }
}

fn add(reader: &mut FileReader<'_>, image: Option<&Node>, found: String, is_maybe: bool) {
    let Some((image, text)) = image.and_then(|image| Some((image, image.text()?))) else { return };
    let first = reader.found.uses.len();
    let found = found.trim_end().to_owned();
    reader.add_value(image, Expansion::literal(text), UseKind::Kubernetes, found);
    reader.found.uses[first..].iter_mut().for_each(|one| one.is_maybe = is_maybe);
}
