//! The command line: every verb and option, parsed into its type.
//!
//! Guards that `--help` of every command tells its exit status, and that what is wrong on the
//! command line ends with exit status 2 before anything is attempted.

mod exit;
pub(crate) mod pull_through;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{
    ArgAction, Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

pub use self::pull_through::PullThrough;
use crate::{
    model::{
        Attestations, Error, Filter, ImageLocation, Kind, NameError, Platform, Platforms, Result,
        Shape, Signatures,
    },
    output::{
        log::{LogFormat, Verbosity},
        progress::ProgressKind,
    },
    sandbox::{BlobMounting, Fault, fault},
};

/// Mirrors container images from any OCI registry into Amazon ECR.
#[derive(Debug, Parser)]
#[command(name = "ecr-mirror", version, after_help = exit::any())]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command; they may stand before or after the verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "ECR_MIRROR_CONFIG",
        hide_env_values = true,
        default_value = "mirror.toml"
    )]
    pub config: PathBuf,
    /// Run against the embedded upstream registries and the embedded ECR on loopback, whose state
    /// is kept in DIR [default DIR: .ecr-mirror-sandbox]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ".ecr-mirror-sandbox"
    )]
    pub sandbox: Option<PathBuf>,
    /// Log what is done (-v), or every step of it (-vv) [default: warnings]
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only, and show no progress unless `--progress` asks for it
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// What the log on stderr looks like
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "text|json",
        hide_possible_values = true,
        default_value_t
    )]
    pub log_format: LogFormat,
    /// How progress is shown on stderr; `auto` is bars on a terminal and lines elsewhere
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "auto|bar|plain|none",
        hide_possible_values = true,
        default_value_t
    )]
    pub progress: ProgressKind,
    /// When to use colours; `auto` heeds NO_COLOR
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "auto|always|never",
        hide_possible_values = true,
        default_value_t
    )]
    pub color: clap::ColorChoice,
}

