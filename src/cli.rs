//! The command line: parses every command and option into its type.
//!
//! Guards that every `--help` ends with the exit status, and that a usage error exits with 2 before
//! anything is attempted.

mod exit;
pub(crate) mod pull_through;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr,
    time::Duration,
};

use clap::{
    ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
    parser::ValueSource,
};

use self::exit::{NO_POLICY, REFUSED, UNLISTED, UNWRITTEN, USAGE, WRONG};
pub use self::pull_through::PullThrough;
use crate::{
    discover::forms::{BuildForm, EmitTarget},
    model::{
        Attestations, Error, Filter, ImageLocation, Kind, NameError, Platform, Platforms,
        RegistryPrefix, Repository, Result, Shape, Signatures,
        ecr_rates::PUBLISHED,
        outcome::ExitCodes,
        shard::{ShardChoice, ShardPulls},
    },
    output::{
        log::{LogFormat, Verbosity},
        metrics::MetricsFormat,
        progress::ProgressKind,
    },
    sandbox::{BlobMounting, Fault, Profile, fault, profile},
};

/// Mirror container images from any OCI registry into Amazon ECR
#[derive(Debug, Parser)]
#[command(name = "ecr-mirror", version, after_help = exit::mirrored())]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command, accepted before or after its name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Read the configuration from FILE, `-` for standard input, or `env:NAME` for a variable;
    /// repeatable: the files are one configuration [default: mirror.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    #[arg(env = "ECR_MIRROR_CONFIG", hide_env_values = true)]
    pub config: Vec<PathBuf>,
    /// Run against embedded upstream registries and an embedded ECR on loopback; keep their state
    /// in DIR [default DIR: .ecr-mirror-sandbox]
    #[arg(long, global = true, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = ".ecr-mirror-sandbox")]
    pub sandbox: Option<PathBuf>,
    /// Log actions and list every image (-v), or log every step (-vv) [default: warnings]
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Print nothing if a run succeeds, log errors only, and hide progress unless `--progress`
    /// selects a view
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Write stderr as text or as JSON, one object a line
    #[arg(long, global = true, value_name = "text|json", default_value = "text")]
    #[arg(hide_possible_values = true)]
    pub log_format: LogFormat,
    /// Show progress on stderr; `auto` shows bars on a terminal and lines elsewhere
    #[arg(long, global = true, value_name = "auto|bar|plain|none", default_value = "auto")]
    #[arg(hide_possible_values = true)]
    pub progress: ProgressKind,
    /// Colour the output; `auto` colours terminals and respects NO_COLOR
    #[arg(long, global = true, value_name = "auto|always|never", default_value = "auto")]
    #[arg(hide_possible_values = true)]
    pub color: clap::ColorChoice,
}

impl Cli {
    /// Parses a command line. `-c` may be before and after the verb: clap alone would keep the last
    /// place only.
    ///
    /// # Errors
    /// If the command line is wrong, or asks for help or the version.
    pub fn parse_line(line: &[OsString]) -> std::result::Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(line)?;
        let before = files_before_verb(line);
        if !before.is_empty() && before != cli.global.config {
            cli.global.config.splice(0..0, before);
        }
        Ok(cli)
    }
}

/// The values of `-c` that are before the verb.
fn files_before_verb(line: &[OsString]) -> Vec<PathBuf> {
    let options = Global::augment_args(clap::Command::new("ecr-mirror"));
    let Ok(matches) = options.allow_external_subcommands(true).try_get_matches_from(line) else {
        return Vec::new();
    };
    match matches.value_source("config") {
        Some(ValueSource::CommandLine) => {
            matches.get_many::<PathBuf>("config").into_iter().flatten().cloned().collect()
        }
        _ => Vec::new(),
    }
}

impl Global {
    /// The configuration files of the commands that need one.
    pub fn config_files(&self) -> Vec<PathBuf> {
        match &self.config[..] {
            [] => vec![PathBuf::from("mirror.toml")],
            files => files.to_vec(),
        }
    }

