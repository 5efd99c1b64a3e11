//! The end of every `--help`: examples for some commands, then the exit status.

/// An exit code and its meaning.
type Code = (&'static str, &'static str);

/// Command lines and their purpose; without a purpose the command line stands alone.
type Examples = &'static [(&'static str, &'static str)];

pub(super) const WRONG: Code = ("2", "usage or configuration error; nothing was attempted");
pub(super) const USAGE: Code = ("2", "usage error; nothing was attempted");
pub(super) const STOPPED: Code = ("129/130/143", "stopped by SIGHUP, SIGINT, SIGTERM");

pub(super) const UNWRITTEN: &str = "cannot write the output";
pub(super) const NO_POLICY: &str = "cannot list a source, keep IAM's limit, or write the output";
pub(super) const UNLISTED: &str =
    "cannot select tags or write the output, or the form omits an image";
pub(super) const REFUSED: &str =
    "a conflict, an AWS error, or no confirmation; changes made remain";

pub(super) const SYNC: Examples = &[
    ("ecr-mirror sync", "mirror everything that ./mirror.toml selects"),
    ("ecr-mirror sync --sandbox", "the same, without an AWS account or network"),
    ("ecr-mirror sync --deadline 45m", "stop after 45 minutes; the next run resumes"),
    ("ecr-mirror sync --only 'library/*' --json", "mirror a part, and report as JSON"),
];

pub(super) const PLAN: Examples = &[
    ("ecr-mirror plan", "show what `sync` would copy"),
    ("ecr-mirror plan -v", "also why each tag is skipped"),
    ("ecr-mirror plan --sandbox", "the same, without an AWS account or network"),
];

pub(super) const CHECK: Examples = &[
    ("ecr-mirror check", "show every mistake of ./mirror.toml"),
    ("ecr-mirror check -v -c base.toml -c team.toml", "show the targets of naming rules"),
];

pub(super) const IMAGES: Examples = &[
    ("ecr-mirror images", "list the references to pull"),
    ("ecr-mirror images --format registries.conf > registries.conf", "for buildah and podman"),
];

pub(super) const INIT: Examples = &[
    ("ecr-mirror init", "ask for the account and region"),
    ("ecr-mirror init --registry $ECR --output - | less", "show the file only"),
];

pub(super) const IAM: Examples = &[
    ("ecr-mirror iam mirror > policy.json", "the policy of the role that runs `sync`"),
    ("ecr-mirror iam pull", "the policy of nodes and builders"),
];

pub(super) const SANDBOX: Examples = &[
    ("ecr-mirror sandbox", "serve Docker Hub, other registries and ECR on loopback"),
    ("ecr-mirror sandbox --like harbor-2.7", "answer as this registry does"),
    ("ecr-mirror sandbox --rate put_image=10", "limit a rate as ECR does"),
];

pub(super) const SCHEMA: Examples = &[
    ("ecr-mirror schema config > config.json", "for an editor or a checker"),
    ("ecr-mirror schema report", ""),
];

pub(super) const COMPLETIONS: Examples = &[
    ("ecr-mirror completions bash > /etc/bash_completion.d/ecr-mirror", ""),
    ("ecr-mirror completions zsh > ~/.zfunc/_ecr-mirror", ""),
];

pub(super) const MAN: Examples = &[("ecr-mirror man /usr/local/share/man/man1", "")];

pub(super) const COPY: Examples = &[
    ("ECR=123456789012.dkr.ecr.eu-west-1.amazonaws.com", ""),
    ("ecr-mirror copy nginx:1.27 $ECR/nginx:1.27", ""),
    ("ecr-mirror copy alpine:3.20 $ECR/alpine:3.20 --platform linux/arm64", ""),
    ("ecr-mirror copy nginx:1.27 localhost:5000/nginx:1.27", ""),
    ("ecr-mirror copy nginx:1.27 oci:images && ecr-mirror copy oci:images $ECR/nginx", ""),
];

pub(super) const IMPORT: Examples = &[
    ("ecr-mirror import regsync.yml > mirror.toml", ""),
    ("ecr-mirror import images.txt --into mirror.toml", ""),
    ("ecr-mirror import sync.yml --to $ECR/mirror > mirror.toml", "the file of skopeo sync"),
];

pub(super) const BOOTSTRAP: Examples = &[
    ("ecr-mirror bootstrap --list", "list the images that the files here use"),
    ("ecr-mirror bootstrap", "mirror exactly these, as ./mirror.toml says"),
    ("ecr-mirror bootstrap web/ --to $ECR/mirror", "the same, without a configuration"),
    ("ecr-mirror bootstrap --emit source-policy=policy.json", "build only with these"),
    ("ecr-mirror bootstrap --write", "make the Dockerfiles name the mirror"),
    ("ecr-mirror bootstrap --offline-ok", "use what ECR has while a source is down"),
    ("ecr-mirror bootstrap --list --into mirror.toml", "add them to a configuration only"),
    ("helm template . | ecr-mirror bootstrap --list -", "read a chart after rendering"),
];

