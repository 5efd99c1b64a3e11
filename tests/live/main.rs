//! Probes of the assumptions about Amazon ECR that the program relies on.
//!
//! Each probe is an assumption, the expected answer, and the requests that ask for it. `cargo test`
//! asks the embedded ECR. With `ECR_MIRROR_LIVE=HOST` it also asks AWS, and writes a transcript and
//! a table to `target/live`. `docs/live.md` describes this.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers included")]

mod backend;
mod made;
mod probe;
mod probe_run;
mod probes;
mod transcript;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backend::Backend;
use ecr_mirror::sandbox::Fault;
use probe::{Asked, Behaves, Probe, Scope, Verdict, ask, ask_in_turn};
use tokio_util::sync::CancellationToken;
use transcript::{Redaction, table, transcript};

const HOST: &str = "ECR_MIRROR_LIVE";
const ACCOUNT: &str = "ECR_MIRROR_LIVE_ACCOUNT";
const SHOW_ACCOUNT: &str = "ECR_MIRROR_LIVE_SHOW_ACCOUNT";
const ONLY: &str = "ECR_MIRROR_LIVE_ONLY";

/// Asks the embedded ECR every question once.
async fn ask_embedded(behaves: Behaves) -> (Arc<Backend>, Vec<Asked>) {
    let backend = Backend::embedded().await.unwrap();
    let mut all = Vec::new();
    let journal = || backend.sandbox().unwrap().journal();
    for probe in probes::all() {
        let before = journal().len();
        all.push(ask(&backend, probe, behaves, &CancellationToken::new()).await);
        let operations = journal().split_off(before).into_iter().filter_map(|it| it.operation);
        let of_account = operations.filter(|it| OF_ACCOUNT.iter().any(|word| it.contains(word)));
        let of_account: Vec<String> = of_account.filter(|it| !is_read(it)).collect();
        assert!(
            probe.scope.is_of_account() || of_account.is_empty(),
            "{}: {of_account:?}",
            probe.id
        );
    }
    (backend, all)
}

/// Parts of the names of operations on state of the whole account.
const OF_ACCOUNT: [&str; 6] =
    ["AccountSetting", "Registry", "CacheRule", "CreationTemplate", "PullTime", "Replication"];

fn is_read(operation: &str) -> bool {
    ["Get", "Describe", "List"].iter().any(|read| operation.starts_with(read))
}

/// The results with another verdict, each with what was seen.
fn others(all: &[Asked], verdict: Verdict) -> Vec<String> {
    let others = all.iter().filter(|asked| asked.verdict() != verdict);
    others.map(|asked| format!("{}: {}", asked.probe.id, asked.shown())).collect()
}

/// The things of the probes that are still in the embedded ECR.
async fn remaining(backend: &Backend) -> Vec<String> {
    let ecr = aws_sdk_ecr::Client::new(&backend.session.config);
    let repositories = ecr.describe_repositories().send().await.unwrap();
    let templates = ecr.describe_repository_creation_templates().send().await.unwrap();
    let rules = ecr.describe_pull_through_cache_rules().send().await.unwrap();
    let exclusions = ecr.list_pull_time_update_exclusions().send().await.unwrap();
    let secrets = aws_sdk_secretsmanager::Client::new(&backend.session.config);
    let secrets = secrets.list_secrets().send().await.unwrap();
    let names = |count: usize, kind: &str| (count > 0).then(|| format!("{count} {kind}"));
    let left = [
        names(repositories.repositories().len(), "repositories"),
        names(templates.repository_creation_templates().len(), "templates"),
        names(rules.pull_through_cache_rules().len(), "rules"),
        names(exclusions.pull_time_update_exclusions().len(), "exclusions"),
        names(secrets.secret_list().len(), "secrets"),
    ];
    let mounting = ecr.get_account_setting().name("BLOB_MOUNTING").send().await.unwrap();
    assert_eq!(mounting.value(), Some("DISABLED"), "the setting is as before");
    assert!(ecr.get_registry_policy().send().await.is_err(), "there is no registry policy");
    left.into_iter().flatten().collect()
}

#[tokio::test]
async fn the_embedded_ecr_answers_every_probe_as_expected_and_keeps_nothing_of_it() {
    let (backend, all) = ask_embedded(Behaves::AsAssumed).await;
    let redaction = Redaction::of(&backend, true).await.unwrap();
    write("embedded.md", &table(&all, &[], &redaction));
    assert_eq!(others(&all, Verdict::AsExpected), [""; 0]);
    let left: Vec<&String> = all.iter().flat_map(|asked| &asked.left).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(remaining(&backend).await, [""; 0]);
}

