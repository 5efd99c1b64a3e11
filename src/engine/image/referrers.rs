//! What travels with an image: signatures, SBOMs and whatever else refers to it.
//!
//! Both schemes: OCI 1.1 referrers, and cosign's tags. They are looked for
//! beside every image that is wanted so, up to date or not, because they often
//! appear only after it was mirrored. What a destination refuses is a warning,
//! never the image's failure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::{join_all, try_join_all};

use super::{
    copy::TreeCopy,
    plan::{Job, Plan, Verdict},
    tree,
};
use crate::{
    engine::{
        blob::target::CopyTarget,
        options::Mode,
        run::Mirror,
        state::{repository::TargetRepository, source::Reader},
    },
    model::{
        Digest, Error, Filter, Kind, Manifest, RawManifest, Result, Signatures, Tag, Target,
        event::{Event, Progress},
    },
    remote::{Destination, Source},
};

/// The endings of the tags that cosign gives what it attaches to a digest.
///
/// Source: sigstore/cosign, "Signature specification", storage.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// Something that refers to an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Referrer {
    subject: Digest,
    digest: Digest,
    /// cosign's name for it; referrers have none.
    tag: Option<Tag>,
}

/// What looking for companions came to at one target.
#[derive(Debug)]
pub(crate) struct ReferrersResult {
    /// Blob bytes pushed, or to push; `None` where only a pull could tell.
    pub(crate) bytes: Option<u64>,
    /// How many were not there yet.
    pub(crate) copied: usize,
    pub(crate) failure: Option<Error>,
}

impl Default for ReferrersResult {
    fn default() -> Self {
        Self { bytes: Some(0), copied: 0, failure: None }
    }
}

/// The digests that companions may refer to.
struct Subjects {
    /// What is mirrored as it is at the source: its companions verify.
    whole: Vec<Digest>,
    /// The source's index, when what is mirrored is a part of it.
    filtered: Option<Digest>,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Brings what refers to the image to every target that has it; one gain per target.
    pub(crate) async fn copy_referrers(
        &self,
        job: &Job<S, D>,
        plan: &Plan<S>,
        lanes: &[CopyTarget<D>],
    ) -> Vec<ReferrersResult> {
        let none = || job.targets.iter().map(|_| ReferrersResult::default()).collect();
        if job.image.filter.signatures == Signatures::None {
            return none();
        }
        let there = |target: &Target, verdict: &Verdict| match verdict {
            Verdict::UpToDate(_) => true,
            Verdict::Copy(Some(_)) => {
                lanes.iter().any(|lane| lane.id == target.destination && lane.is_alive())
            }
            _ => false,
        };
        let ready: Vec<bool> =
            job.image.targets.iter().zip(&plan.verdicts).map(|(t, v)| there(t, v)).collect();
        if !ready.contains(&true) {
            return none();
        }
        let found = match self.list_referrers(job, plan).await {
            Ok(found) => found,
            Err(error) => {
                let failure = error.context("cannot look for what refers to the image");
                let gain = |ready: &bool| ReferrersResult {
                    failure: ready.then(|| failure.clone()),
                    ..ReferrersResult::default()
                };
                return ready.iter().map(gain).collect();
            }
        };
        let gains = job.targets.iter().zip(&job.image.targets).zip(ready).map(
            |((group, target), ready)| {
                let found = &found;
                async move {
                    match ready {
                        true => self.copy_to(job, &plan.reader, (group, target), found).await,
                        false => ReferrersResult::default(),
                    }
                }
            },
        );
        join_all(gains).await
    }

    /// Everything that refers to the image and is wanted.
    async fn list_referrers(&self, job: &Job<S, D>, plan: &Plan<S>) -> Result<Vec<Referrer>> {
        let subjects = subjects(job, plan).await?;
        let wanted = &job.image.filter.signatures;
        if let Some(index) = &subjects.filtered
            && !referrers_of(&plan.reader, index, wanted).await?.is_empty()
        {
            let text = "the source's index is signed; what is mirrored is a part of it, which the \
                        signature would not verify: it stays behind";
            self.observer.observe(&Event::Warning {
                subject: job.image.origin.to_string(),
                text: text.to_owned(),
            });
        }
        let asked = subjects.whole.iter().map(|digest| referrers_of(&plan.reader, digest, wanted));
        let mut seen = HashSet::new();
        let all = try_join_all(asked).await?.into_iter().flatten();
        Ok(all.filter(|companion| seen.insert(companion.clone())).collect())
    }

