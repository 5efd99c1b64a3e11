//! The end of every `--help`: examples for some commands, then the exit status.

/// An exit code and its meaning.
type Code = (&'static str, &'static str);

const MIRRORED: Code = ("0", "everything selected is mirrored");
const FAILED: Code = ("1", "an image failed, or drifted behind an immutable tag");
const WRONG: Code = ("2", "usage or configuration error; nothing was attempted");
const USAGE: Code = ("2", "usage error; nothing was attempted");
const INCOMPLETE: Code = ("3", "incomplete: pull limit or deadline reached");
const STOPPED: Code = ("130/143", "stopped by SIGINT, SIGTERM");
const UNWRITTEN: Code = ("1", "cannot write the output");

pub(super) fn any() -> String {
    status(&[MIRRORED, FAILED, WRONG, INCOMPLETE, STOPPED])
}

pub(super) fn sync() -> String {
    examples(&[
        ("ecr-mirror sync", "mirror everything that ./mirror.toml selects"),
        ("ecr-mirror sync --sandbox", "the same, without an AWS account or network"),
        ("ecr-mirror sync --deadline 45m", "stop after 45 minutes; the next run resumes"),
        ("ecr-mirror sync --only 'library/*' --json", "mirror a part, and report as JSON"),
    ]) + &status(&[MIRRORED, FAILED, WRONG, INCOMPLETE, STOPPED])
}

pub(super) fn plan() -> String {
    status(&[
        ("0", "the plan is complete"),
        ("1", "an image cannot be planned, or drifted behind an immutable tag"),
        WRONG,
        ("3", "a run would be incomplete: pull limit reached"),
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
        ("0", "the image is mirrored"),
        ("1", "the image failed, or drifted behind an immutable tag"),
        USAGE,
        ("3", "incomplete: the pull limit of the source is reached; retry later"),
        STOPPED,
    ])
}

pub(super) fn check() -> String {
    status(&[("0", "the configuration is valid"), UNWRITTEN, WRONG])
}

pub(super) fn images() -> String {
    status(&[
        ("0", "the images are listed"),
        ("1", "cannot select tags, or cannot write the output"),
        WRONG,
    ])
}

pub(super) fn iam() -> String {
    status(&[("0", "the policy is printed"), UNWRITTEN, WRONG])
}

const REFUSED: Code = ("1", "a conflict, an AWS error, or no confirmation; changes made remain");

pub(super) fn pull_through() -> String {
    examples(&[
        ("ecr-mirror pull-through plan", "show the changes, write nothing"),
        ("ecr-mirror pull-through apply", "show the changes, confirm, apply"),
        ("ecr-mirror pull-through warm", "pull the selected images once"),
    ]) + &status(&[("0", "success"), REFUSED, WRONG, STOPPED])
}

pub(super) fn pull_through_plan() -> String {
    status(&[
        ("0", "the plan is complete"),
        ("1", "`--check` found changes, or an AWS error"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_apply() -> String {
    status(&[("0", "everything configured is set up"), REFUSED, WRONG, STOPPED])
}

pub(super) fn pull_through_status() -> String {
    status(&[
        ("0", "every configured rule exists and matches"),
        ("1", "a configured rule is missing or differs, or an AWS error"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_validate() -> String {
    status(&[
        ("0", "every configured rule works"),
        ("1", "a configured rule fails or is missing, or an AWS error"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_warm() -> String {
    status(&[
        ("0", "everything selected is cached"),
        ("1", "an image could not be pulled through the cache"),
        WRONG,
        ("3", "incomplete: pull limit reached"),
        STOPPED,
    ])
}

pub(super) fn pull_through_destroy() -> String {
    status(&[
        ("0", "everything configured is removed; cached images stay"),
        REFUSED,
        WRONG,
        STOPPED,
    ])
}

pub(super) fn pull_through_export() -> String {
    status(&[
        ("0", "the export is written"),
        ("1", "a conflict, an AWS error, or cannot write the output"),
        WRONG,
        STOPPED,
    ])
}

pub(super) fn sandbox(faults: &str) -> String {
    format!(
        "Faults, written `NAME[=ARG][@SIDE[:METHOD][/PATH]][*N|%P]`. SIDE is upstream, ecr or any; \
         *N selects the first N requests, %P selects P percent:\n{faults}\n{}",
        status(&[
            ("0", "served until SIGINT or SIGTERM"),
            ("1", "cannot bind the address, or cannot use the directory"),
            USAGE,
        ])
    )
}

pub(super) fn completions() -> String {
    status(&[("0", "the script is printed"), UNWRITTEN, USAGE])
}

pub(super) fn man() -> String {
    status(&[("0", "the pages are written"), ("1", "cannot write a page"), USAGE])
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
