//! Sets up the registries, the images and the network for each scene of the fault table.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::{
        Digest,
        event::Silent,
        outcome::{Outcome, Report},
    },
    registry::{Network, Transport},
    remote::RetryPolicy,
    run::registries,
    sandbox::{self, Fault, Options, Sandbox, Store, fault::Side},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tempfile::TempDir;

use super::super::{
    content::{assert_whole, state},
    world::{ACCOUNT, ECR, TRANSFERS, entry, mirror},
};

/// Content of the destination.
pub(super) type State = BTreeMap<String, (Vec<(String, Digest)>, Vec<Digest>)>;

/// The setup of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// Quay to ECR: an index, and a filtered copy in another repository.
    Cloud,
    /// As [`Scene::Cloud`], with some blobs at the destination, but no image that uses them.
    Seeded,
    /// A tag that can move.
    Catalogue,
    /// An image larger than the buffers of a socket.
    Large,
    /// Two concurrent runs.
    Twice,
    /// One registry to another, each with its own port.
    Loopback,
    /// As [`Scene::Loopback`], with slow DNS.
    SlowNames,
    /// As [`Scene::Loopback`], with an unreachable first address for each name.
    DeadNames,
}

impl Scene {
    pub(super) const ALL: [Self; 8] = [
        Self::Cloud,
        Self::Seeded,
        Self::Catalogue,
        Self::Large,
        Self::Twice,
        Self::Loopback,
        Self::SlowNames,
        Self::DeadNames,
    ];

    fn has_ports(self) -> bool {
        matches!(self, Self::Loopback | Self::SlowNames | Self::DeadNames)
    }
}

/// The registries of a scene.
pub(super) struct Setup {
    scene: Scene,
    source: Sandbox,
    /// The destination, for scenes with two registries.
    plain: Option<Sandbox>,
    toml: String,
    _home: TempDir,
}

impl Setup {
    pub(super) async fn new(scene: Scene) -> Self {
        let home = tempfile::tempdir().unwrap();
        let start = |mode, name: &str| {
            let directory = Some(home.path().join(name));
            Sandbox::start(Options { mode, directory, ..Options::default() })
        };
        let (source, plain) = match scene.has_ports() {
            true => (
                start(sandbox::Mode::Standing, "source").await.unwrap(),
                Some(start(sandbox::Mode::Plain, "plain").await.unwrap()),
            ),
            false => (start(sandbox::Mode::Cloud, "cloud").await.unwrap(), None),
        };
        let mut setup = Self { scene, source, plain, toml: String::new(), _home: home };
        setup.fill();
        if scene == Scene::Seeded {
            setup.toml = setup.selecting(&[("quay.io/team/app:0", "")]);
            setup.undisturbed().await;
            setup.with_store(forget_images);
            setup.fill();
        }
        setup
    }

    /// Pushes the images and selects them.
    fn fill(&mut self) {
        let upstream = self.source.upstream();
        for tag in ["0", "1"] {
            let image = upstream.image(&format!("quay.io/team/app:{tag}"));
            let image = image.platforms(["linux/amd64", "linux/arm64"]).base("debian");
            image.layers(2).layer_size(8 << 10).attestations().push();
        }
        let part = "repository = \"part\"\nplatforms = [\"linux/arm64\"]";
        self.toml = match self.scene {
            Scene::Catalogue => self.selecting(&[("quay.io/team/moving:1", "")]),
            Scene::Large => {
                let image = upstream.image("quay.io/team/large:1");
                image.platforms(["linux/amd64"]).single().layers(1).layer_size(24 << 20).push();
                self.selecting(&[("quay.io/team/large:1", "")])
            }
            _ => self.selecting(&[("quay.io/team/app:1", ""), ("quay.io/team/app:1", part)]),
        };
    }

    /// A configuration with these images.
    fn selecting(&self, images: &[(&str, &str)]) -> String {
        let host = match self.scene {
            Scene::SlowNames | Scene::DeadNames => "localhost",
            _ => "127.0.0.1",
        };
        let at = |sandbox: &Sandbox| format!("{host}:{}", sandbox.address().port());
        let to = self.plain.as_ref().map_or(ECR.to_owned(), at);
        let from = if self.plain.is_some() { at(&self.source) + "/" } else { String::new() };
        let images = images.iter().map(|(image, keys)| entry(&format!("{from}{image}"), keys));
        format!("[[destination]]\nregistry = \"{to}\"\n{}", images.collect::<String>())
    }

