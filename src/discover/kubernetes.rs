//! Reads Kubernetes manifests: every container of the built-in kinds. In other kinds, texts under a
//! key `image` may be references.
//!
//! Source: Kubernetes API reference, "PodSpec", "Container", "ImageVolumeSource".

use super::{
    FileReader, FoundText, Resolution, detect::TEMPLATE, forms::UseKind, variables::Expansion,
};
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

/// The lists of containers that Kustomize changes, in a resource of any kind. Releases since June 2025
/// change the images of volumes, too.
///
/// Source: kubernetes-sigs/kustomize, `api/filters/imagetag/legacy.go`.
const CHANGED_LISTS: [&str; 2] = ["containers", "initContainers"];

/// Words that only the expressions of a chart have. Other programs have expressions in braces, too.
///
/// Source: Helm documentation, "Built-in Objects", "Template Function List".
const CHART_WORDS: [&str; 5] = [".Values", ".Chart", ".Release", "include ", "tpl "];

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
        None => read_unknown(reader, root, kind, false),
    }
}

fn read_pod(reader: &mut FileReader<'_>, spec: &Node, kind: &str) {
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get(key).map(Node::items).unwrap_or_default() {
            let name = container.text_of("name").unwrap_or_default();
            let found = format!("{kind} {key} {name}");
            add(reader, container.get("image"), use_kind(CHANGED_LISTS.contains(&key)), found);
        }
    }
    for volume in spec.get("volumes").map(Node::items).unwrap_or_default() {
        let name = volume.text_of("name").unwrap_or_default();
        let reference = volume.get("image").and_then(|image| image.get("reference"));
        add(reader, reference, use_kind(false), format!("{kind} volumes {name}"));
    }
}

fn use_kind(is_changed: bool) -> UseKind {
    if is_changed { UseKind::Kubernetes } else { UseKind::KubernetesOther }
}

/// Adds the texts under `image` that look like references. `is_container` is `true` for an item of a
/// list that Kustomize changes.
fn read_unknown(reader: &mut FileReader<'_>, node: &Node, kind: &str, is_container: bool) {
    for item in node.items() {
        read_unknown(reader, item, kind, false);
    }
    for field in node.fields() {
        let value = &field.value;
        let text = value.text().unwrap_or_default();
        let is_reference = text.contains([':', '/']) && text.parse::<Reference>().is_ok();
        if field.key == "image" && (is_reference || is_chart_expression(reader, value)) {
            let first = reader.found.uses.len();
            add(reader, Some(value), use_kind(is_container), format!("{kind} image"));
            reader.found.uses[first..].iter_mut().for_each(|one| one.is_maybe = true);
        }
        if CHANGED_LISTS.contains(&field.key.as_str()) && !value.items().is_empty() {
            value.items().iter().for_each(|item| read_unknown(reader, item, kind, true));
        } else {
            read_unknown(reader, value, kind, false);
        }
    }
}

/// The text of a value in braces, which YAML reads as a map without quotes: `{{ .Values.image }}`.
fn template<'t>(reader: &FileReader<'t>, node: &Node) -> Option<&'t str> {
    let rest = reader.text.get(node.start..).filter(|rest| rest.starts_with("{{"))?;
    let line = rest.lines().next().unwrap_or_default();
    Some(line.rfind("}}").map_or(line, |end| &line[..end + 2]))
}

fn is_chart_expression(reader: &FileReader<'_>, node: &Node) -> bool {
    let text = node.text().or_else(|| template(reader, node)).unwrap_or_default();
    let mut expressions = text.split("{{").skip(1).filter_map(|it| it.split("}}").next());
    expressions.any(|it| CHART_WORDS.iter().any(|word| it.contains(word)))
}

fn add(reader: &mut FileReader<'_>, image: Option<&Node>, kind: UseKind, found: String) {
    let Some(image) = image else { return };
    let found = found.trim_end().to_owned();
    match image.text() {
        Some(text) if !text.contains("{{") => {
            reader.add_value(image, Expansion::literal(text), kind, found);
        }
        text => {
            let Some(text) = text.or_else(|| template(reader, image)) else { return };
            let start = reader.start_of(image, text);
            let text = FoundText::new(Expansion::literal(text), start, kind, found);
            reader.add_as(text, Resolution::Invalid(format!("the image {TEMPLATE}")));
        }
    }
}
