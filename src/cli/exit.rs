//! How every `--help` ends: examples where they help, then the exit status.

/// A code and what it means.
type Code = (&'static str, &'static str);

const MIRRORED: Code = ("0", "everything selected is now mirrored (or was already)");
const FAILED: Code = ("1", "at least one image failed, or drifted behind an immutable tag");
const WRONG: Code = ("2", "the command line or the configuration is wrong; nothing was attempted");
const USAGE: Code = ("2", "the command line is wrong; nothing was attempted");
const LEFT: Code = ("3", "nothing failed, but something was left for the next run");
const LEFT_BEHIND: Code = ("3", "something was left for later: pull limit spent, deadline reached");
const STOPPED: Code = ("130/143", "stopped by SIGINT, SIGTERM");
const UNWRITTEN: Code = ("1", "the output cannot be written");

pub(super) fn any() -> String {
    status(&[MIRRORED, FAILED, WRONG, LEFT, STOPPED])
}

pub(super) fn sync() -> String {
    examples(&[
        ("ecr-mirror sync", "mirror what ./mirror.toml selects"),
        ("ecr-mirror sync --sandbox", "the same, without an account and the network"),
        ("ecr-mirror sync --deadline 45m", "what is not done by then is the next run's"),
        ("ecr-mirror sync --only 'quay.io/*' --json", "some of it, with a report for machines"),
    ]) + &status(&[MIRRORED, FAILED, WRONG, LEFT_BEHIND, STOPPED])
}

pub(super) fn plan() -> String {
    status(&[
        ("0", "the plan is complete"),
        ("1", "an image cannot be planned, or drifted behind an immutable tag"),
        WRONG,
        ("3", "nothing failed, but a run would leave something for the next one"),
        STOPPED,
    ])
}

pub(super) fn copy() -> String {
    examples(&[
        ("ECR=123456789012.dkr.ecr.eu-west-1.amazonaws.com", ""),
        ("ecr-mirror copy nginx:1.27 $ECR/nginx:1.27", ""),
        ("ecr-mirror copy alpine:3.20 $ECR/alpine:3.20 --platform linux/arm64", ""),
        ("ecr-mirror copy nginx:1.27 localhost:5000/nginx:1.27", ""),
        ("ecr-mirror copy nginx:1.27 oci:images && ecr-mirror copy oci:images $ECR/nginx", ""),
    ]) + &status(&[
        ("0", "the image is now there (or was already)"),
        ("1", "the image failed, or drifted behind an immutable tag"),
        USAGE,
        ("3", "the source's pull limit is spent; try again later"),
        STOPPED,
    ])
}

pub(super) fn check() -> String {
    status(&[("0", "the configuration is right"), UNWRITTEN, WRONG])
}

pub(super) fn images() -> String {
    status(&[
        ("0", "the images are listed"),
        ("1", "tags cannot be selected, or the output cannot be written"),
        WRONG,
    ])
}

pub(super) fn iam() -> String {
    status(&[("0", "the policy is printed"), UNWRITTEN, WRONG])
}

const REFUSED: Code = ("1", "a conflict, a refusal of AWS, or no consent; what was done stays");

pub(super) fn pull_through() -> String {
    examples(&[
        ("ecr-mirror pull-through plan", "what would change, writing nothing"),
        ("ecr-mirror pull-through apply", "the same, then asks, then does it"),
        ("ecr-mirror pull-through warm", "pull what is selected through it once"),
    ]) + &status(&[("0", "it is done"), REFUSED, WRONG, STOPPED])
}

pub(super) fn pull_through_plan() -> String {
    status(&[
        ("0", "the plan is complete"),
        ("1", "something would change and `--check` is given, or AWS cannot be asked"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_apply() -> String {
    status(&[("0", "everything written is set up (or was already)"), REFUSED, WRONG, STOPPED])
}

pub(super) fn pull_through_status() -> String {
    status(&[
        ("0", "every rule is there"),
        ("1", "a written rule is not there or differs, or AWS cannot be asked"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_validate() -> String {
    status(&[
        ("0", "every rule works"),
        ("1", "a rule does not work or is not there, or AWS cannot be asked"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_warm() -> String {
    status(&[
        ("0", "everything selected is now cached"),
        ("1", "at least one image could not be pulled through"),
        WRONG,
        LEFT,
        STOPPED,
    ])
}

pub(super) fn pull_through_destroy() -> String {
    status(&[("0", "nothing of it is left but what AWS keeps"), REFUSED, WRONG, STOPPED])
}

pub(super) fn pull_through_export() -> String {
    status(&[
        ("0", "it is written"),
        ("1", "a part conflicts, AWS cannot be asked, or it cannot be written"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn sandbox(faults: &str) -> String {
    format!(
        "Faults, each `NAME[=ARG][@SIDE[:METHOD][/PATH]][*N|%P]`; SIDE is upstream, ecr or any, \
         *N the first N requests, %P P percent of them:\n{faults}\n{}",
        status(&[
            ("0", "it served until SIGINT or SIGTERM"),
            ("1", "it cannot serve at that address or from that directory"),
            USAGE,
        ])
    )
}

pub(super) fn completions() -> String {
    status(&[("0", "the script is printed"), UNWRITTEN, USAGE])
}

pub(super) fn man() -> String {
    status(&[("0", "the pages are written"), ("1", "a page cannot be written"), USAGE])
}

fn examples(lines: &[(&str, &str)]) -> String {
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let line = |(command, meaning): &(&str, &str)| match *meaning {
        "" => format!("  {command}\n"),
        meaning => format!("  {command:<width$}  # {meaning}\n"),
    };
    format!("Examples:\n{}\n", lines.iter().map(line).collect::<String>())
}

fn status(codes: &[Code]) -> String {
    let lines: Vec<String> =
        codes.iter().map(|(code, meaning)| format!("  {code:<7}  {meaning}")).collect();
    format!("Exit status:\n{}", lines.join("\n"))
}
