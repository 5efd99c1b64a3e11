//! Writing to an ordinary registry.

use std::collections::{HashMap, HashSet};

use futures::{FutureExt, future::try_join_all};
use http::{HeaderValue, Method, StatusCode, header};

use super::{
    client::Registry,
    errors::Operation,
    http::ApiRequest,
    scope::{Permission, Scope},
};
use crate::{
    model::{Descriptor, Digest, Error, Kind, RawManifest, Repository, Result, Tag, TagOrDigest},
    remote::{Body, Destination, Mount, Provision, UploadSession},
};

impl Destination for Registry {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        let access = &Scope::new(repository, Permission::PullPush);
        let found = self.each(tags, |tag| async move { self.resolve_for(access, &tag).await });
        let found: HashMap<_, _> = found.await?.into_iter().collect();
        if found.is_empty() && !self.exists(access).await? {
            return Ok(None);
        }
        Ok(Some(found))
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        let access = &Scope::new(repository, Permission::PullPush);
        let found = self.each(digests, |digest| async move {
            self.manifest_for(access, &TagOrDigest::Digest(digest)).await
        });
        Ok(found.await?.into_iter().collect())
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let access = &Scope::new(repository, Permission::PullPush);
        let found =
            self.each(digests, |digest| async move { self.head_manifest(access, &digest).await });
        Ok(others(digests, found.await?))
    }

    async fn missing_referrers(
        &self,
        repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>> {
        let (mut listed, mut unlisted) = (Vec::new(), Vec::new());
        for (subject, digests) in referrers {
            let known = self.list_referrers(repository, subject).await?;
            let known: HashSet<Digest> = known.into_iter().map(|known| known.digest).collect();
            let (there, rest): (Vec<Digest>, Vec<Digest>) =
                digests.iter().cloned().partition(|digest| known.contains(digest));
            listed.extend(there);
            unlisted.extend(rest);
        }
        // what was deleted since may still be listed
        let mut missing = self.missing_manifests(repository, &listed).await?;
        missing.extend(unlisted);
        Ok(missing)
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let access = &Scope::new(repository, Permission::PullPush);
        let found =
            self.each(digests, |digest| async move { self.head_blob(access, &digest).await });
        Ok(others(digests, found.await?))
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        self.start_upload(repository, Some((&blob.digest, from))).await
    }

    async fn open_upload(
        &self,
        repository: &Repository,
        _blob: &Descriptor,
    ) -> Result<UploadSession> {
        match self.start_upload(repository, None).await? {
            Mount::Session(session) => Ok(session),
            Mount::Mounted => Err(Error::new(Kind::Protocol, "mounted what was not asked for")),
        }
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        self.upload(repository, blob, session, body).await
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        match self.put(repository, manifest, tag).await? {
            Referred::Listed => Ok(()),
            Referred::Untold => self.keep_fallback(repository, manifest).await,
        }
    }
}

impl Provision for Registry {}

/// Whether the registry lists a manifest among its subject's referrers by itself.
pub(crate) enum Referred {
    /// It said so.
    Listed,
    /// It did not, or there is no subject.
    Untold,
}

impl Registry {
    /// Puts the manifest and nothing else.
    pub(crate) async fn put(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<Referred> {
        let access = Scope::new(repository, Permission::PullPush);
        let at = tag.map_or(manifest.digest().as_str(), Tag::as_str);
        let url = self.url(&format!("{repository}/manifests/{at}"));
        let mut call = ApiRequest::new(Method::PUT, url, &access, Operation::Commit);
        let media_type = HeaderValue::from_static(manifest.media_type().as_str());
        call.headers.insert(header::CONTENT_TYPE, media_type);
        call.body = manifest.bytes().clone();
        let put = self.context.retry().run(&self.context, || self.send(&call)).await;
        match (put, tag) {
            (Ok(answer), _) => match answer.header("docker-content-digest") {
                Some(stored) if stored != manifest.digest().as_str() => Err(Error::new(
                    Kind::Protocol,
                    format!("{}: stored as another manifest", answer.subject),
                )),
                // who stores it says 201; a page of something in between comes with 200
                None if answer.status() == StatusCode::OK => Err(Error::new(
                    Kind::Protocol,
                    format!("{}: 200, which does not say that it is stored", answer.subject),
                )
                .hint(
                    "something between here and the registry may answer in its place, such as a proxy's login page",
                )),
                _ if answer.header("oci-subject").is_some() => Ok(Referred::Listed),
                _ => Ok(Referred::Untold),
            },
            // ECR refuses even what is there already, and what a lost answer has put there
            (Err(error), Some(tag)) if error.kind() == Kind::TagImmutable => {
                match self.resolve_for(&access, tag).await {
                    Ok(current) if current == *manifest.digest() => Ok(Referred::Untold),
                    _ => Err(error),
                }
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Whether there is such a repository; asked only where no tag of it is there.
    async fn exists(&self, access: &Scope) -> Result<bool> {
        let mut url = self.url(&format!("{}/tags/list", access.repository));
        url.set_query(Some("n=1"));
        let call = ApiRequest::new(Method::GET, url, access, Operation::Read);
        match self.context.retry().run(&self.context, || self.send(&call)).await {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            // a registry without listings, or one that shows them to others
            Err(error)
                if matches!(error.kind(), Kind::Unsupported | Kind::Denied | Kind::Protocol) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for each at once, under the connections' limit; what is absent is left out.
    async fn each<K, T, F>(&self, keys: &[K], ask: impl Fn(K) -> F) -> Result<Vec<(K, T)>>
    where
        K: Clone,
        F: Future<Output = Result<T>>,
    {
        let asked = keys.iter().map(|key| ask(key.clone()).map(present));
        let found = try_join_all(asked.collect::<Vec<_>>()).await?;
        let found = keys.iter().cloned().zip(found);
        Ok(found.filter_map(|(key, value)| Some((key, value?))).collect())
    }
}

/// The value, if what was asked for is there.
fn present<T>(asked: Result<T>) -> Result<Option<T>> {
    match asked {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Those that were not found.
fn others(digests: &[Digest], found: Vec<(Digest, ())>) -> HashSet<Digest> {
    let found: HashSet<Digest> = found.into_iter().map(|(digest, ())| digest).collect();
    digests.iter().filter(|digest| !found.contains(*digest)).cloned().collect()
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::RepositoryMissing)
}
