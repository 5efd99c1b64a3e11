//! Copies the referrers of an image: signatures, SBOMs and attestations.
//!
//! Finds them by both schemes: OCI 1.1 referrers, and cosign's tags. Looks for them even if the
//! image is up to date, because they often appear after the image was mirrored. A referrer may have
//! referrers of its own, such as the signature of an SBOM. A referrer that the destination refuses,
//! and a registry that refuses to list them, is a warning, never the image's failure.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    iter::successors,
    slice,
    sync::Arc,
};

use futures::future::{join_all, try_join_all};

use super::{
    copy::TreeCopy,
    plan::{Job, JobTarget, Plan, Verdict},
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
        Digest, Error, Filter, Kind, Manifest, RawManifest, Result, Signatures, Tag,
        nesting::{DEPTH, ENTRIES},
        outcome::{Outcome, Reason, Row},
    },
    remote::{Destination, Source},
};

/// The suffixes of cosign's tags.
///
/// Source: sigstore/cosign, "Signature specification", storage.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Referrer {
    subject: Digest,
    digest: Digest,
    /// cosign's tag; an OCI 1.1 referrer has none.
    tag: Option<Tag>,
}

pub(crate) struct ReferrersCopy<'a, S, D> {
    pub(crate) context: &'a RunContext,
    pub(crate) limits: &'a TransferLimits,
    pub(crate) job: &'a Job<S, D>,
    pub(crate) plan: &'a Plan<S>,
}