    async fn copy_to(
        &self,
        job: &Job<S, D>,
        reader: &Reader<S>,
        (group, target): (&Arc<TargetRepository<D>>, &Target),
        found: &[Referrer],
    ) -> ReferrersResult {
        let missing = match missing(group, found).await {
            Ok(missing) => missing,
            Err(error) => {
                return ReferrersResult { failure: Some(error), ..ReferrersResult::default() };
            }
        };
        let mounting = group.endpoint.destination.mounting().await;
        let mut gain = ReferrersResult::default();
        for companion in missing {
            let lane = CopyTarget::new(
                target.destination,
                Arc::clone(group),
                companion.tag.clone(),
                mounting,
            );
            match self.copy_one(reader, &lane, companion).await {
                Ok(bytes) => {
                    gain.bytes = gain.bytes.zip(bytes).map(|(all, more)| all + more);
                    gain.copied += 1;
                }
                Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::TagImmutable) => {
                    self.observer.observe(&Event::Warning {
                        subject: job.image.origin.to_string(),
                        text: format!("left behind: {}", error.chain().join(": ")),
                    });
                }
                Err(error) => {
                    gain.failure.get_or_insert(error);
                }
            }
        }
        gain
    }

    async fn copy_one(
        &self,
        reader: &Reader<S>,
        lane: &CopyTarget<D>,
        companion: &Referrer,
    ) -> Result<Option<u64>> {
        if self.options.mode == Mode::PlanWithoutPulls && reader.allowance().is_some() {
            return Ok(None);
        }
        let cannot =
            |error: Error| error.context(format!("cannot mirror referrer {}", companion.digest));
        reader.reserve(1).await?;
        let tree =
            tree::build(reader, &companion.digest, &Filter::default()).await.map_err(cannot)?;
        let copy = TreeCopy {
            limits: &self.limits,
            manifests: &self.manifests,
            reader,
            tree: &tree,
            targets: std::slice::from_ref(lane),
            progress: Arc::new(Progress::default()),
        };
        if self.options.mode != Mode::Mirror {
            return Ok(Some(copy.forecast().await.bytes.into_iter().sum()));
        }
        copy.run().await;
        lane.failure().map_or(Ok(Some(lane.pushed.value())), |error| Err(cannot(error)))
    }
}

/// The digests of the image at its targets that companions may refer to.
async fn subjects<S: Source, D: Destination>(job: &Job<S, D>, plan: &Plan<S>) -> Result<Subjects> {
    let mut root: Option<RawManifest> = None;
    for (verdict, group) in plan.verdicts.iter().zip(&job.targets) {
        root = match verdict {
            Verdict::Copy(Some(tree)) => Some(tree.root.clone()),
            Verdict::UpToDate(standing) => group.manifest(&standing.digest).await?,
            _ => continue,
        };
        if root.is_some() {
            break;
        }
    }
    let Some(root) = root else { return Ok(Subjects { whole: vec![], filtered: None }) };
    let mut whole = Vec::new();
    if let Manifest::Index(index) = root.read()? {
        let images = index.manifests.into_iter().filter(|entry| entry.attests().is_none());
        whole.extend(images.map(|entry| entry.digest));
    }
    let is_whole = plan.source.as_ref().is_none_or(|source| source == root.digest());
    // a flat image is one of the source's own, not a part of one
    if is_whole || !root.media_type().is_index() {
        whole.push(root.digest().clone());
    }
    let filtered = plan.source.clone().filter(|_| !is_whole);
    Ok(Subjects { whole, filtered })
}

/// What refers to this digest, by either scheme.
async fn referrers_of<S: Source>(
    reader: &Reader<S>,
    subject: &Digest,
    wanted: &Signatures,
) -> Result<Vec<Referrer>> {
    let source = &reader.registry.source;
    let tagged = COSIGN.map(|ending| async move {
        // cosign's tags have no artifact type to choose by
        if *wanted != Signatures::All {
            return Ok(None);
        }
        let tag = cosign_tag(subject, ending);
        match source.resolve(&reader.repository, &tag).await {
            Ok(digest) => Ok(Some(Referrer { subject: subject.clone(), digest, tag: Some(tag) })),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    let (referrers, tagged) =
        futures::join!(source.referrers(&reader.repository, subject), try_join_all(tagged));
    let referrers = referrers?.into_iter().filter(|it| wanted.matches(it.artifact_type.as_deref()));
    let referrers =
        referrers.map(|it| Referrer { subject: subject.clone(), digest: it.digest, tag: None });
    Ok(referrers.chain(tagged?.into_iter().flatten()).collect())
}

fn cosign_tag(subject: &Digest, ending: &str) -> Tag {
    format!("sha256-{}.{ending}", subject.hex()).parse().expect("hexadecimal digits make a tag")
}

/// Those that the repository does not have, or not under that tag.
async fn missing<'a, D: Destination>(
    group: &TargetRepository<D>,
    found: &'a [Referrer],
) -> Result<Vec<&'a Referrer>> {
    let (destination, repository) = (&group.endpoint.destination, &group.repository);
    let tags: Vec<Tag> = found.iter().filter_map(|it| it.tag.clone()).collect();
    let current = match tags.is_empty() {
        true => None,
        false => destination.current_tags(repository, &tags).await?,
    };
    let current = current.unwrap_or_default();
    let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for it in found.iter().filter(|it| it.tag.is_none()) {
        referrers.entry(it.subject.clone()).or_default().push(it.digest.clone());
    }
    let absent = match referrers.is_empty() {
        true => HashSet::new(),
        false => match destination.missing_referrers(repository, &referrers).await {
            // a plan makes no repository
            Err(error) if error.kind() == Kind::RepositoryMissing => {
                referrers.into_values().flatten().collect()
            }
            missing => missing?,
        },
    };
    let is_missing = |it: &&Referrer| match &it.tag {
        Some(tag) => current.get(tag) != Some(&it.digest),
        None => absent.contains(&it.digest),
    };
    Ok(found.iter().filter(is_missing).collect())
}