#[tokio::test]
async fn every_probe_sees_an_ecr_that_behaves_otherwise_and_keeps_nothing_of_it() {
    let (backend, all) = ask_embedded(Behaves::Otherwise).await;
    assert_eq!(others(&all, Verdict::Differs), [""; 0]);
    assert_eq!(remaining(&backend).await, [""; 0]);
}

#[test]
fn probes_have_unique_names_and_sentences() {
    let unique = |of: fn(&Probe) -> &str| probes::all().map(of).collect::<BTreeSet<_>>().len();
    let count = probes::all().count();
    assert_eq!(unique(|probe| probe.id), count);
    assert_eq!(unique(|probe| probe.assumption), count);
}

#[test]
fn every_behaviour_of_the_embedded_ecr_belongs_to_a_probe() {
    let error = "otherwise=unknown".parse::<Fault>().unwrap_err();
    let hint = error.hint.unwrap();
    let (_, words) = hint.split_once("one of ").unwrap();
    let used: BTreeSet<_> = probes::all().map(|probe| probe.otherwise).collect();
    let is_unused = |word: &&str| !used.contains(format!("otherwise={word}").as_str());
    assert_eq!(words.split(", ").filter(is_unused).collect::<Vec<_>>(), [""; 0]);
    assert!(words.contains("bearer-challenge"));
}

#[tokio::test]
async fn a_probe_that_fails_panics_or_is_interrupted_keeps_nothing() {
    const fn failing(ask: for<'a> fn(&'a probe_run::ProbeRun) -> BoxedSeen<'a>) -> Probe {
        let (assumption, expected, otherwise) = ("", "", "");
        Probe { id: "sha512", assumption, expected, given: &[], otherwise, scope: Scope::Own, ask }
    }
    static ERROR: Probe = failing(|run| {
        Box::pin(async move {
            run.repository().await?;
            anyhow::bail!("an error")
        })
    });
    static PANIC: Probe = failing(|run| {
        Box::pin(async move {
            run.repository().await?;
            panic!("on purpose")
        })
    });
    static ENDLESS: Probe = failing(|run| {
        Box::pin(async move {
            run.repository().await?;
            std::future::pending().await
        })
    });
    let backend = Backend::embedded().await.unwrap();
    for (probe, error) in [(&ERROR, "an error"), (&PANIC, "panicked"), (&ENDLESS, "interrupted")] {
        let stop = CancellationToken::new();
        if error == "interrupted" {
            let (sandbox, stop) = (Arc::clone(&backend), stop.clone());
            // stops when the repository exists
            tokio::spawn(async move {
                while sandbox
                    .sandbox()
                    .unwrap()
                    .ecr_store(&sandbox.account, &sandbox.region)
                    .repositories()
                    .is_empty()
                {
                    tokio::task::yield_now().await;
                }
                stop.cancel();
            });
        }
        let asked = ask(&backend, probe, Behaves::AsAssumed, &stop).await;
        assert!(asked.shown().contains(error), "{}", asked.shown());
        assert_eq!(asked.left, [""; 0]);
        assert_eq!(remaining(&backend).await, [""; 0]);
    }
}

type BoxedSeen<'a> = futures::future::BoxFuture<'a, probe::Seen>;

#[tokio::test]
async fn things_that_cannot_be_removed_are_named_with_a_command() {
    let backend = Backend::embedded().await.unwrap();
    let probe = probes::all().find(|probe| probe.id == "blob-head").unwrap();
    let run = probe_run::ProbeRun::new(Arc::clone(&backend), probe, Behaves::AsAssumed);
    let name = run.repository().await.unwrap();
    backend.add_fault("deny=DeleteRepository");
    let left = run.remove_made().await;
    assert_eq!(left.len(), 1);
    let command = format!("aws ecr delete-repository --force --repository-name {name}");
    assert!(left[0].contains(&command) && left[0].contains("AccessDenied"), "{left:?}");
}

#[tokio::test]
async fn neither_the_transcript_nor_the_table_contains_a_secret() {
    let backend = Backend::embedded().await.unwrap();
    let stop = CancellationToken::new();
    let wanted = ["login-life", "storage-login", "secret-tags", "wrong-credentials"];
    let chosen: Vec<_> = probes::all().filter(|probe| wanted.contains(&probe.id)).collect();
    assert_eq!(chosen.len(), wanted.len());
    let all = ask_in_turn(&backend, &chosen, &stop, |_, _| ()).await;
    let redaction = Redaction::of(&backend, false).await.unwrap();
    let text = transcript(&all, &redaction) + &table(&all, &[], &redaction);
    for shown in ["X-Amz-Signature=(hidden)", "authorization: (hidden)", "GetAuthorizationToken"] {
        assert!(text.contains(shown), "{shown} is not in\n{text}");
    }
    let login = backend.login().await.unwrap();
    for secret in [login.trim_start_matches("Basic "), "not-a-token", "QVdT", "Signature=0"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }

    let hidden = redaction.apply(
        "> x-amz-security-token: IQoJ\n< {\"m\":\"User: arn:aws:sts::210987654321:assumed-role/r/s is\"}\n",
    );
    assert!(!hidden.contains("IQoJ") && !hidden.contains("assumed-role"), "{hidden}");
}

