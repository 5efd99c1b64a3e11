//! Reads the JSON of `docker buildx bake --print`.
//!
//! Source: Bake file reference, "Target".

use std::collections::BTreeSet;

use super::{
    BuildFile, FileReader,
    compose::{IMAGE_CONTEXT, add_build, add_literal, pairs, platforms},
    forms::UseKind,
};
use crate::model::yaml::Node;

pub(super) fn read(reader: &mut FileReader<'_>, root: &Node) {
    for field in root.get("target").map(Node::fields).unwrap_or_default() {
        let (target, node) = (&field.key, &field.value);
        reader.found.bake_targets.push(target.clone());
        let mut contexts = BTreeSet::new();
        for (context, value, place) in pairs(node.get("contexts")) {
            let value = value.unwrap_or_default();
            if let Some(image) = value.strip_prefix(IMAGE_CONTEXT) {
                let found = format!("target.{target}.contexts.{context}");
                let kind = UseKind::Bake { target: target.clone(), context: context.clone() };
                add_literal(reader, place, image, kind, found);
            }
            contexts.insert(context);
        }
        let args = pairs(node.get("args")).into_iter();
        let file = BuildFile {
            path: node.text_of("dockerfile").unwrap_or("Dockerfile").into(),
            build_args: args.filter_map(|(name, value, _)| Some((name, value?))).collect(),
            target: node.text_of("target").map(ToOwned::to_owned),
            contexts,
            platforms: node.get("platforms").map(platforms).unwrap_or_default(),
        };
        match node.get("dockerfile-inline") {
            Some(inline) => reader.add_inline(inline, &file),
            None => add_build(reader, file, node.text_of("context")),
        }
    }
}
