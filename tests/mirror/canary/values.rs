//! Values that hold a secret, as `{:?}` and a panic would print them.

use std::{collections::BTreeMap, fmt::Debug, panic::catch_unwind, path::Path};

use ecr_mirror::{
    config::Config,
    ecr::{AwsSession, Identity, secrets::SecretLogin},
    model::{
        DestinationId, pull_through,
        setting_change::{Action, SettingChange, Subject},
    },
    pull_through::state::{CacheStep, Content, Observed, Planned, Secret},
    registry::{self, ConnectionSettings, Network, Registry, Transport},
    remote::{self, HostContext},
};

use super::search::{Canary, assert_unseen};

fn canaries() -> [Canary; 3] {
    [
        Canary::around("a password", "Q1debugPassword9Zx"),
        Canary::around("an access token", "Q2debugToken8Yw7Vu"),
        Canary::part("a URL's state", "Q3debugState6Tsr5Qp"),
    ]
}

fn shown(value: &dyn Debug) -> String {
    let printed = format!("{value:?}\n{value:#?}");
    let told = catch_unwind(std::panic::AssertUnwindSafe(|| panic!("it is {value:?}")));
    let told = told.unwrap_err().downcast::<String>().expect("a panic with a text");
    format!("{printed}\n{told}")
}

fn config(password: &str, token: &str) -> Config {
    let text = format!(
        "[[destination]]\nregistry = \"{}\"\n\
         [registry.\"docker.io\"]\nusername = \"me\"\npassword = \"{password}\"\n\
         [[pull_through]]\nupstream = \"docker-hub\"\n\
         credentials = {{ username = \"it\", access_token = \"{token}\" }}\n",
        super::ECR
    );
    Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap()
}

#[tokio::test]
async fn nothing_that_holds_a_secret_prints_it() {
    let canaries = canaries();
    let [password, token, state] = canaries.each_ref().map(|canary| canary.value.as_str());
    let config = config(password, token);
    let cache = config.caches[0].clone();
    assert!(matches!(cache.credentials, pull_through::UpstreamCredentials::Written { .. }));
    let login = || SecretLogin { username: "me".to_owned(), password: token.into() };
    let secret = || Secret { arn: "arn:it".to_owned(), content: Content::Login(login()) };
    let step = |make: fn(String, SecretLogin) -> CacheStep| make("it".to_owned(), login());
    let change = SettingChange {
        destination: "r.example".to_owned(),
        action: Action::Create,
        kind: Subject::Secret,
        name: "it".to_owned(),
        fields: Vec::new(),
        hint: None,
    };
    let create = |name, login| CacheStep::CreateSecret { name, login };
    let basic =
        || registry::Credentials::Basic { username: "me".to_owned(), password: password.into() };
    let settings = ConnectionSettings { credentials: basic(), ..ConnectionSettings::default() };
    let reach = Network::Sandbox(([127, 0, 0, 1], 1).into());
    let host = "docker.io".parse().unwrap();
    let registry =
        Registry::new(host, settings.clone(), &Transport::new(reach), Default::default()).unwrap();
    let location = format!("https://r.example/v2/a/blobs/uploads/{state}?_state={state}");
    let aws = AwsSession::open(Identity::default(), reach, HostContext::default().into()).await;
    let actual =
        Observed { secrets: BTreeMap::from([("it".to_owned(), secret())]), ..Observed::default() };
    let kubernetes =
        ecr_mirror::pull_through::kubernetes::manifest(&config.caches, &["web".to_owned()])
            .unwrap();
    let all: [(&str, &dyn Debug); 16] = [
        ("Config", &config),
        ("Cache", &cache),
        ("model Credentials", &cache.credentials),
        ("Login", &login()),
        ("Secret", &secret()),
        ("Content", &secret().content),
        ("Actual", &actual),
        ("CreateSecret", &step(create)),
        ("RestoreSecret", &step(|name, login| CacheStep::RestoreSecret { name, login })),
        ("WriteSecret", &step(|name, login| CacheStep::WriteSecret { name, login })),
        ("Planned", &Planned { change, step: Some(step(create)) }),
        ("registry Credentials", &basic()),
        ("Settings", &settings),
        ("Registry", &registry),
        ("upload Session", &remote::UploadSession { location: location.parse().unwrap() }),
        ("AWS Session", &aws),
    ];
    for (name, value) in all {
        assert_unseen(&canaries, name, &shown(value));
    }
    assert_unseen(&canaries, "a manifest", &shown(&kubernetes.yaml));
    assert_eq!(cache.destinations, [DestinationId(0)]);
}

#[test]
fn a_panic_over_a_plain_text_would_be_noticed() {
    let canaries = canaries();
    assert!(canaries[0].seen_in(&shown(&canaries[0].value)).is_some());
}
