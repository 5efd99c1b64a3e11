//! ECR's request rates: the published ones, and those that AWS has granted to an account in a region.

use std::{collections::BTreeMap, num::NonZeroU32};

/// An action with a published rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedRate {
    /// The API's name.
    pub action: &'static str,
    /// The name in the configuration and on the command line.
    pub key: &'static str,
    /// Requests per second of an account in a region.
    pub per_second: u32,
}

const fn published(action: &'static str, key: &'static str, per_second: u32) -> PublishedRate {
    PublishedRate { action, key, per_second }
}

/// Every action with a published rate. AWS raises each on request.
///
/// Source: ECR user guide, "Service quotas".
pub const PUBLISHED: [PublishedRate; 8] = [
    published("GetAuthorizationToken", "get_authorization_token", 500),
    published("BatchCheckLayerAvailability", "batch_check_layer_availability", 1_000),
    published("BatchGetImage", "batch_get_image", 2_000),
    published("GetDownloadUrlForLayer", "get_download_url_for_layer", 3_000),
    published("PutImage", "put_image", 10),
    published("InitiateLayerUpload", "initiate_layer_upload", 100),
    published("CompleteLayerUpload", "complete_layer_upload", 100),
    published("UploadLayerPart", "upload_layer_part", 500),
];

/// The steady part of a rate that is used, and the part that a burst may add.
const STEADY: f64 = 0.8;
const BURST: f64 = 0.2;

/// The request rates of an account in a region, and the part of them that this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Granted by AWS, by action; other actions have their published rate.
    granted: BTreeMap<&'static str, u32>,
    /// The processes that share the rates.
    shares: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Self {
        Self::granted([])
    }
}

impl Rates {
    /// These rates of actions with a published rate, each at least 1.
    pub fn granted(rates: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        Self { granted: rates.into_iter().collect(), shares: NonZeroU32::MIN }
    }

    /// The rates that AWS has granted, by action.
    pub(crate) fn granted_rates(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.granted.iter().map(|(action, rate)| (*action, *rate))
    }

    /// The same rates, shared by this many processes.
    #[must_use]
    pub(crate) fn shared(&self, shares: NonZeroU32) -> Self {
        Self { granted: self.granted.clone(), shares }
    }

    /// The requests a second that this process sends; `None` for an action without a rate.
    pub(crate) fn steady(&self, action: &str) -> Option<f64> {
        Some(self.rate(action)? * STEADY)
    }

    /// The requests that this process sends at once after a pause.
    pub(crate) fn burst(&self, action: &str) -> Option<u32> {
        Some((self.rate(action)? * BURST) as u32)
    }

    fn rate(&self, action: &str) -> Option<f64> {
        let granted = self.granted.get(action).copied();
        let published = || PUBLISHED.iter().find(|it| it.action == action).map(|it| it.per_second);
        let rate = granted.or_else(published)?;
        Some(f64::from(rate) / f64::from(self.shares.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_four_fifths_of_its_share_of_the_granted_or_published_rate() {
        let granted = Rates::granted([("PutImage", 100)]);
        let shared = granted.shared(NonZeroU32::new(8).unwrap());
        for (rates, action, steady, burst) in [
            (&Rates::default(), "PutImage", Some(8.0), Some(2)),
            (&granted, "PutImage", Some(80.0), Some(20)),
            (&granted, "UploadLayerPart", Some(400.0), Some(100)),
            (&shared, "PutImage", Some(10.0), Some(2)),
            (&shared, "UploadLayerPart", Some(50.0), Some(12)),
            (&granted, "ListImages", None, None),
        ] {
            assert_eq!((rates.steady(action), rates.burst(action)), (steady, burst), "{action}");
        }
    }
}