impl Global {
    /// How much is logged.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, 0) => Verbosity::Normal,
            (_, 1) => Verbosity::Verbose,
            _ => Verbosity::Debug,
        }
    }

    /// How progress is shown: `auto` is nothing where only errors are wanted.
    pub fn progress(&self) -> ProgressKind {
        match self.progress {
            ProgressKind::Auto if self.quiet => ProgressKind::None,
            kind => kind,
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror everything that the configuration selects
    #[command(after_help = exit::sync())]
    Sync(SyncArgs),
    /// Show what `sync` would do and what it would cost; writes nothing
    #[command(after_help = exit::plan())]
    Plan(PlanArgs),
    /// Mirror one image, without a configuration file
    #[command(after_help = exit::copy())]
    Copy(CopyArgs),
    /// Validate the configuration offline
    #[command(after_help = exit::check())]
    Check,
    /// List every selected image and the reference to pull it from
    #[command(after_help = exit::images())]
    Images(ImagesArgs),
    /// Set up and use ECR's own pull-through cache: rules, secrets, templates, access
    #[command(after_help = exit::pull_through())]
    PullThrough {
        /// What to do.
        #[command(subcommand)]
        verb: PullThrough,
    },
    /// Print least-privilege IAM policies for exactly what this configuration does
    #[command(after_help = exit::iam())]
    Iam {
        /// Which policy.
        #[command(subcommand)]
        policy: IamPolicy,
    },
    /// Serve the embedded registries on loopback for other clients, until interrupted
    #[command(after_help = exit::sandbox(&fault::help()))]
    Sandbox(SandboxArgs),
    /// Print a completion script for a shell
    #[command(after_help = exit::completions())]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command
    #[command(after_help = exit::man())]
    Man {
        /// The directory to write them to; made where it is missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Mirror only images whose name matches; repeatable [default: all]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Show what would be done and write nothing, like `plan`
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the report as JSON to a file, too
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write what each tag was mirrored as to a file, for `--locked`; only when all of it is
    /// mirrored, and without what comes through the pull-through cache
    #[arg(long, value_name = "FILE", conflicts_with_all = ["locked", "dry_run"])]
    pub lock: Option<PathBuf>,
    /// Mirror exactly what `--lock` wrote to this file, wherever tags point by now; what comes
    /// through the pull-through cache is left alone
    #[arg(long, value_name = "FILE")]
    pub locked: Option<PathBuf>,
    /// End after this time, like `45m`: nothing new begins, what is running has 10 s more, the rest
    /// is left for the next run [default: none]
    #[arg(long, value_name = "DURATION", conflicts_with = "dry_run", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// Transfer at most this many blobs at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = concurrency())]
    pub concurrency: usize,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan only images whose name matches; repeatable [default: all]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Print the plan as JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the plan as JSON to a file, too
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Plan exactly what `sync --lock` wrote to this file
    #[arg(long, value_name = "FILE")]
    pub locked: Option<PathBuf>,
    /// Read manifests where that counts as a pull, too, so that no number stays unknown
    #[arg(long)]
    pub resolve: bool,
}

/// Arguments of `copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The image: a reference with a tag, a digest, or both; or `oci:DIR[:TAG]`, an OCI layout
    #[arg(value_parser = name::<ImageLocation>)]
    pub source: ImageLocation,
    /// Where it goes: a reference in ECR or in any other registry; or `oci:DIR[:TAG]`
    #[arg(value_parser = name::<ImageLocation>)]
    pub destination: ImageLocation,
    /// Copy only this platform, like `linux/arm64`; repeatable [default: all]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_parser = name::<Platform>)]
    pub platforms: Vec<Platform>,
    /// Push the one platform's image itself and not an index, as AWS Lambda needs it
    #[arg(long, requires = "platforms")]
    pub flatten: bool,
    /// Whether attestations come along
    #[arg(long, value_name = "keep|drop", hide_possible_values = true, default_value = "keep", value_parser = attestations())]
    pub attestations: Attestations,
    /// Whether what refers to the image comes along: OCI 1.1 referrers and cosign's tags
    #[arg(long, value_name = "none|all", hide_possible_values = true, default_value = "none", value_parser = signatures())]
    pub signatures: Signatures,
    /// Print the report as JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
    /// Transfer at most this many blobs at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = concurrency())]
    pub concurrency: usize,
}

impl CopyArgs {
    /// Which parts of the image are wanted.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when several platforms are to be one image.
    pub fn want(&self) -> Result<Filter> {
        if self.flatten && self.platforms.len() != 1 {
            return Err(Error::new(
                Kind::Configuration,
                format!(
                    "`--flatten` pushes one platform's image, {} are given",
                    self.platforms.len()
                ),
            )
            .hint("give exactly one `--platform`"));
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

/// Arguments of `images`.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// List only images whose name matches; repeatable [default: all]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The policies of `iam`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum IamPolicy {
    /// Print the policy for the role that mirrors
    #[command(after_help = exit::iam())]
    Mirror,
    /// Print the policy for nodes that pull what is mirrored and cached
    #[command(after_help = exit::iam())]
    Pull,
    /// Print the policy for the role that runs `pull-through`
    #[command(after_help = exit::iam())]
    PullThrough,
}

/// Arguments of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Serve one ordinary, empty OCI registry instead
    #[arg(long)]
    pub plain: bool,
    /// Where its content is kept [default: a temporary directory that goes with the sandbox]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The address of the first listener [default: 127.0.0.1 and a free port]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// How much later than it could each answer begins, like `20ms`: one round trip
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Whether ECR mounts blobs from other repositories, where its account has not set it
    #[arg(long, value_name = "on|off", hide_possible_values = true, default_value = "off", value_parser = blob_mounting())]
    pub blob_mounting: BlobMounting,
    /// Something that goes wrong, one of the faults below; repeatable
    #[arg(long = "fault", value_name = "NAME[=ARG]", value_parser = name::<Fault>)]
    pub faults: Vec<Fault>,
}

/// Reads a name; what is wrong with it comes with what would be right.
fn name<T: FromStr<Err = NameError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|NameError { problem, hint }| match hint {
        Some(hint) => format!("{problem}\nhint: {hint}"),
        None => problem,
    })
}

fn attestations() -> impl TypedValueParser<Value = Attestations> {
    PossibleValuesParser::new(["keep", "drop"]).map(|word| match word.as_str() {
        "drop" => Attestations::Drop,
        _ => Attestations::Keep,
    })
}

/// More than this many at once helps nobody, and each takes about a MiB.
fn concurrency() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(1..=1024).map(usize::from)
}

fn signatures() -> impl TypedValueParser<Value = Signatures> {
    PossibleValuesParser::new(["none", "all"]).map(|word| match word.as_str() {
        "all" => Signatures::All,
        _ => Signatures::None,
    })
}

fn blob_mounting() -> impl TypedValueParser<Value = BlobMounting> {
    PossibleValuesParser::new(["on", "off"]).map(|word| match word.as_str() {
        "on" => BlobMounting::On,
        _ => BlobMounting::Off,
    })
}
