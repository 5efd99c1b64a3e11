//! Checks images that are up to date against everything that their destination holds, and repairs
//! them.
//!
//! A destination can lose content that it accepted: a registry's disk, a wrong garbage collection.
//! Its tags do not tell. Reads the manifests at the destination, so that a check spends no pull of
//! the source.

use std::{
    collections::{BTreeSet, HashSet},
    slice,
    sync::Arc,
};

use super::{
    copy::TreeCopy,
    missing,
    plan::{Job, JobTarget, Plan},
    tree,
};
use crate::{
    engine::{
        blob::{target::CopyTarget, transfer::TransferLimits},
        context::RunContext,
        options::{Check, Mode},
        state::{repository::TargetRepository, source::Reader},
    },
    model::{
        Archived, Descriptor, Digest, Error, Filter, Kind, Platform, RawManifest, Result,
        outcome::{Outcome, Reason, Row},
    },
    remote::{
        Destination, Source,
        index_walk::{self, ImageReader, Unserved},
    },
};

pub(crate) struct Repair<'a, S, D> {
    pub(crate) context: &'a RunContext,
    pub(crate) limits: &'a TransferLimits,
    pub(crate) job: &'a Job<S, D>,
    pub(crate) plan: &'a Plan<S>,
}

impl<S: Source, D: Destination> Repair<'_, S, D> {
    /// Checks every target that is up to date, and repairs it if the mode allows. Updates the rows.
    /// Returns the blob bytes that a plan would read, as far as it can tell.
    pub(crate) async fn run(&self, rows: &mut [Row]) -> u64 {
        let mut bytes_to_read: u64 = 0;
        for (target, row) in self.job.targets.iter().zip(rows) {
            let (Outcome::UpToDate, Some(digest)) = (row.outcome, row.digest.clone()) else {
                continue;
            };
            match self.repair(target, &digest, &mut row.warnings).await {
                Ok(None) => {}
                Ok(Some(repaired)) => {
                    row.outcome = self.context.copied_outcome();
                    row.reason = Some(Reason::Repaired);
                    row.bytes_pushed = repaired.bytes_pushed;
                    bytes_to_read = bytes_to_read.saturating_add(repaired.bytes_to_read);
                }
                Err(error) => {
                    let problem = format!("cannot check the content of {digest}");
                    let error = error.context(problem);
                    *row = row.clone().with_error(Outcome::of(&error), &error);
                }
            }
        }
        bytes_to_read
    }

    /// Returns `None` if the image is complete.
    ///
    /// Leaves archived manifests as they are, with a warning, unless the filter restores them.
    async fn repair(
        &self,
        target: &JobTarget<D>,
        digest: &Digest,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Repaired>> {
        let (limits, reader, mode) = (self.limits, &self.plan.reader, self.context.mode);
        let at_destination = DestinationReader { repository: &target.repository, reader };
        let foreign_layers = self.job.image.filter.foreign_layers;
        let filter = Filter { foreign_layers, ..Filter::default() };
        let current = async {
            let root = at_destination.manifest(digest).await?;
            index_walk::filter_image(&at_destination, root, &filter, &BTreeSet::new()).await
        };
        let is_metered = reader.registry.source.is_metered();
        let spends_no_pull = mode == Mode::PlanWithoutPulls && is_metered;
        let mut tree = match current.await {
            Err(error) if error.kind() == Kind::NotFound && spends_no_pull => {
                return Ok(Some(Repaired::default()));
            }
            // an index is missing
            Err(error) if error.kind() == Kind::NotFound => {
                let source = self.plan.source.as_ref().unwrap_or(digest);
                tree::build(reader, source, &self.job.image.filter, &BTreeSet::new()).await?
            }
            tree => tree?,
        };
        let target = CopyTarget::new(&target.repository, None).await;
        let mut incomplete = missing::incomplete_manifests(reader, &tree, &target).await?;
        if self.job.image.filter.archived == Archived::Leave && !incomplete.is_empty() {
            let archived = archived_manifests(&target, &incomplete).await?;
            incomplete.retain(|digest| !archived.contains(digest));
            // a push would restore them
            tree.images.retain(|image| !archived.contains(&image.digest));
            tree.nested.retain(|index| !archived.contains(index.digest()));
            warnings.extend(archived.iter().map(|digest| {
                format!("{digest} of the image is archived: its content is not checked")
            }));
            warnings.sort();
        }
        if incomplete.is_empty() {
            return Ok(None);
        }
        if spends_no_pull && !incomplete.iter().all(|digest| reader.is_cached(digest)) {
            return Ok(Some(Repaired::default()));
        }
        let (targets, tree) = (slice::from_ref(&target), &tree);
        let (check, progress) = (Check::Deep, Arc::default());
        let copy = TreeCopy { limits, reader, tree, targets, check, progress };
        let copied = copy.run(mode).await.map_err(Unserved::into_error)?;
        let bytes_pushed = Some(target.pushed.value());
        let repaired = Repaired { bytes_pushed, bytes_to_read: copied.bytes_to_read };
        target.failure().map_or(Ok(Some(repaired)), Err)
    }
}

/// The archived ones among these manifests.
async fn archived_manifests<D: Destination>(
    target: &CopyTarget<D>,
    digests: &HashSet<Digest>,
) -> Result<HashSet<Digest>> {
    let digests: Vec<Digest> = digests.iter().cloned().collect();
    target.destination().archived_manifests(&target.repository.repository, &digests).await
}

/// The bytes that the repair of an image pushed, or in a plan would push and read.
#[derive(Default)]
struct Repaired {
    /// The blob bytes that were missing; `None` if only a pull could tell.
    bytes_pushed: Option<u64>,
    bytes_to_read: u64,
}

/// Reads manifests at the destination.
///
/// A missing one is [`Kind::NotFound`].
struct DestinationReader<'a, S, D> {
    repository: &'a TargetRepository<D>,
    reader: &'a Reader<S>,
}

impl<S: Source, D: Destination> ImageReader for DestinationReader<'_, S, D> {
    async fn manifest(&self, digest: &Digest) -> Result<RawManifest> {
        let TargetRepository { repository, .. } = self.repository;
        let destination = self.repository.destination();
        let mut found = destination.manifests(repository, slice::from_ref(digest)).await?;
        let missing = || Error::new(Kind::NotFound, format!("{digest} is missing"));
        let manifest = found.remove(digest).ok_or_else(missing)?;
        self.reader.remember(&manifest);
        Ok(manifest)
    }

    async fn platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        self.reader.platform(config).await
    }
}