impl<S: Source, D: Destination> ReferrersCopy<'_, S, D> {
    /// Copies them to every target that has the image: its row has a digest, and the image is neither
    /// archived nor kept. Updates the rows.
    pub(crate) async fn run(&self, rows: &mut [Row]) {
        let targets = self.job.targets.iter().zip(rows);
        let is_other = |row: &Row| matches!(row.outcome, Outcome::Archived | Outcome::Kept);
        let has_image = |row: &Row| row.digest.is_some() && !is_other(row);
        let targets: Vec<_> = targets.filter(|(_, row)| has_image(row)).collect();
        if self.job.image.filter.signatures == Signatures::None || targets.is_empty() {
            return;
        }
        let found = self.list().await;
        let found = &found.map_err(|error| error.context("cannot list the referrers of the image"));
        let copies = targets.into_iter().map(|(target, row)| async move {
            let copied = match found {
                Ok(Found { referrers, warning }) => {
                    row.warnings.extend(warning.clone());
                    self.copy_to(target, referrers, row).await
                }
                // the image is complete, and other images of the registry may be listed
                Err(error) if is_refused(error) => {
                    row.warnings.push(error.chain().join(": "));
                    Ok(())
                }
                Err(error) => Err(error.clone()),
            };
            match copied {
                // the image is complete
                Err(error) if self.context.keeps_image(&error) => {
                    row.warnings.push(error.chain().join(": "));
                }
                Err(error) => *row = row.clone().with_error(Outcome::of(&error), &error),
                Ok(()) => {}
            }
        });
        join_all(copies).await;
    }

    /// The referrers that the configuration selects, and theirs; each after its subject.
    ///
    /// # Errors
    /// Those of the source; [`Kind::Protocol`] if a referrer is among its own;
    /// [`Kind::Unsupported`] beyond the limits of nested indexes.
    async fn list(&self) -> Result<Found> {
        let subjects = subjects(self.job, self.plan).await?;
        let signatures = &self.job.image.filter.signatures;
        let reader = &self.plan.reader;
        let mut found = Found::default();
        if let Some(index) = &subjects.filtered
            && !referrers_of(reader, index, signatures).await?.is_empty()
        {
            found.warning = Some(
                "the source's index is signed, but only a part of it is mirrored: skipped the \
                 signature, which would not match"
                    .to_owned(),
            );
        }
        let mut seen = HashSet::new();
        let mut subject_of: HashMap<Digest, Digest> = HashMap::new();
        let mut level = subjects.unchanged;
        for depth in 0.. {
            let lists = level.iter().map(|it| referrers_of(reader, it, signatures));
            let listed = try_join_all(lists).await?.into_iter().flatten();
            let new: Vec<_> = listed.filter(|it| seen.insert(it.clone())).collect();
            if new.is_empty() {
                break;
            }
            if depth == DEPTH || found.referrers.len() + new.len() > ENTRIES {
                let limits = format!("{DEPTH} levels, or than {ENTRIES} entries");
                let problem = format!("the image has more referrers than {limits}");
                return Err(Error::new(Kind::Unsupported, problem));
            }
            level.clear();
            for Referrer { subject, digest, .. } in &new {
                if successors(Some(subject), |it| subject_of.get(*it)).any(|it| it == digest) {
                    let problem = format!("{digest} is among its own referrers");
                    return Err(Error::new(Kind::Protocol, problem));
                }
                if let Entry::Vacant(entry) = subject_of.entry(digest.clone()) {
                    entry.insert(subject.clone());
                    level.push(digest.clone());
                }
            }
            found.referrers.extend(new);
        }
        Ok(found)
    }

    /// Copies the missing referrers; returns the first error.
    async fn copy_to(
        &self,
        target: &JobTarget<D>,
        found: &[Referrer],
        row: &mut Row,
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let missing = match missing(&target.repository, found).await {
            Err(error) if is_refused(&error) => {
                let error = error.context("cannot list the referrers of the image's mirror");
                row.warnings.push(error.chain().join(": "));
                return Ok(());
            }
            missing => missing?,
        };
        let mut result = Ok(());
        for referrer in missing {
            let target = CopyTarget::new(&target.repository, referrer.tag.clone()).await;
            match self.copy_one(&target, referrer).await {
                Ok(bytes) => {
                    row.bytes_pushed = [row.bytes_pushed, bytes].into_iter().sum();
                    if row.outcome == Outcome::UpToDate {
                        row.outcome = self.context.copied_outcome();
                        row.reason = Some(Reason::ReferrerAdded);
                    }
                }
                Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::TagImmutable) => {
                    row.warnings.push(format!("skipped a referrer: {}", error.chain().join(": ")));
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Copies a referrer; returns the blob bytes, or `None` if only a pull could tell.
    async fn copy_one(&self, target: &CopyTarget<D>, referrer: &Referrer) -> Result<Option<u64>> {
        let reader = &self.plan.reader;
        let (mode, limits) = (self.context.mode, self.limits);
        if mode == Mode::PlanWithoutPulls && reader.allowance().is_some() {
            return Ok(None);
        }
        let cannot =
            |error: Error| error.context(format!("cannot mirror referrer {}", referrer.digest));
        let foreign_layers = self.job.image.filter.foreign_layers;
        let filter = Filter { foreign_layers, ..Filter::default() };
        let tree = tree::build(reader, &referrer.digest, &filter, &BTreeSet::new()).await;
        let tree = tree.map_err(cannot)?;
        let targets = slice::from_ref(target);
        let (check, progress) = (Check::Tags, Arc::default());
        let copy = TreeCopy { limits, reader, tree: &tree, targets, check, progress };
        copy.run(mode).await.map_err(|unserved| cannot(unserved.into_error()))?;
        match target.failure() {
            Some(error) if mode == Mode::Mirror => Err(cannot(error)),
            _ => Ok(Some(target.pushed.value())),
        }
    }
}

/// The selected referrers of an image.
#[derive(Default)]
struct Found {
    referrers: Vec<Referrer>,
    /// Names the referrers that would not match.
    warning: Option<String>,
}

/// Returns `true` if the registry refuses a query to this identity.
fn is_refused(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unauthorized | Kind::Denied)
}

/// The digests of an image at its targets.
#[derive(Default)]
struct Subjects {
    /// Manifests mirrored as the source has them: their signatures verify.
    unchanged: Vec<Digest>,
    /// The source's index, if only a part of it is mirrored.
    filtered: Option<Digest>,
}

async fn subjects<S: Source, D: Destination>(job: &Job<S, D>, plan: &Plan<S>) -> Result<Subjects> {
    let mut root: Option<RawManifest> = None;
    for (verdict, target) in plan.verdicts.iter().zip(&job.targets) {
        root = match verdict {
            Verdict::Copy { tree: Some(tree), .. } => Some(tree.root.manifest.clone()),
            Verdict::UpToDate(current) => target.repository.manifest(&current.digest).await?,
            _ => continue,
        };
        if root.is_some() {
            break;
        }
    }
    let Some(root) = root else { return Ok(Subjects::default()) };
    let mut unchanged = Vec::new();
    if let Manifest::Index(index) = root.read()? {
        let images = index.manifests.into_iter().filter(|entry| entry.attests().is_none());
        unchanged.extend(images.map(|entry| entry.digest));
    }
    let is_unchanged = plan.source.as_ref().is_none_or(|source| source == root.digest());
    // a flattened image is unchanged, too
    if is_unchanged || !root.media_type().is_index() {
        unchanged.push(root.digest().clone());
    }
    let filtered = plan.source.clone().filter(|_| !is_unchanged);
    Ok(Subjects { unchanged, filtered })
}

/// The referrers of a digest, by both schemes.
async fn referrers_of<S: Source>(
    reader: &Reader<S>,
    subject: &Digest,
    signatures: &Signatures,
) -> Result<Vec<Referrer>> {
    let source = &reader.registry.source;
    let tagged = COSIGN.map(|suffix| async move {
        // cosign's tags have no artifact type to select by
        if *signatures != Signatures::All {
            return Ok(None);
        }
        let tag: Tag = format!("sha256-{}.{suffix}", subject.hex())
            .parse()
            .expect("hexadecimal digits make a tag");
        match source.resolve(&reader.repository, &tag).await {
            Ok(digest) => Ok(Some(Referrer { subject: subject.clone(), digest, tag: Some(tag) })),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    let (listed, tagged) =
        futures::join!(source.referrers(&reader.repository, subject), try_join_all(tagged));
    let (listed, tagged) = (listed.map_err(Error::of_source), tagged.map_err(Error::of_source));
    let listed = listed?.into_iter().filter(|it| signatures.matches(it.artifact_type.as_deref()));
    let listed =
        listed.map(|it| Referrer { subject: subject.clone(), digest: it.digest, tag: None });
    Ok(listed.chain(tagged?.into_iter().flatten()).collect())
}

/// The referrers that the repository lacks, or has under another tag.
async fn missing<'a, D: Destination>(
    target: &TargetRepository<D>,
    found: &'a [Referrer],
) -> Result<Vec<&'a Referrer>> {
    let (destination, repository) = (target.destination(), &target.repository);
    let tags: Vec<Tag> = found.iter().filter_map(|it| it.tag.clone()).collect();
    let current = match tags.is_empty() {
        true => None,
        false => destination.current_tags(repository, &tags).await?,
    };
    let current = current.unwrap_or_default();
    let mut untagged: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for it in found.iter().filter(|it| it.tag.is_none()) {
        untagged.entry(it.subject.clone()).or_default().push(it.digest.clone());
    }
    let missing = match untagged.is_empty() {
        true => HashSet::new(),
        false => match destination.missing_referrers(repository, &untagged).await {
            // a plan creates no repository
            Err(error) if error.kind() == Kind::RepositoryMissing => {
                untagged.into_values().flatten().collect()
            }
            missing => missing?,
        },
    };
    let is_missing = |it: &&Referrer| match &it.tag {
        Some(tag) => current.get(tag) != Some(&it.digest),
        None => missing.contains(&it.digest),
    };
    Ok(found.iter().filter(is_missing).collect())
}