pub(super) const DOCTOR: Examples = &[
    ("ecr-mirror doctor", "show what would fail, and the fix"),
    ("ecr-mirror doctor -v --only permissions", "show every action of `iam mirror`"),
    ("ecr-mirror doctor --strict --json", "fail a pipeline before its run"),
];

pub(super) const MERGE: Examples = &[
    ("ecr-mirror report merge shard-*.json", "show the union of the shards"),
    ("ecr-mirror report merge shard-*.json shard-*.lock --lock mirror.lock", ""),
];

pub(super) const PULL_THROUGH: Examples = &[
    ("ecr-mirror pull-through plan", "show the changes, write nothing"),
    ("ecr-mirror pull-through apply", "show the changes, confirm, apply"),
    ("ecr-mirror pull-through warm", "pull the selected images once"),
];

pub(super) fn mirrored() -> String {
    let failed = "an image failed, or drifted behind an immutable tag";
    let incomplete = ("3", "incomplete: pull limit or deadline reached");
    status("everything selected is mirrored", failed, &[WRONG, incomplete, STOPPED])
}

pub(super) fn merge() -> String {
    let failed = "an image failed or drifted, or a shard has no report";
    let incomplete = ("3", "incomplete: pull limit or deadline reached in a shard");
    let stopped = ("129/130/143", "a shard was stopped by SIGHUP, SIGINT, SIGTERM");
    let refused = ("2", "usage error, or reports that are not shards of one run");
    status("every shard mirrored its part", failed, &[refused, incomplete, stopped])
}

pub(super) fn plan() -> String {
    let failed = "an image cannot be planned, or drifted behind an immutable tag";
    let incomplete = ("3", "a run would be incomplete: pull limit reached");
    examples(PLAN) + &status("the plan is complete", failed, &[WRONG, incomplete, STOPPED])
}

pub(super) fn copy() -> String {
    let failed = "the image failed, or drifted behind an immutable tag";
    let incomplete = ("3", "incomplete: the pull limit of the source is reached; retry later");
    examples(COPY) + &status("the image is mirrored", failed, &[USAGE, incomplete, STOPPED])
}

pub(super) fn bootstrap() -> String {
    let failed = "an image failed, drifted, is unresolved, or a form omits it";
    let incomplete = ("3", "incomplete: pull limit reached");
    status("every image is listed, or mirrored", failed, &[WRONG, incomplete, STOPPED])
}

pub(super) fn doctor() -> String {
    let failed = "a check failed; with `--strict` also after a warning";
    status("no check failed", failed, &[WRONG])
}

pub(super) fn warm() -> String {
    let failed = "an image could not be pulled through the cache";
    let incomplete = ("3", "incomplete: pull limit reached");
    status("everything selected is cached", failed, &[WRONG, incomplete, STOPPED])
}

pub(super) fn import() -> String {
    let failed = "a part needs a hand, see the comments; or cannot write";
    let wrong = ("2", "usage error, or a file that is not understood; nothing was written");
    examples(IMPORT) + &status("nothing was lost", failed, &[wrong])
}

pub(super) fn init() -> String {
    let wrong = ("2", "usage error, or the file exists; nothing was written");
    examples(INIT) + &status("the file is written", UNWRITTEN, &[wrong])
}

pub(super) fn sandbox(profiles: &str, faults: &str) -> String {
    let failed = "cannot bind the address, or cannot use the directory";
    format!(
        "{}Registries for `--like`:\n{profiles}\n\
         Faults, written `NAME[=ARG][@SIDE[:METHOD][/PATH]][*N|%P]`. SIDE is upstream, ecr or any; \
         *N selects the first N requests, %P selects P percent:\n{faults}\n{}",
        examples(SANDBOX),
        status("served until SIGHUP, SIGINT or SIGTERM", failed, &[USAGE])
    )
}

pub(super) fn pull_through_plan() -> String {
    let unasked = ("2", "usage or configuration error; with `--check` also an AWS error");
    let failed = "an AWS error; with `--check`: `apply` would change something";
    status("the plan is complete", failed, &[unasked, STOPPED])
}

/// The exit status of a `pull-through` command.
pub(super) fn rules(success: &str, failure: &str) -> String {
    status(success, failure, &[WRONG, STOPPED])
}

pub(super) fn examples(lines: Examples) -> String {
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let lines = lines.iter().map(|(command, meaning)| match *meaning {
        "" => format!("  {command}\n"),
        meaning => format!("  {command:<width$}  # {meaning}\n"),
    });
    format!("Examples:\n{}\n", lines.collect::<String>())
}

/// The meaning of 0 and 1, then of the other codes.
pub(super) fn status(success: &str, failure: &str, others: &[Code]) -> String {
    let codes = [&[("0", success), ("1", failure)], others].concat();
    let lines: Vec<String> =
        codes.iter().map(|(code, meaning)| format!("  {code:<7}  {meaning}")).collect();
    format!("Exit status:\n{}", lines.join("\n"))
}
