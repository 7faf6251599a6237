//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The self-healing observability stack: start it, look at it, break it, prove it.
#[derive(Debug, Parser)]
#[command(name = "stack", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `./stack`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything; run it again to go on after an interruption or to apply a change.
    Up(UpArgs),
    /// Stop and remove the containers and networks.
    Down(DownArgs),
    /// Show services, alerts, incidents and addresses.
    Status(JsonArgs),
    /// Restart one service and wait until it is healthy.
    Restart {
        /// Compose service.
        service: String,
    },
    /// Show the log of one service.
    Logs {
        /// Compose service.
        service: String,
        /// Go on as new lines come.
        #[arg(short, long)]
        follow: bool,
        /// Lines from the end to begin with.
        #[arg(short = 'n', long, default_value_t = 100)]
        tail: u32,
    },
    /// Put a bounded load on a service of this machine.
    Load(LoadArgs),
    /// Break something on purpose and see it heal.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Run every test suite.
    Test(TestArgs),
    /// Say what is missing, what is in the way and what will be left out.
    Doctor(JsonArgs),
    /// Check the running stack: targets, rules, data sources, panels.
    Verify(JsonArgs),
    /// Print one secret of the running stack.
    Secret {
        /// grafana-admin, alert-bot-webhook, alert-bot-operator, faults, machines or ledger.
        name: String,
    },
    /// Look at the ESG ledger of the running stack.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Make or show secrets inside the one-shot container.
    #[command(subcommand, hide = true)]
    Secrets(SecretsCommand),
}

/// `ledger …`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print the folder that holds the log.
    Path,
    /// Print the log's public verifier key, as the witness remembers it.
    Key {
        /// The witness's own key instead.
        #[arg(long)]
        witness: bool,
    },
    /// Check every entry, tile and signature, the witness's too; the exit code is that of `esg-ledger verify`.
    Verify {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
}

/// Options of `up`.
#[derive(Clone, Debug, Default, Args)]
pub struct UpArgs {
    /// Turn on a compose profile, such as jaeger; may be given several times.
    #[arg(long)]
    pub profile: Vec<String>,
    /// Start a part only.
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// Compile our services without optimising them, as the tests do: built sooner, slower afterwards.
    #[arg(long)]
    pub dev: bool,
}

/// A part of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What the healing loop needs.
    Core,
}

/// Options of `down`.
#[derive(Clone, Debug, Default, Args)]
pub struct DownArgs {
    /// Remove the data, the secrets and what `up` recorded as well.
    #[arg(long)]
    pub volumes: bool,
    /// Remove the images that were built locally as well; the next `up` builds them again.
    #[arg(long)]
    pub images: bool,
}

/// `--json`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct JsonArgs {
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// Options of `load`.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Requests a second; 0 is as fast as the connections allow.
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// How long, with a unit.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Requests under way at once at most.
    #[arg(long, default_value_t = 32)]
    pub concurrency: usize,
    /// One path to request; the method may come first, as in 'POST /transactions/create'.
    #[arg(long, conflicts_with = "mix")]
    pub path: Option<String>,
    /// Several with weights: 'GET /transactions=8,POST /transactions/create=2'.
    #[arg(long)]
    pub mix: Option<String>,
    /// Base address; loopback only. Default: the transaction API of this stack.
    #[arg(long)]
    pub url: Option<String>,
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// `scenario …`.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// List the scenarios.
    List(JsonArgs),
    /// Run one scenario or all of them.
    Run(ScenarioArgs),
}

/// Options of `scenario run`.
#[derive(Clone, Debug, Args)]
pub struct ScenarioArgs {
    /// Names of scenarios.
    #[arg(required_unless_present = "all")]
    pub names: Vec<String>,
    /// Run all, but those that are run by name only.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Take the short values of those that last long.
    #[arg(long)]
    pub quick: bool,
    /// Another value for a parameter of a scenario, such as down=2m; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::scenario::Given::assignment)]
    pub set: Vec<(String, String)>,
    /// Run each so often, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub times: u32,
    /// Leave the alert-bot's budgets as they are, and wait for those that are used up. Otherwise the operator's token
    /// gives back what would hold the action that a scenario waits for.
    #[arg(long)]
    pub no_release: bool,
    /// How long to wait for a stack that is not at rest.
    #[arg(long, default_value = "4m", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// Options of `test`.
#[derive(Clone, Debug, Default, Args)]
pub struct TestArgs {
    /// Run these suites only; may be given several times.
    #[arg(long, value_enum)]
    pub suite: Vec<crate::suites::Suite>,
}

/// `secrets …`, run inside the one-shot container.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Make what is absent.
    Init {
        /// The volume.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Print one.
    Show {
        /// The volume.
        #[arg(long)]
        dir: PathBuf,
        /// Its public name.
        name: String,
    },
}