/// The reason why AWS is not asked this, with these variables; `None` if it is.
fn obstacle(probe: &Probe, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    if probe.scope.is_of_account() && variable(ACCOUNT).as_deref() != Some("yes") {
        return Some(format!("it touches the whole account; set {ACCOUNT}=yes"));
    }
    match probe.scope {
        Scope::Needs(name) | Scope::AccountNeeds(name) if variable(name).is_none() => {
            Some(format!("set {name}"))
        }
        Scope::EmbeddedOnly(why) => Some(why.to_owned()),
        _ => None,
    }
}

#[test]
fn probes_of_the_account_run_only_with_its_variable() {
    let asks = |probe: &Probe, account: Option<&str>| {
        let set = |name: &str| match name {
            ACCOUNT => account.map(str::to_owned),
            _ => Some("set".to_owned()),
        };
        obstacle(probe, set).is_none()
    };
    let mut of_account = probes::all().filter(|probe| probe.scope.is_of_account()).peekable();
    assert!(of_account.peek().is_some());
    for probe in of_account {
        assert!(!asks(probe, None) && !asks(probe, Some("no")), "{}", probe.id);
        assert!(asks(probe, Some("yes")), "{}", probe.id);
        if let Scope::AccountNeeds(name) = probe.scope {
            let only = |asked: &str| (asked == ACCOUNT).then(|| "yes".to_owned());
            assert_eq!(obstacle(probe, only), Some(format!("set {name}")));
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes to stderr, past the test harness, which captures the output of tests that pass.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn tell(asked: &Asked, time: Duration) {
    let verdict = asked.verdict();
    say(&format!(
        "{verdict:?} {} in {:.1} s: {}",
        asked.probe.id,
        time.as_secs_f32(),
        asked.shown()
    ));
    asked.left.iter().for_each(|left| say(&format!("not removed: {left}")));
}

/// Writes a file to `live` in the target directory, and returns that directory.
fn write(name: &str, text: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let directory = target.expect("the directory is in the target directory").join("live");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), text).unwrap();
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_answers_every_probe_as_expected() {
    let Some(host) = variable(HOST) else {
        say(&format!(
            "not asked: AWS. Set {HOST}=ACCOUNT.dkr.ecr.REGION.amazonaws.com (docs/live.md)"
        ));
        return;
    };
    let only = variable(ONLY).unwrap_or_default();
    let is_chosen = |probe: &&Probe| only.is_empty() || only.split(',').any(|id| id == probe.id);
    let backend = Backend::aws(&host).await;
    let backend = backend.unwrap_or_else(|error| panic!("cannot ask `{host}`: {error:#}"));
    let redaction = Redaction::of(&backend, variable(SHOW_ACCOUNT).as_deref() == Some("yes")).await;
    let redaction = redaction.unwrap();
    say(&format!("Everything that the probes make begins with {}.", backend.prefix));

    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            say("Interrupted. The probes remove what they made.");
            stopping.cancel();
        }
    });
    let (chosen, not_asked): (Vec<&'static Probe>, Vec<&'static Probe>) =
        probes::all().filter(is_chosen).partition(|probe| obstacle(probe, variable).is_none());
    let (slow, rest): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|probe| probe.scope == Scope::Slow);
    let (rates, quick): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|probe| probe.scope == Scope::Rates);
    let slow =
        slow.iter().map(|probe| ask_in_turn(&backend, std::slice::from_ref(probe), &stop, tell));
    let quick = ask_in_turn(&backend, &quick, &stop, tell);
    let (mut all, slow) = futures::join!(quick, futures::future::join_all(slow));
    all.extend(slow.into_iter().flatten());
    all.extend(ask_in_turn(&backend, &rates, &stop, tell).await);

    let why = |probe: &&Probe| (probe.id, obstacle(probe, variable).unwrap_or_default());
    let not_asked: Vec<_> = not_asked.iter().map(why).collect();
    write("transcript.txt", &transcript(&all, &redaction));
    let table = table(&all, &not_asked, &redaction);
    let directory = write("table.md", &table);
    say(&format!("{table}\nwritten to {}", directory.display()));
    let left: Vec<&String> = all.iter().flat_map(|asked| &asked.left).collect();
    assert!(left.is_empty(), "not removed: {left:?}");
    let others = others(&all, Verdict::AsExpected);
    assert!(others.is_empty(), "AWS answers otherwise:\n{}", others.join("\n"));
}
