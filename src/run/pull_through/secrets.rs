//! Reads the logins of caches from the secrets that other programs manage.

use super::sites::CacheSite;
use crate::{
    model::{Error, Kind, Result, pull_through::UpstreamCredentials},
    pull_through::{fetch_state, kubernetes::ReadLogins, state::Content},
    run::registries::Registries,
};

/// The login of each `secret_arn`, from the first of these registries that has a cache with it.
/// A secret that cannot be used is an error, which never contains its text.
pub(crate) async fn read_logins(
    registries: &Registries,
    sites: &[CacheSite<'_>],
) -> Result<ReadLogins> {
    let mut logins = ReadLogins::new();
    for site in sites {
        let ids = site.caches.iter().filter_map(|cache| match &cache.credentials {
            UpstreamCredentials::Secret(id) => Some(id),
            _ => None,
        });
        for id in ids {
            if logins.contains_key(id) {
                continue;
            }
            // boxed: the compiler does not see to the bottom of futures this deep
            let session = Box::pin(site.session(registries)).await?;
            let found = fetch_state::secret(&session, id).await?;
            let problem = match found.map(|secret| secret.content) {
                Some(Content::Login(login)) => {
                    logins.insert(id.clone(), login);
                    continue;
                }
                Some(Content::Malformed(reason)) => reason,
                Some(Content::PendingDeletion) => "it is deleted, and can still be restored",
                None => "it does not exist",
            };
            let error = format!("cannot use secret `{id}` of {}: {problem}", site.registry.host);
            return Err(Error::new(Kind::Configuration, error)
                .hint(r#"store it as JSON: `{"username": "…", "accessToken": "…"}`"#));
        }
    }
    Ok(logins)
}