    /// Adds a fault at its side.
    pub(super) fn fault(&self, fault: &str) {
        let fault: Fault = fault.parse().unwrap();
        match (&self.plain, fault.side) {
            (Some(plain), Side::Ecr) => plain.faults().add(fault),
            _ => self.source.faults().add(fault),
        }
    }

    /// Removes all faults.
    pub(super) fn clear(&self) {
        self.sandboxes().for_each(|sandbox| sandbox.faults().clear());
    }

    /// Faults that have not occurred.
    pub(super) fn idle(&self) -> Vec<Fault> {
        self.sandboxes().flat_map(|sandbox| sandbox.faults().idle()).collect()
    }

    fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        [&self.source].into_iter().chain(&self.plain)
    }

    pub(super) fn move_tag(&self) {
        self.source.upstream().rebuild_tag("quay.io", "team/moving", "1");
    }

    /// Runs while the faults are active. [`Scene::Twice`] returns the rows of both runs.
    pub(super) async fn disturbed(&self, policy: &RetryPolicy) -> Report {
        if self.scene != Scene::Twice {
            return self.run(self.transport(), policy).await;
        }
        let runs = [self.run(self.transport(), policy), self.run(self.transport(), policy)];
        let [mut one, other] = futures::future::join_all(runs).await.try_into().unwrap();
        one.images.extend(other.images);
        // the later run may find content of the other
        for row in one.images.iter_mut().filter(|row| row.outcome == Outcome::UpToDate) {
            row.outcome = Outcome::Copied;
        }
        one
    }

    /// Runs without faults, and asserts success.
    pub(super) async fn undisturbed(&self) {
        let direct = Transport::new(self.network());
        let report = self.run(direct, &RetryPolicy::default()).await;
        assert_eq!(report.exit, 0, "{:?}: {:#?}", self.scene, report.images);
    }

    async fn run(&self, transport: Transport, policy: &RetryPolicy) -> Report {
        let registries = registries::Registries::with_transport(transport, TRANSFERS, policy);
        let silent = Arc::new(Silent);
        mirror(&registries, &self.toml, Mode::Mirror, silent, Shutdown::default()).await
    }

    fn network(&self) -> Network {
        if self.plain.is_some() { Network::Direct } else { Network::Sandbox(self.source.address()) }
    }

    fn transport(&self) -> Transport {
        let transport = Transport::new(self.network());
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let names = match self.scene {
            Scene::SlowNames => Names { delay: Duration::from_secs(1), addresses: vec![v4] },
            Scene::DeadNames => {
                // a prefix that routers discard (RFC 6666)
                let nowhere = "100::1".parse().unwrap();
                Names { delay: Duration::ZERO, addresses: vec![nowhere, v4] }
            }
            _ => return transport,
        };
        transport.resolving(Arc::new(names))
    }

    pub(super) fn state(&self) -> State {
        self.with_store(state)
    }

    /// Asserts that every tag points to a complete image.
    pub(super) fn assert_whole(&self) {
        self.with_store(assert_whole);
    }

    fn with_store<T>(&self, read: impl Fn(&Store) -> T) -> T {
        match &self.plain {
            Some(plain) => read(plain.plain().store()),
            None => read(&self.source.ecr_store(ACCOUNT, "us-east-1")),
        }
    }
}

/// Deletes all manifests and keeps the blobs, like a run that is killed before its first manifest.
fn forget_images(store: &Store) {
    for repository in store.repositories() {
        for manifest in store.manifests(&repository) {
            store.delete_manifest(&repository, &manifest).unwrap();
        }
    }
}

/// Resolves every name to these addresses, after a delay.
struct Names {
    delay: Duration,
    addresses: Vec<IpAddr>,
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let (delay, addresses) = (self.delay, self.addresses.clone());
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            let found = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}
