//! A source of any kind behind one type, statically dispatched.

use std::{collections::HashMap, sync::Arc};

use crate::{
    layout::Layout,
    model::{
        Descriptor, Digest, EcrHost, Error, ListedImage, RawManifest, Repository, Result, Tag,
        TagOrDigest,
    },
    pull_through::warm::explain_cached,
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
        referrers(repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>>;
        blob(repository: &Repository, blob: &Descriptor, from: u64) -> Result<ByteStream>;
    }
    forward! { sync report_corrupt(blob: &Digest) -> bool; }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        let resolved = match self {
            Self::Registry(source) => source.resolve(repository, tag).await,
            Self::Layout(source) => source.resolve(repository, tag).await,
        };
        resolved.map_err(|error| self.explain(repository, error))
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        let manifest = match self {
            Self::Registry(source) => source.manifest(repository, at).await,
            Self::Layout(source) => source.manifest(repository, at).await,
        };
        manifest.map_err(|error| self.explain(repository, error))
    }
}

impl AnySource {
    /// Adds a hint to the error of an ECR registry that caches the repository.
    fn explain(&self, repository: &Repository, error: Error) -> Error {
        match self {
            Self::Registry(source) if EcrHost::parse(source.host()).is_some() => {
                explain_cached(repository, error)
            }
            _ => error,
        }
    }
}

impl PullLimits for AnySource {
    forward! { probe_manifest(repository: &Repository, digest: &Digest) -> Result<()>; }
    forward! { sync
        is_metered() -> bool;
        reads_are_free() -> bool;
        starts_slowly() -> bool;
        allowance() -> Option<Allowance>;
        pulls_spent() -> u64;
    }
}