    /// The log level that `-q` and `-v` select.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, 0) => Verbosity::Normal,
            (_, 1) => Verbosity::Verbose,
            _ => Verbosity::Debug,
        }
    }

    /// The progress view; with `--quiet`, `auto` shows none.
    pub fn progress(&self) -> ProgressKind {
        match self.progress {
            ProgressKind::Auto if self.quiet => ProgressKind::None,
            kind => kind,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror everything that the configuration selects
    #[command(after_help = exit::examples(exit::SYNC) + &exit::mirrored())]
    Sync(SyncArgs),
    /// Show what `sync` would do and cost; writes nothing
    #[command(after_help = exit::plan())]
    Plan(PlanArgs),
    /// Mirror one image; reads a configuration file only if one is named
    #[command(after_help = exit::copy())]
    Copy(CopyArgs),
    /// Mirror the images that a build or a cluster uses, as its files name them
    #[command(after_help = exit::examples(exit::BOOTSTRAP) + &exit::bootstrap())]
    Bootstrap(BootstrapArgs),
    /// Validate the configuration offline; with `-v`, show an image of each naming rule
    #[command(after_help = exit::examples(exit::CHECK) + &exit::status("the configuration is valid", UNWRITTEN, &[WRONG]))]
    Check(CheckArgs),
    /// Check credentials, network, permissions, limits and settings before a run; writes nothing
    /// without `--write`
    #[command(after_help = exit::examples(exit::DOCTOR) + &exit::doctor())]
    Doctor(DoctorArgs),
    /// List every selected image and the reference to pull
    #[command(after_help = exit::examples(exit::IMAGES) + &exit::status("the images are listed", UNLISTED, &[WRONG]))]
    Images(ImagesArgs),
    /// Turn the files of regsync, skopeo sync, dregsy and image-syncer, or lists, into mirror.toml
    #[command(after_help = exit::import())]
    Import(ImportArgs),
    /// Write a commented mirror.toml for one account
    #[command(after_help = exit::init())]
    Init(InitArgs),
    /// Configure and use ECR's pull-through cache: rules, secrets, templates, access
    #[command(after_help = exit::examples(exit::PULL_THROUGH) + &exit::rules("success", REFUSED))]
    PullThrough {
        #[command(subcommand)]
        verb: PullThrough,
    },
    /// Print the least-privilege IAM policies for this configuration
    #[command(after_help = exit::examples(exit::IAM) + &exit::status("the policy is printed", NO_POLICY, &[WRONG]))]
    Iam {
        #[command(subcommand)]
        policy: IamPolicy,
        /// Print an array of documents of at most 6,144 characters each, IAM's limit
        #[arg(long, global = true)]
        split: bool,
    },
    /// Work with the reports of runs
    #[command(after_help = exit::merge())]
    Report {
        #[command(subcommand)]
        verb: ReportVerb,
    },
    /// Serve the embedded registries for other clients on loopback, until interrupted
    #[command(after_help = exit::sandbox(&profile::help(), &fault::help()))]
    Sandbox(SandboxArgs),
    /// Print the JSON schema of `mirror.toml` or of the report, for editors and other programs
    #[command(after_help = exit::examples(exit::SCHEMA) + &exit::status("the schema is printed", UNWRITTEN, &[USAGE]))]
    Schema {
        /// Print the schema of this document
        document: SchemaDocument,
    },
    /// Print a completion script for a shell
    #[command(after_help = exit::examples(exit::COMPLETIONS) + &exit::status("the script is printed", UNWRITTEN, &[USAGE]))]
    Completions {
        /// Print the script for this shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one page for each command
    #[command(after_help = exit::examples(exit::MAN) + &exit::status("the pages are written", "cannot write a page", &[USAGE]))]
    Man {
        /// Write the pages to DIR; create DIR if it does not exist
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Mirror only images whose name or source matches; repeatable [default: all]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Show the plan and write nothing; same as `plan`
    #[arg(long, conflicts_with = "metrics")]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Write a lock file (tag → digest) for `--locked`. Written only if every image succeeds;
    /// pull-through images are omitted
    #[arg(long, value_name = "FILE", conflicts_with_all = ["locked", "dry_run"])]
    pub lock: Option<PathBuf>,
    /// Mirror exactly the digests of this lock file, even if tags have moved; pull-through images
    /// are skipped
    #[arg(long, value_name = "FILE")]
    pub locked: Option<PathBuf>,
    /// Stop after DURATION, for example `45m`: start no more images and give running ones 10 s
    /// [default: none]
    #[arg(long, value_name = "DURATION", conflicts_with = "dry_run", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// Ask the destination about every manifest and blob of every image, and repair what it lost;
    /// with `--dry-run` only report it
    #[arg(long)]
    pub deep: bool,
    /// Wait at most DURATION if a source answers "too many requests" with a longer wait than usual;
    /// beyond it the image is deferred
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub max_wait: Duration,
    /// Transfer at most N blobs in parallel
    #[arg(long, value_name = "N", default_value = "32", value_parser = concurrency())]
    pub concurrency: usize,
    /// Exit with N if the run is incomplete: pull limit or deadline reached
    #[arg(long, value_name = "N", default_value = "3", value_parser = exit_code())]
    pub deferred_exit_code: u8,
    /// Exit with N if images drifted behind immutable tags and none failed
    #[arg(long, value_name = "N", default_value = "1", value_parser = exit_code())]
    pub drift_exit_code: u8,
    #[command(flatten)]
    pub sharding: ShardArgs,
}

/// Options of the documents that a run prints and writes.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Print JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
    /// Also write the report as JSON to FILE
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Append a summary in Markdown to FILE; `auto` names $GITHUB_STEP_SUMMARY and writes nothing
    /// where that is not set
    #[arg(long, value_name = "FILE|auto")]
    pub summary: Option<PathBuf>,
}

/// Options of the metrics of a run.
#[derive(Debug, Clone, Args)]
pub struct MetricsArgs {
    /// Write metrics of the run to FILE, or to stdout with `-`; replaces FILE as a whole, also after
    /// a failure, a signal or a deadline
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Write the metrics as Prometheus text, or as one JSON line for CloudWatch (embedded metric
    /// format)
    #[arg(long, value_name = "prometheus|emf", default_value = "prometheus", requires = "metrics")]
    #[arg(hide_possible_values = true)]
    pub metrics_format: MetricsFormat,
}

/// Options that divide a run among several processes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Shards")]
pub struct ShardArgs {
    /// Mirror only part I of N (from 1); N processes with the same configuration mirror all of it.
    /// `auto` reads I and N from AWS Batch, GitLab, Buildkite or CircleCI, `auto/N` reads I, also from
    /// Kubernetes. `{shard}` in the names of files is I
    #[arg(long, value_name = "I/N|auto|auto/N", value_parser = name::<ShardChoice>)]
    pub shard: Option<ShardChoice>,
    /// Balance the shards by the bytes of this report of `sync` or `plan` [default: tags × platforms]
    #[arg(long, value_name = "REPORT", requires = "shard")]
    pub shard_by: Option<PathBuf>,
    /// Divide Docker Hub's pull limit among the shards, or leave all of it to each, where each has its
    /// own address or account
    #[arg(
        long,
        value_name = "divided|own",
        hide_possible_values = true,
        default_value = "divided"
    )]
    #[arg(value_parser = one_of([("divided", ShardPulls::Divided), ("own", ShardPulls::Own)]))]
    #[arg(requires = "shard")]
    pub shard_pulls: ShardPulls,
}

#[derive(Debug, Subcommand)]
pub enum ReportVerb {
    /// Join the reports of shards into one
    #[command(after_help = exit::examples(exit::MERGE) + &exit::merge())]
    Merge(MergeArgs),
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Join these reports, one of each shard, and lock files; or those in a directory (`*.json`,
    /// `*.lock`)
    #[arg(value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Join the lock files and write them to FILE, if there is one of each shard
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan only images whose name or source matches; repeatable [default: all]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Plan exactly the digests of this lock file, which `sync --lock` wrote
    #[arg(long, value_name = "FILE")]
    pub locked: Option<PathBuf>,
    /// Read manifests even if that counts as a pull, so that the plan shows every number
    #[arg(long)]
    pub resolve: bool,
    /// Set by `sync --dry-run --deep`.
    #[arg(skip)]
    pub deep: bool,
    /// Set by `sync --dry-run --max-wait`.
    #[arg(skip)]
    pub max_wait: Option<Duration>,
    /// Set by `sync --dry-run --deferred-exit-code` and `--drift-exit-code`.
    #[arg(skip)]
    pub exit_codes: ExitCodes,
    #[command(flatten)]
    pub sharding: ShardArgs,
}

#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Copy this image: a reference with a tag, a digest or both; or `oci:DIR[:TAG]`, an OCI layout
    #[arg(value_parser = name::<ImageLocation>)]
    pub source: ImageLocation,
    /// Copy to this reference, in ECR or in any other registry; or to `oci:DIR[:TAG]`
    #[arg(value_parser = name::<ImageLocation>)]
    pub destination: ImageLocation,
    /// Copy only this platform, for example `linux/arm64`; repeatable [default: all]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_parser = name::<Platform>)]
    pub platforms: Vec<Platform>,
    /// Push the image of the one platform without an index, as AWS Lambda requires
    #[arg(long, requires = "platforms")]
    pub flatten: bool,
    /// Keep or drop BuildKit's attestations (SBOM, provenance)
    #[arg(long, value_name = "keep|drop", hide_possible_values = true, default_value = "keep")]
    #[arg(value_parser = one_of([("keep", Attestations::Keep), ("drop", Attestations::Drop)]))]
    pub attestations: Attestations,
    /// Copy no signatures, or all: OCI 1.1 referrers and cosign's tags
    #[arg(long, value_name = "none|all", hide_possible_values = true, default_value = "none")]
    #[arg(value_parser = one_of([("none", Signatures::None), ("all", Signatures::All)]))]
    pub signatures: Signatures,
    /// Use this AWS profile for the destination [default: that of the configuration, else the AWS
    /// credential chain]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Call ECR in this region [default: the region in the destination's host]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Assume this role for the destination [default: that of the configuration]
    #[arg(long, value_name = "ARN", value_parser = role)]
    pub role_arn: Option<String>,
    /// Print the report as JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
    /// Transfer at most N blobs in parallel
    #[arg(long, value_name = "N", default_value = "32", value_parser = concurrency())]
    pub concurrency: usize,
}

impl CopyArgs {
    /// The filter that these options select.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if `--flatten` has other than exactly one platform.
    pub fn filter(&self) -> Result<Filter> {
        let given = self.platforms.len();
        if self.flatten && given != 1 {
            let problem = format!("`--flatten` needs exactly one platform, {given} are given");
            return Err(Error::new(Kind::Configuration, problem).hint("give one `--platform`"));
        }
        Ok(Filter {
            platforms: Platforms::only(self.platforms.iter().cloned()).unwrap_or_default(),
            attestations: self.attestations,
            signatures: self.signatures.clone(),
            shape: if self.flatten { Shape::Flat } else { Shape::Index },
            ..Filter::default()
        })
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("forms").multiple(true))]
pub struct BootstrapArgs {
    /// Read these files and directories: Dockerfiles, compose and bake files, Kubernetes manifests,
    /// pipelines of GitHub, GitLab and CodeBuild, devcontainer.json, ECS task definitions. `-` is
    /// standard input [default: the working directory]
    #[arg(value_name = "PATH|-")]
    pub paths: Vec<PathBuf>,
    /// Also mirror the scanner that BuildKit pulls for an SBOM, as in `docker buildx build --sbom`
    #[arg(long)]
    pub sbom: bool,
    /// List every use with its file and line; send no request
    #[arg(long, conflicts_with_all = ["forms", "offline_ok", "report", "metrics", "metrics_format", "summary"])]
    pub list: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Exit with 0 also if a reference has a variable without a value, or a file cannot be read
    #[arg(long)]
    pub ignore_unresolved: bool,
    /// Mirror to this registry; read a configuration file only if one is named
    #[arg(long, value_name = "REGISTRY[/PREFIX]", value_parser = name::<RegistryPrefix>)]
    pub to: Option<RegistryPrefix>,
    /// Read the files for this platform, for example `linux/arm64`, and mirror it and those that the
    /// files set; repeatable [default: read for this host; mirror those of the configuration]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_parser = name::<Platform>)]
    pub platforms: Vec<Platform>,
    /// Set a build argument, or a variable of another file; without a value, take that of the
    /// environment; repeatable
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Read only the stages that this stage of a Dockerfile needs [default: every stage]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// After the run, write a form that makes the build pull these images from the destination, and
    /// omit those that it lacks: `source-policy`, `build-contexts`, `bake`, `registries.conf`,
    /// `hosts.toml` (FILE is a directory), `buildkitd`, `kustomize`, `build-args`, `compose`, `env`
    /// or `map`. Without FILE it is printed, and the report goes to stderr; `env` is appended to the
    /// files of $GITHUB_ENV and $GITHUB_OUTPUT; repeatable
    #[arg(long, value_name = "FORM[=FILE]", value_parser = name::<EmitTarget>)]
    #[arg(group = "forms")]
    pub emit: Vec<EmitTarget>,
    /// After the run, replace the references of `FROM`, `COPY --from` and `RUN --mount=from=` in the
    /// Dockerfiles by those of the destination, pinned
    #[arg(long, group = "forms")]
    pub write: bool,
    /// Write the forms for the destination with this name [default: the only one of the images]
    #[arg(long, value_name = "NAME", requires = "forms")]
    pub destination: Option<String>,
    /// Add the images that FILE lacks to its `[images]`, and read FILE as the configuration; with
    /// `--list`, mirror nothing. FILE must exist unless `--to` names the destination
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// Use the image that the destination has under the tag if its source is unreachable, or limits
    /// requests or pulls; fail only for an image that the destination lacks
    #[arg(long)]
    pub offline_ok: bool,
}

impl BootstrapArgs {
    /// The build arguments with a value.
    pub fn build_args(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> BTreeMap<String, String> {
        let value = |given: &String| match given.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => Some((given.clone(), environment(given)?)),
        };
        self.build_args.iter().filter_map(value).collect()
    }
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print the result as JSON on stdout, with its errors and warnings
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Run only the check with this id, or the checks of this group, and those that it depends on;
    /// repeatable [default: all]
    #[arg(long, value_name = "ID|GROUP")]
    pub only: Vec<String>,
    /// List the checks of this configuration and what each of them asks; run none
    #[arg(long, conflicts_with_all = ["only", "strict", "write"])]
    pub list: bool,
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 also after a warning
    #[arg(long)]
    pub strict: bool,
    /// Also ask for the actions whose calls write: open an upload that is never completed, create a
    /// repository that exists, and write settings of existing repositories back unchanged
    #[arg(long)]
    pub write: bool,
    /// Limit each check to DURATION; all checks run in parallel
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// List only images whose name or source matches; repeatable [default: all]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Print a form that makes builds pull these images from the destination: `map`,
    /// `source-policy`, `build-contexts`, `bake`, `registries.conf`, `hosts.toml`, `buildkitd` or
    /// `kustomize`
    #[arg(long, value_name = "FORM", conflicts_with = "json", value_parser = name::<BuildForm>)]
    pub format: Option<BuildForm>,
    /// Write the form for the destination with this name [default: the only one of the images]
    #[arg(long, value_name = "NAME", requires = "format")]
    pub destination: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Read these files; their content decides their format. `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Add to this mirror.toml and keep its comments [default: print a new one]
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// Mirror to this registry what names no destination: the images of skopeo sync and of lists
    #[arg(long, value_name = "REGISTRY[/PREFIX]", value_parser = name::<RegistryPrefix>)]
    pub to: Option<RegistryPrefix>,
    /// Name the images of skopeo sync as its option `--scoped` does: REGISTRY/PATH instead of the last
    /// component of the path
    #[arg(long, requires = "to")]
    pub scoped: bool,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Mirror to this ECR registry, or to the registry of this account in the region of AWS_REGION
    /// [default: asked on a terminal]
    #[arg(long, value_name = "HOST|ACCOUNT")]
    pub registry: Option<String>,
    /// Prepend this to every repository
    #[arg(long, value_name = "PREFIX", default_value = "mirror", value_parser = name::<Repository>)]
    pub prefix: Repository,
    /// Write to FILE, which must not exist; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "mirror.toml")]
    pub output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum IamPolicy {
    /// Print the policy for the role that mirrors
    #[command(after_help = exit::examples(exit::IAM) + &exit::status("the policy is printed", NO_POLICY, &[WRONG]))]
    Mirror,
    /// Print the policy for nodes that pull mirrored and cached images
    #[command(after_help = exit::examples(exit::IAM) + &exit::status("the policy is printed", NO_POLICY, &[WRONG]))]
    Pull,
    /// Print the policy for the role that runs `pull-through`
    #[command(after_help = exit::examples(exit::IAM) + &exit::status("the policy is printed", NO_POLICY, &[WRONG]))]
    PullThrough,
}

/// A document with a JSON schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaDocument {
    /// The configuration, `mirror.toml`
    Config,
    /// The report of `--json` and `--report`
    Report,
}

#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Serve one plain, empty OCI registry instead
    #[arg(long)]
    pub plain: bool,
    /// Keep the content in DIR [default: a temporary directory, deleted at exit]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Bind the first listener to this address [default: 127.0.0.1 and a free port]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Accept an address that other machines can reach: anyone there can read and write the content
    #[arg(long)]
    pub allow_remote: bool,
    /// Delay every response by this long, for example `20ms`
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Set ECR's blob mounting for accounts that do not set it themselves
    #[arg(long, value_name = "on|off", hide_possible_values = true, default_value = "off")]
    #[arg(value_parser = one_of([("on", BlobMounting::On), ("off", BlobMounting::Off)]))]
    pub blob_mounting: BlobMounting,
    /// Give the source registries, or the plain one, the habits of this registry, one of the list
    /// below
    #[arg(long, value_name = "NAME", value_parser = name::<&'static Profile>)]
    pub like: Option<&'static Profile>,
    /// Limit ACTION of ECR to N requests a second, and as many at once; for example `put_image=100`;
    /// repeatable [default: no limit]
    #[arg(long = "rate", value_name = "ACTION=N", value_parser = rate, conflicts_with = "plain")]
    pub rates: Vec<(&'static str, u32)>,
    /// Inject this fault, one of the list below; repeatable
    #[arg(long = "fault", value_name = "NAME[=ARG]", value_parser = name::<Fault>)]
    pub faults: Vec<Fault>,
}

/// Parses a name; the error includes its hint.
fn name<T: FromStr<Err = NameError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|NameError { problem, hint }| match hint {
        Some(hint) => format!("{problem}\nhint: {hint}"),
        None => problem,
    })
}

/// Parses a rate to the API's name of its action, and the requests a second.
fn rate(text: &str) -> Result<(&'static str, u32), String> {
    let keys = || PUBLISHED.map(|rate| rate.key).join(", ");
    let (key, number) = text.split_once('=').ok_or("is not a rate\nhint: write `put_image=100`")?;
    let published = PUBLISHED.iter().find(|rate| rate.key == key);
    let action =
        published.ok_or_else(|| format!("`{key}` has no rate\nhint: write one of {}", keys()))?;
    let number = number.parse().ok().filter(|number| *number > 0);
    let number = number.ok_or("needs a number of requests from 1\nhint: write `put_image=100`")?;
    Ok((action.action, number))
}

fn role(text: &str) -> Result<String, String> {
    match text.starts_with("arn:") && text.contains(":iam::") && text.contains(":role/") {
        true => Ok(text.to_owned()),
        false => Err("is not the ARN of a role\n\
             hint: write an ARN like `arn:aws:iam::123456789012:role/mirror`"
            .to_owned()),
    }
}

/// Parses one of two words to its value.
fn one_of<T: Clone + Send + Sync + 'static>(
    [(word, value), (other_word, other)]: [(&'static str, T); 2],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new([word, other_word])
        .map(move |given| if given == word { value.clone() } else { other.clone() })
}

/// An exit status that neither a shell nor a signal uses.
fn exit_code() -> impl TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(0..=125)
}

/// 1 to 1,024 transfers: more do not help, and each takes about 1 MiB of memory.
fn concurrency() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(1..=1024).map(usize::from)
}
