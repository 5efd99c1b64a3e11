//! Tests of the command line as users type it, and of every help page.

use clap::CommandFactory;

use super::*;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::parse_line(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
}

/// Collects every command with its full name, except `help`.
fn all(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    let path = format!("{path} {}", command.get_name());
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        all(verb, &path, found);
    }
    found.push((path, command.clone()));
}

#[test]
fn every_help_ends_with_the_exit_status() {
    let mut root = Cli::command();
    root.build();
    let mut commands = Vec::new();
    all(&root, "", &mut commands);
    assert_eq!(
        commands.len(),
        30,
        "{:?}",
        commands.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
    for (path, mut command) in commands {
        for help in [command.render_long_help(), command.render_help()] {
            let text = help.to_string();
            let (_, status) = text.rsplit_once("\n\nExit status:\n").unwrap_or_else(|| {
                panic!("the help of `{path}` does not tell its exit status:\n{text}")
            });
            assert!(status.starts_with("  0 ") && status.contains("\n  2 "), "{path}: {status}");
            for line in status.trim_end().lines() {
                assert!(line.starts_with("  ") && line.len() <= 80, "{path}: {line}");
            }
            assert!(text.contains("--config <FILE>"), "{path} lacks the global options");
        }
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_may_stand_before_or_after_the_verb() {
    for line in [
        "ecr-mirror -c x.toml --sandbox=box -vv --progress none --color never --log-format json sync",
        "ecr-mirror sync -c x.toml --sandbox=box -vv --progress none --color never --log-format json",
        "ecr-mirror -c x.toml -vv --color never sync --sandbox=box --progress none --log-format json",
    ] {
        let global = parsed(line).unwrap().global;
        assert_eq!(global.config_files(), [PathBuf::from("x.toml")], "{line}");
        assert_eq!(global.sandbox, Some(PathBuf::from("box")), "{line}");
        assert_eq!(global.verbosity(), Verbosity::Debug, "{line}");
        assert_eq!(global.progress(), ProgressKind::None, "{line}");
        assert_eq!(global.color, clap::ColorChoice::Never, "{line}");
        assert_eq!(global.log_format, LogFormat::Json, "{line}");
    }
}

#[test]
fn several_configuration_files_are_read_in_their_order() {
    for line in [
        "ecr-mirror sync -c a.toml -c - --config env:X",
        "ecr-mirror -c a.toml -q -c - sync --only b --config env:X",
        "ecr-mirror -c a.toml -c - --config env:X iam pull",
        "ecr-mirror -c a.toml iam -c - -c env:X pull",
    ] {
        let files = parsed(line).unwrap().global.config_files();
        assert_eq!(files, ["a.toml", "-", "env:X"].map(PathBuf::from), "{line}");
    }
}

#[test]
fn what_is_not_said_has_the_default_of_the_contract() {
    let Cli { global, command } = parsed("ecr-mirror sync").unwrap();
    let Command::Sync(sync) = command else { panic!("{command:?}") };
    assert_eq!(sync.concurrency, 32);
    assert_eq!((global.sandbox.as_ref(), global.verbosity()), (None, Verbosity::Normal));
    assert_eq!(global.progress(), ProgressKind::Auto);
    if std::env::var_os("ECR_MIRROR_CONFIG").is_none() {
        assert_eq!(
            (global.config.len(), global.config_files()),
            (0, vec![PathBuf::from("mirror.toml")])
        );
    }
    // `--sandbox` does not read the next word as DIR: `sync` stays the command
    let global = parsed("ecr-mirror --sandbox sync").unwrap().global;
    assert_eq!(global.sandbox, Some(PathBuf::from(".ecr-mirror-sandbox")));
    assert_eq!(parsed("ecr-mirror sync -q").unwrap().global.progress(), ProgressKind::None);
    let loud = parsed("ecr-mirror sync -q --progress plain").unwrap().global;
    assert_eq!((loud.progress(), loud.verbosity()), (ProgressKind::Plain, Verbosity::Quiet));
}

#[test]
fn a_wrong_command_line_ends_with_two_and_says_what_would_be_right() {
    let digest = "alpine@sha256:00";
    for (line, expected) in [
        ("sync --concurrency 0", "1..=1024"),
        ("sync --concurrency 9223372036854775807", "1..=1024"),
        ("sync --concurrency many", "invalid digit"),
        ("sync -q -v", "cannot be used with"),
        ("sync --progress fast", "plain"),
        ("copy Nginx localhost:5000/x", "hint: write `nginx`"),
        (&format!("copy {digest} localhost:5000/x"), "64 lowercase hexadecimal digits"),
        ("copy nginx", "<DESTINATION>"),
        ("copy a:1 localhost/a:1 --platform amd64", "hint: "),
        ("copy oci: localhost/a:1", "hint: write `oci:DIR`"),
        ("copy a:1 oci:d:.x", "is not a tag"),
        ("copy a:1 localhost/a:1 --flatten", "--platform"),
        ("copy a:1 localhost/a:1 --role-arn mirror", "hint: write an ARN"),
        (
            "copy nginx:1.27 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "hint: add the repository: `123456789012.dkr.ecr.eu-west-1.amazonaws.com/REPOSITORY`",
        ),
        ("copy nginx:1.27 localhost:5000", "hint: add the repository: `localhost:5000/REPOSITORY`"),
        ("copy ghcr.io localhost:5000/a:1", "is a registry without a repository"),
        ("copy a:1 localhost/a:1 --attestations some", "drop"),
        ("sandbox --fault sunshine", "hint: there are refuse"),
        ("sandbox --like harbor", "hint: there are docker-hub"),
        ("sandbox --latency soon", "--latency"),
        ("sandbox --blob-mounting maybe", "off"),
        ("sandbox --listen here", "--listen"),
        ("bootstrap --emit env --list", "cannot be used with"),
        ("bootstrap --write --list", "cannot be used with"),
        ("bootstrap --emit map=", "hint: name a file"),
        ("bootstrap --emit registry-mirrors", "hint: write `source-policy`"),
        ("bootstrap --destination a", "--write"),
        ("import", "<FILE>..."),
        ("import a.yml --scoped", "--to"),
        ("import a.yml --to https://r.example", "is a URL"),
        ("import a.yml --to r.example/a:1", "without a tag"),
        ("init --prefix /a", "is not a repository name"),
        ("iam root", "unrecognized subcommand"),
        ("schema lock", "report"),
        ("completions csh", "zsh"),
    ] {
        let error = parsed(&format!("ecr-mirror {line}")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn bootstrap_writes_several_forms_each_to_its_file() {
    let line =
        "ecr-mirror bootstrap a --emit env=- --emit hosts.toml=certs.d --write --destination b";
    let Command::Bootstrap(args) = parsed(line).unwrap().command else { panic!("no bootstrap") };
    let paths: Vec<_> = args.emit.iter().map(|it| (it.form, it.path.clone())).collect();
    let directory = Some(PathBuf::from("certs.d"));
    assert_eq!(paths, [(BuildForm::Env, None), (BuildForm::HostsToml, directory)]);
    assert!(args.write && args.destination.as_deref() == Some("b"));
}

#[test]
fn copy_wants_what_its_options_say() {
    let want = |options: &str| {
        let cli =
            parsed(&format!("ecr-mirror copy nginx:1.27 localhost:5000/n:1{options}")).unwrap();
        let Command::Copy(copy) = cli.command else { panic!("not a copy") };
        copy.filter()
    };
    assert_eq!(want("").unwrap(), Filter::default());
    assert_eq!(
        want(" --platform linux/arm64 --platform linux/amd64 --attestations drop")
            .unwrap()
            .canonical(),
        "platforms=linux/amd64,linux/arm64;attestations=drop"
    );
    assert_eq!(want(" --platform linux/amd64 --flatten").unwrap().shape, Shape::Flat);
    let two = want(" --platform linux/amd64 --platform linux/arm64 --flatten").unwrap_err();
    assert_eq!(two.kind(), Kind::Configuration);
}

#[test]
fn the_sandbox_takes_its_faults_and_times() {
    let line = "ecr-mirror sandbox --plain --latency 20ms --blob-mounting on \
                --fault status=503@ecr*2 --fault reset --listen 127.0.0.1:0 --like ecr box";
    let Command::Sandbox(sandbox) = parsed(line).unwrap().command else { panic!("not a sandbox") };
    assert!(sandbox.plain);
    assert_eq!(sandbox.latency, Duration::from_millis(20));
    assert_eq!(sandbox.blob_mounting, BlobMounting::On);
    assert_eq!(sandbox.faults.len(), 2);
    assert_eq!(sandbox.like.map(|profile| profile.name), Some("ecr"));
    assert_eq!(sandbox.directory, Some(PathBuf::from("box")));
}

#[test]
fn every_example_of_the_help_is_accepted() {
    let mut examples = 0;
    for verb in Cli::command().get_subcommands() {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines =
            help.lines().filter(|line| line.starts_with("  ") && line.contains("ecr-mirror "));
        for line in lines {
            let commands = line.split("&&").filter_map(|part| part.split_once("ecr-mirror "));
            for (_, arguments) in commands {
                let words = arguments.split_whitespace();
                let words = words.take_while(|word| !["|", ">", "#"].contains(word));
                let words = words.map(|word| word.trim_matches('\'').replace("$ECR", "r.example"));
                let line: Vec<String> =
                    std::iter::once("ecr-mirror".to_owned()).chain(words).collect();
                assert!(Cli::try_parse_from(&line).is_ok(), "{line:?}");
                examples += 1;
            }
        }
    }
    assert!(examples > 30, "{examples}");
}
