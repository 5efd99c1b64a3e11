//! Tests the output of `{:?}` and of panics for values that hold a secret.

use std::{collections::BTreeMap, fmt::Debug, panic::catch_unwind, path::Path};

use ecr_mirror::{
    config::Config,
    ecr::{AwsSession, Identity},
    model::{
        DestinationId, UserPassword, pull_through,
        setting_change::{Action, SettingChange, Subject},
    },
    pull_through::{
        kubernetes::{ReadLogins, SecretNames, manifest},
        state::{CacheStep, Content, Observed, Planned, Secret},
    },
    registry::{self, ConnectionSettings, Network, Registry, Transport},
    remote::{self, HostContext},
};

use super::search::{Canary, assert_no_canary};

fn canaries() -> [Canary; 3] {
    [
        Canary::with_symbols("a password", "Q1debugPassword9Zx"),
        Canary::with_symbols("an access token", "Q2debugToken8Yw7Vu"),
        Canary::part("a URL's state", "Q3debugState6Tsr5Qp"),
    ]
}

fn shown(value: &dyn Debug) -> String {
    let printed = format!("{value:?}\n{value:#?}");
    let panic_text = catch_unwind(std::panic::AssertUnwindSafe(|| panic!("it is {value:?}")));
    let panic_text = panic_text.unwrap_err().downcast::<String>().expect("a panic with a text");
    format!("{printed}\n{panic_text}")
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
async fn no_value_that_holds_a_secret_prints_it() {
    let canaries = canaries();
    let [password, token, state] = canaries.each_ref().map(|canary| canary.value.as_str());
    let config = config(password, token);
    let cache = config.caches[0].clone();
    assert!(matches!(cache.credentials, pull_through::UpstreamCredentials::Written { .. }));
    let user = || UserPassword::new("me", password);
    let login = || UserPassword::new("me", token);
    let secret = || Secret {
        arn: "arn:it".to_owned(),
        content: Content::Login(user()),
        description: None,
        key: None,
        policy: None,
    };
    let step = |make: fn(String, UserPassword) -> CacheStep| make("it".to_owned(), login());
    let change = SettingChange {
        destination: "r.example".to_owned(),
        action: Action::Create,
        kind: Subject::Secret,
        name: "it".to_owned(),
        fields: Vec::new(),
        hint: None,
    };
    let create = |name, login| CacheStep::CreateSecret { name, login, description: None };
    let basic = || registry::Credentials::Basic(user());
    let settings = ConnectionSettings { credentials: basic(), ..ConnectionSettings::default() };
    let network = Network::Sandbox(([127, 0, 0, 1], 1).into());
    let host = "docker.io".parse().unwrap();
    let registry =
        Registry::new(host, settings.clone(), &Transport::new(network), Default::default())
            .unwrap();
    let location = format!("https://r.example/v2/a/blobs/uploads/{state}?_state={state}");
    let aws = AwsSession::open(Identity::default(), network, HostContext::default().into()).await;
    let observed =
        Observed { secrets: BTreeMap::from([("it".to_owned(), secret())]), ..Observed::default() };
    let names = SecretNames { namespaces: &["web".to_owned()], name: None };
    let kubernetes = manifest(&config.caches, names, &ReadLogins::new()).unwrap();
    let all: [(&str, &dyn Debug); 17] = [
        ("Config", &config),
        ("Cache", &cache),
        ("UpstreamCredentials", &cache.credentials),
        ("UserPassword", &user()),
        ("UserPassword with a token", &login()),
        ("Secret", &secret()),
        ("Content", &secret().content),
        ("Observed", &observed),
        ("CreateSecret", &step(create)),
        ("RestoreSecret", &step(|name, login| CacheStep::RestoreSecret { name, login })),
        ("WriteSecret", &step(|name, login| CacheStep::WriteSecret { name, login })),
        ("Planned", &Planned { change, step: Some(step(create)) }),
        ("registry Credentials", &basic()),
        ("ConnectionSettings", &settings),
        ("Registry", &registry),
        (
            "UploadSession",
            &remote::UploadSession { location: location.parse().unwrap(), min_chunk: 0 },
        ),
        ("AwsSession", &aws),
    ];
    for (name, value) in all {
        assert_no_canary(&canaries, name, &shown(value));
    }
    assert_no_canary(&canaries, "a manifest", &shown(&kubernetes.yaml));
    assert_eq!(cache.destinations, [DestinationId(0)]);
}

#[test]
fn the_search_finds_a_canary_in_a_panic_message() {
    let canaries = canaries();
    assert!(canaries[0].find_in(&shown(&canaries[0].value)).is_some());
}
