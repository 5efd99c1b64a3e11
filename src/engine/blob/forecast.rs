//! The blobs that a plan would push, and the images that push them.
//!
//! Images are planned at the same time, in any order. The forecast does not depend on it: of the images
//! that lack a blob, the first one of the configuration pushes it, and the others mount it or find it.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::placements::PlacementKey;
use crate::{
    model::{DestinationId, Digest, Repository, outcome::Blobs},
    remote::Mounting,
};

/// The answer of a destination about a blob of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobAnswer {
    /// Another image of the plan asks for the same blob in the same repository.
    AskedElsewhere,
    Present,
    /// The repository lacks it; `true` if a sibling has it.
    Missing {
        is_in_sibling: bool,
    },
}

/// A blob that the image with this first row pushes.
#[derive(Debug)]
pub(crate) struct ForecastPush {
    pub(crate) first_row: usize,
    pub(crate) destination: DestinationId,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The needed blobs of the images that were planned.
#[derive(Debug, Default)]
pub(crate) struct Forecast(Mutex<HashMap<(DestinationId, Digest, u64), NeededBlob>>);

#[derive(Debug, Default)]
struct NeededBlob {
    /// The times that an image needs it in a repository.
    uses: u64,
    can_be_mounted: bool,
    /// A repository has it, and others can mount it from there.
    is_at_destination: bool,
    repositories: Vec<NeedingRepository>,
}

#[derive(Debug)]
struct NeedingRepository {
    repository: Repository,
    /// The first row of the first image that needs the blob here.
    first_row: usize,
    lacks: bool,
}

impl Forecast {
    /// Adds a blob that the image with this first row needs.
    pub(crate) fn add(
        &self,
        first_row: usize,
        key: PlacementKey,
        mounting: Mounting,
        answer: BlobAnswer,
    ) {
        let PlacementKey { destination, repository, digest, size } = key;
        let mut blobs = self.0.lock();
        let blob = blobs.entry((destination, digest, size)).or_default();
        blob.uses += 1;
        blob.can_be_mounted = mounting != Mounting::Never;
        blob.is_at_destination |=
            matches!(answer, BlobAnswer::Present | BlobAnswer::Missing { is_in_sibling: true });
        let lacks = matches!(answer, BlobAnswer::Missing { .. });
        match blob.repositories.iter_mut().find(|known| known.repository == repository) {
            Some(known) => {
                known.first_row = known.first_row.min(first_row);
                known.lacks |= lacks;
            }
            None => blob.repositories.push(NeedingRepository { repository, first_row, lacks }),
        }
    }

    /// The pushes in an order that depends on nothing else, and the numbers of all blobs.
    pub(crate) fn result(&self) -> (Vec<ForecastPush>, Blobs) {
        let (mut pushes, mut uses, mut lacking) = (Vec::new(), 0, 0);
        for ((destination, digest, size), blob) in &*self.0.lock() {
            uses += blob.uses;
            let images = blob.repositories.iter().filter(|it| it.lacks).map(|it| it.first_row);
            lacking += images.clone().count() as u64;
            let pushing: Vec<usize> = match (blob.can_be_mounted, blob.is_at_destination) {
                (true, true) => Vec::new(),
                (true, false) => images.min().into_iter().collect(),
                (false, _) => images.collect(),
            };
            pushes.extend(pushing.into_iter().map(|first_row| ForecastPush {
                first_row,
                destination: *destination,
                digest: digest.clone(),
                size: *size,
            }));
        }
        pushes.sort_unstable_by(|a, b| {
            (a.first_row, a.destination.0, &a.digest).cmp(&(
                b.first_row,
                b.destination.0,
                &b.digest,
            ))
        });
        let pushed = pushes.len() as u64;
        let blobs = Blobs {
            present: Some(uses - lacking),
            mounted: Some(lacking - pushed),
            pushed: Some(pushed),
        };
        (pushes, blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::{BlobAnswer::*, *};

    /// The images that push, and the numbers of blobs, for these answers in both orders.
    #[track_caller]
    fn forecast(
        mounting: Mounting,
        answers: &[(usize, &str, BlobAnswer)],
    ) -> (Vec<usize>, [u64; 3]) {
        let of = |answers: &mut dyn Iterator<Item = &(usize, &str, BlobAnswer)>| {
            let forecast = Forecast::default();
            for (image, repository, answer) in answers {
                let repository = repository.parse().unwrap();
                let (destination, digest) = (DestinationId(0), Digest::of(b"blob"));
                let key = PlacementKey { destination, repository, digest, size: 3 };
                forecast.add(*image, key, mounting, *answer);
            }
            let (pushes, blobs) = forecast.result();
            let numbers = [blobs.present, blobs.mounted, blobs.pushed].map(Option::unwrap);
            (pushes.into_iter().map(|push| push.first_row).collect::<Vec<_>>(), numbers)
        };
        let forward = of(&mut answers.iter());
        assert_eq!(forward, of(&mut answers.iter().rev()), "the order does not matter");
        forward
    }

    #[test]
    fn the_first_image_of_the_configuration_pushes_a_shared_blob() {
        let missing = Missing { is_in_sibling: false };
        let shared = [
            (4, "a", missing),
            (2, "a", AskedElsewhere),
            (3, "b", missing),
            (7, "b", AskedElsewhere),
        ];
        assert_eq!(forecast(Mounting::OnceUploaded, &shared), (vec![2], [2, 1, 1]));
        assert_eq!(forecast(Mounting::Never, &shared), (vec![2, 3], [2, 0, 2]));
    }

    #[test]
    fn a_blob_that_a_repository_has_is_mounted_by_the_others() {
        let missing = Missing { is_in_sibling: false };
        for there in [(1, "a", Present), (1, "a", Missing { is_in_sibling: true })] {
            let lacking = [there, (0, "b", missing)];
            let (pushing, [.., pushed]) = forecast(Mounting::OnceCommitted, &lacking);
            assert_eq!((pushing, pushed), (vec![], 0), "{there:?}");
        }
        assert_eq!(forecast(Mounting::Never, &[(1, "a", Present)]), (vec![], [1, 0, 0]));
    }
}
