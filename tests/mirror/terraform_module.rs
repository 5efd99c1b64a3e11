//! Tests the Terraform module in `deploy/terraform/mirror-image`: its argument line is one that the
//! program accepts, and its page names its variables.

use std::{collections::BTreeSet, fs, path::Path};

use clap::Parser;
use ecr_mirror::cli::{Cli, Command};

fn file(name: &str) -> String {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/terraform/mirror-image");
    fs::read_to_string(module.join(name)).unwrap()
}

/// The values of the module's expressions.
const VALUES: [(&str, &str); 7] = [
    ("var.ecr_mirror", "ecr-mirror"),
    ("var.docker_source", "quay.io/team/app:1"),
    ("var.aws_region", "eu-west-1"),
    ("var.aws_profile", "a profile"),
    ("var.aws_role_arn", "arn:aws:iam::123456789012:role/mirror"),
    ("local.platform", "linux/arm64"),
    ("local.destination", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror/app:1"),
];

/// The value of an element of a list: a reference, or a text with at most one of them.
fn value(expression: &str) -> String {
    let known = |name: &str| VALUES.iter().find(|(known, _)| *known == name).map(|it| it.1);
    let Some(text) = expression.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return known(expression).unwrap_or_else(|| panic!("{expression}")).to_owned();
    };
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (name, after) = rest.split_once('}').unwrap();
    format!("{before}{}{after}", known(name).unwrap_or_else(|| panic!("{name}")))
}

/// The arguments with which Terraform starts the program: the interpreter, then the command.
fn arguments(with_optional: bool) -> Vec<String> {
    let text = file("main.tf");
    let (_, rest) = text.split_once("interpreter = concat(\n").unwrap();
    let (lists, rest) = rest.split_once("\n    )\n").unwrap();
    let lists = lists.lines().filter(|list| with_optional || !list.contains("== null ?"));
    let mut all = Vec::new();
    for list in lists {
        let (_, elements) = list.rsplit_once('[').unwrap();
        let (elements, _) = elements.split_once(']').unwrap();
        all.extend(elements.split(", ").map(value));
    }
    let command = rest.lines().next().unwrap().trim();
    all.push(value(command.strip_prefix("command = ").unwrap()));
    all
}

#[test]
fn the_program_accepts_the_argument_line_of_the_terraform_module() {
    for with_optional in [false, true] {
        let line = arguments(with_optional);
        let parsed = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let Command::Copy(copy) = parsed.command else { panic!("{line:?}") };
        assert_eq!(copy.source.to_string(), "quay.io/team/app:1");
        assert_eq!(copy.platforms.len(), 1);
        assert_eq!(copy.region.as_deref(), Some("eu-west-1"));
        assert_eq!(copy.profile.as_deref(), with_optional.then_some("a profile"));
        assert_eq!(copy.role_arn.is_some(), with_optional);
    }
}

#[test]
fn no_value_of_the_terraform_module_can_become_an_option() {
    let line = arguments(true);
    let end = line.iter().position(|argument| argument == "--").unwrap();
    let (options, operands) = line.split_at(end);
    // the program and its verb, then options that contain their value
    assert!(options[2..].iter().all(|it| it.starts_with("--") && it.contains('=')), "{line:?}");
    assert_eq!(operands.len(), 3, "`--`, source and destination: {line:?}");
}

#[test]
fn the_page_of_the_terraform_module_names_every_variable() {
    let (variables, page) = (file("variables.tf"), file("README.md"));
    let declared = variables.lines().filter_map(|line| line.strip_prefix("variable \""));
    let declared: BTreeSet<&str> = declared.filter_map(|rest| rest.split('"').next()).collect();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<&str> = rows.filter_map(|rest| rest.split('`').next()).collect();
    assert_eq!(named, declared);
    let main = file("main.tf");
    let unused: Vec<_> =
        declared.iter().filter(|name| !main.contains(&format!("var.{name}"))).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
