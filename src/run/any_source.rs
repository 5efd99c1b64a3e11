//! A source of any kind behind one type, statically dispatched.

use std::{collections::HashMap, sync::Arc};

use crate::{
    layout::Layout,
    model::{Descriptor, Digest, ListedImage, RawManifest, Repository, Result, Tag, TagOrDigest},
    registry::Registry,
    remote::{Allowance, ByteStream, PullLimits, Source},
};

pub(crate) enum AnySource {
    Registry(Arc<Registry>),
    Layout(Box<Layout>),
}

macro_rules! forward {
    ($($method:ident($($input:ident: $type:ty),*) -> $output:ty;)*) => {
        $(async fn $method(&self, $($input: $type),*) -> $output {
            match self {
                Self::Registry(source) => source.$method($($input),*).await,
                Self::Layout(source) => source.$method($($input),*).await,
            }
        })*
    };
    (sync $($method:ident($($input:ident: $type:ty),*) -> $output:ty;)*) => {
        $(fn $method(&self, $($input: $type),*) -> $output {
            match self {
                Self::Registry(source) => source.$method($($input),*),
                Self::Layout(source) => source.$method($($input),*),
            }
        })*
    };
}

impl Source for AnySource {
    forward! {
        digests(repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest>;
        listed_images(repository: &Repository, tag: &Tag, index: &Digest) -> Option<Arc<[ListedImage]>>;
        resolve(repository: &Repository, tag: &Tag) -> Result<Digest>;
        manifest(repository: &Repository, at: &TagOrDigest) -> Result<RawManifest>;
        referrers(repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>>;
        blob(repository: &Repository, blob: &Descriptor, from: u64) -> Result<ByteStream>;
    }
    forward! { sync report_corrupt(blob: &Digest) -> bool; }
}

impl PullLimits for AnySource {
    forward! { probe_manifest(repository: &Repository, digest: &Digest) -> Result<()>; }
    forward! { sync
        is_metered() -> bool;
        allowance() -> Option<Allowance>;
        pulls_spent() -> u64;
    }
}
