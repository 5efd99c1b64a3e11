//! Manual pages: one for each command, from the definition of the command line, and `mirror.toml(5)`,
//! from the schema of the configuration.

use std::io;

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};

use super::keys::KeyTable;

/// A name, and its meaning in a list of a page.
type Item = (&'static str, &'static str);

const ENVIRONMENT: &[Item] = &[
    ("ECR_MIRROR_CONFIG", "The configuration file, if --config is not given."),
    (
        "AWS_PROFILE, AWS_REGION, AWS_ROLE_ARN, …",
        "The variables of the AWS SDKs: the identity of destinations that have none of their own.",
    ),
    (
        "AWS_CA_BUNDLE, SSL_CERT_FILE",
        "Files of CA certificates that are trusted, for AWS and registries.",
    ),
    (
        "DOCKER_AUTH_CONFIG, DOCKER_CONFIG, REGISTRY_AUTH_FILE",
        "The text of a Docker configuration, the directory of config.json, and the file of podman: \
         logins at registries.",
    ),
    ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "Proxies, for AWS and registries."),
    ("NO_COLOR, CLICOLOR, CLICOLOR_FORCE", "Turn colours off or on."),
    ("COLUMNS", "The width of tables and messages without a terminal."),
    (
        "GITHUB_ACTIONS, GITHUB_STEP_SUMMARY",
        "In GitHub Actions: write annotations; the file of `--summary auto`.",
    ),
    ("RUST_LOG", "Filters of the log, in place of -v."),
];

const FILES: &[Item] = &[
    ("mirror.toml", "The configuration, see mirror.toml(5). It may name any variable as ${NAME}."),
    ("~/.aws/config, ~/.aws/credentials", "Profiles of the AWS SDKs."),
    (
        "~/.docker/config.json, $XDG_RUNTIME_DIR/containers/auth.json",
        "Logins of docker, crane, skopeo and podman, if the configuration has none for a registry.",
    ),
    (".ecr-mirror-sandbox", "The state of --sandbox, unless it names a directory."),
];

const EXAMPLES: &[Item] = &[
    ("ecr-mirror sync -c mirror.toml.example --sandbox", "Try it without an AWS account."),
    ("ecr-mirror iam mirror", "Print the policy of the role that mirrors."),
    ("ecr-mirror doctor", "Check the setup before the first run."),
    ("ecr-mirror plan", "Show what a run would do and cost."),
    ("ecr-mirror sync", "Mirror everything that mirror.toml selects."),
];

/// Renders the page of a command: its options, then the sections of its help as sections of a page.
///
/// # Errors
/// Returns the error of the writer.
pub(crate) fn command(command: &Command, out: &mut dyn io::Write) -> io::Result<()> {
    let is_root =
        command.get_display_name().is_none_or(|name| !name.contains('-') || name == "ecr-mirror");
    let help = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if is_root {
        man.render_subcommands_section(out)?;
    }
    let mut page = Roff::new();
    if is_root {
        items(&mut page, "EXAMPLES", EXAMPLES);
    }
    for (heading, lines) in sections(help.as_deref().unwrap_or_default()) {
        page.control("SH", [heading.as_str()]);
        if lines.iter().all(|line| line.starts_with("  ")) {
            // the help has aligned its columns
            page.control("nf", []);
            lines.iter().for_each(|line| {
                page.text([roman(line.trim_start())]);
            });
            page.control("fi", []);
        } else {
            page.text([roman(lines.join("\n"))]);
        }
    }
    if is_root {
        items(&mut page, "ENVIRONMENT", ENVIRONMENT);
        items(&mut page, "FILES", FILES);
    } else {
        page.control("SH", ["ENVIRONMENT"])
            .text([bold("ecr-mirror"), roman("(1) lists the variables.")]);
        page.control("SH", ["FILES"]).text([bold("mirror.toml"), roman(": the configuration.")]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("ecr-mirror"), roman("(1), "), bold("mirror.toml"), roman("(5)")]);
    page.to_writer(out)
}

/// Renders `mirror.toml(5)`.
///
/// # Errors
/// Returns the error of the writer.
pub(crate) fn configuration(tables: &[KeyTable], out: &mut dyn io::Write) -> io::Result<()> {
    let mut page = Roff::new();
    page.control("TH", ["mirror.toml", "5", "", concat!("ecr-mirror ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]).text([roman("mirror.toml - the configuration of ecr-mirror")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("A TOML file with the images to mirror and their destinations. "),
        roman("${NAME} in a string reads an environment variable, ${NAME:-default} uses a default, and "),
        roman("$$ is a dollar sign. Paths are relative to the directory of the file. "),
        bold("ecr-mirror check"),
        roman(" validates the file. A name with a dot is a key of an inline table."),
    ]);
    for table in tables {
        page.control("SH", [table.heading.as_str()]);
        if !table.purpose.is_empty() {
            page.text(marked(&table.purpose));
        }
        for key in &table.keys {
            page.control("TP", []);
            page.text([
                bold(key.name.as_str()),
                roman(" ("),
                italic(key.form.replace('`', "")),
                roman(")"),
            ]);
            page.text(marked(&key.purpose));
        }
    }
    page.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in EXAMPLE.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]).text([
        bold("ecr-mirror"),
        roman("(1), "),
        bold("ecr-mirror-check"),
        roman("(1)"),
    ]);
    page.to_writer(out)
}

pub(crate) const EXAMPLE: &str = r#"[[destination]]
registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
prefix = "mirror"

[defaults]
platforms = ["linux/amd64", "linux/arm64"]

[[image]]
source = "nginx"
tags = ["1.27", "1.27-alpine"]

[[image]]
source = "quay.io/prometheus/prometheus"
select = { semver = ">=2.50, <4", newest = 3 }
"#;

fn items(page: &mut Roff, heading: &str, items: &[Item]) {
    page.control("SH", [heading]);
    for (name, meaning) in items {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*meaning)]);
    }
}

/// The text with its words in backticks in bold.
fn marked(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

/// The sections of a help: a line with a colon at its end, then indented lines.
fn sections(help: &str) -> Vec<(String, Vec<&str>)> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for line in help.lines().filter(|line| !line.is_empty()) {
        match (line.starts_with(' '), found.last_mut()) {
            (true, Some((_, lines))) => lines.push(line),
            (_, _) if line.ends_with(':') => {
                let heading = line.trim_end_matches(':').split(". ").last().unwrap_or_default();
                found.push((heading.to_uppercase().replace('`', ""), Vec::new()));
            }
            (_, Some((_, lines))) => lines.push(line),
            (_, None) => found.push(("NOTES".to_owned(), vec![line])),
        }
    }
    found
}
