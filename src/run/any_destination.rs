//! A destination of any kind behind one type, statically dispatched.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use crate::{
    ecr::Ecr,
    layout::Layout,
    model::{Descriptor, Digest, Platform, RawManifest, Repository, Result, Tag},
    registry::Registry,
    remote::{
        Apply, ArchivedImage, Body, Destination, FoundTag, Mount, Mounting, Mutability, Presence,
        Provision, Reconciled, UploadSession,
    },
};

pub(crate) enum AnyDestination {
    Ecr(Box<Ecr>),
    Registry(Box<Registry>),
    Layout(Box<Layout>),
}

macro_rules! forward {
    ($($method:ident($($input:ident: $type:ty),*) -> $output:ty;)*) => {
        $(async fn $method(&self, $($input: $type),*) -> $output {
            match self {
                Self::Ecr(destination) => destination.$method($($input),*).await,
                Self::Registry(destination) => destination.$method($($input),*).await,
                Self::Layout(destination) => destination.$method($($input),*).await,
            }
        })*
    };
}

impl Destination for AnyDestination {
    forward! {
        current_tags(repository: &Repository, tags: &[Tag]) -> Result<Option<HashMap<Tag, Digest>>>;
        announce_current_tags(at: &Repository, tags: &[Tag], found: FoundTag<'_>)
            -> Result<Option<HashMap<Tag, Digest>>>;
        manifests(at: &Repository, digests: &[Digest]) -> Result<HashMap<Digest, RawManifest>>;
        missing_manifests(repository: &Repository, digests: &[Digest]) -> Result<HashSet<Digest>>;
        missing_referrers(at: &Repository, referrers: &HashMap<Digest, Vec<Digest>>)
            -> Result<HashSet<Digest>>;
        missing_blobs(repository: &Repository, blobs: &[Descriptor]) -> Result<HashSet<Digest>>;
        platform(repository: &Repository, config: &Descriptor) -> Result<Option<Platform>>;
        pushed_at(repository: &Repository, image: &Digest) -> Option<SystemTime>;
        mount(repository: &Repository, blob: &Descriptor, from: &Repository) -> Result<Mount>;
        open_upload(repository: &Repository, blob: &Descriptor) -> Result<UploadSession>;
        open_unless_stored(repository: &Repository, blob: &Descriptor) -> Result<Mount>;
        push_blob(at: &Repository, blob: &Descriptor, session: UploadSession, body: Body)
            -> Result<()>;
        push_manifest(at: &Repository, manifest: &RawManifest, tag: Option<&Tag>) -> Result<()>;
    }
}

impl Provision for AnyDestination {
    forward! {
        ensure(repository: &Repository) -> Result<()>;
        check_writable(repository: &Repository) -> Result<()>;
        reconcile(repository: &Repository, presence: Presence, apply: Apply) -> Result<Reconciled>;
        archived_tags(repository: &Repository, tags: &[Tag])
            -> Result<HashMap<Tag, ArchivedImage>>;
        archived_manifests(repository: &Repository, digests: &[Digest]) -> Result<HashSet<Digest>>;
        restore(repository: &Repository, archived: &ArchivedImage) -> Result<String>;
        mutability(repository: &Repository, tag: &Tag) -> Result<Mutability>;
        log_in() -> ();
        mounting() -> Mounting;
    }

    fn asks_in_bulk(&self) -> bool {
        match self {
            Self::Ecr(destination) => destination.asks_in_bulk(),
            Self::Registry(destination) => destination.asks_in_bulk(),
            Self::Layout(destination) => destination.asks_in_bulk(),
        }
    }
}
