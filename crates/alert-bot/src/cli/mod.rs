//! What the command line offers besides running the bot.
//!
//! Text for people, `--json` for programs. What is given wrong ends with 64 and
//! says so in one line a fault; what could not be done ends with 1.

mod remote;
mod replay;
mod simulate;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use serde::Serialize;
use serde_json::json;

pub use self::{
    remote::Remote,
    replay::{Difference, Replay, replay},
    simulate::decisions,
};
use crate::{
    journal::{Journal, audit},
    policy::Policy,
    timestamp::Timestamp,
};

/// A command.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Tool {
    /// Run the bot (the default).
    Serve,
    /// Check a policy document; every fault is named with its line.
    Check {
        /// The document.
        file: PathBuf,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Print as JSON what a policy would decide on a notification, touching nothing.
    Simulate {
        /// The document.
        #[arg(long)]
        policy: PathBuf,
        /// The notification, as posted to the webhook.
        #[arg(long)]
        payload: PathBuf,
        /// Compose project whose containers may be healed.
        #[arg(long, env = "TARGET_PROJECT", default_value = "selfheal")]
        project: String,
        /// For people instead of programs.
        #[arg(long)]
        text: bool,
        /// For programs: the default.
        #[arg(long, conflicts_with = "text")]
        json: bool,
    },
    /// Decide anew, under another policy, on the alerts of the past; show what would have been different.
    Replay {
        /// The document.
        #[arg(long)]
        policy: PathBuf,
        /// How far back: a period such as 7d, or an RFC 3339 time.
        #[arg(long, default_value = "7d")]
        since: String,
        /// The journal.
        #[arg(long, env = "JOURNAL_PATH", default_value = "/var/lib/alert-bot/journal.db")]
        journal: PathBuf,
        /// Compose project whose containers may be healed.
        #[arg(long, env = "TARGET_PROJECT", default_value = "selfheal")]
        project: String,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// List the incidents of the running bot, or show one.
    Incidents {
        /// Show this one, with its timeline.
        id: Option<String>,
        /// open, a state, or an outcome.
        #[arg(long)]
        state: Option<String>,
        /// Of this service.
        #[arg(long)]
        service: Option<String>,
        /// Opened since: a period such as 7d, or an RFC 3339 time.
        #[arg(long)]
        since: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// The running bot.
        #[command(flatten)]
        remote: Remote,
    },
    /// Let nothing be acted on any more.
    Freeze {
        /// Why: others will ask.
        #[arg(long)]
        why: String,
        /// For how long, such as 1h; without it until somebody unfreezes.
        #[arg(long = "for")]
        period: Option<telemetry::config::Duration>,
        /// Who orders it, for the record.
        #[arg(long, env = "USER", default_value = "operator")]
        by: String,
        /// The running bot.
        #[command(flatten)]
        remote: Remote,
    },
    /// Let things be acted on again.
    Unfreeze {
        /// Who orders it, for the record.
        #[arg(long, env = "USER", default_value = "operator")]
        by: String,
        /// The running bot.
        #[command(flatten)]
        remote: Remote,
    },
    /// Give a target its budget back, after somebody has looked at it.
    Release {
        /// A service, or a container's name.
        target: String,
        /// What was found: others will ask.
        #[arg(long)]
        reason: String,
        /// The budget over all targets too.
        #[arg(long)]
        global: bool,
        /// Who orders it, for the record.
        #[arg(long, env = "USER", default_value = "operator")]
        by: String,
        /// The running bot.
        #[command(flatten)]
        remote: Remote,
    },
    /// Look after the record.
    Audit {
        /// What to do.
        #[command(subcommand)]
        what: Audit,
    },
}

/// What can be done with the record.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Audit {
    /// Check the whole chain of hashes, in the file itself: 0 whole, 1 changed.
    Verify {
        /// The journal.
        #[arg(long, env = "JOURNAL_PATH", default_value = "/var/lib/alert-bot/journal.db")]
        journal: PathBuf,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
}

/// Names of all commands that need none of the settings that running needs.
pub const TOOLS: [&str; 9] =
    ["check", "simulate", "replay", "incidents", "freeze", "unfreeze", "release", "audit", "help"];

/// 64: what was given is wrong (`EX_USAGE`).
const WRONG: u8 = 64;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// What was given is wrong: one line a fault.
    Wrong(Vec<String>),
    /// It could not be done.
    Failed(String),
    /// It was done, and what it says is no good; it is printed already.
    Bad,
}

impl Failure {
    fn wrong(line: impl Into<String>) -> Self {
        Self::Wrong(vec![line.into()])
    }
}

type Done = Result<(), Failure>;

/// Carries a command out.
pub fn run(tool: Tool) -> ExitCode {
    let done = match tool {
        Tool::Serve => Ok(()),
        Tool::Check { file, json } => check(&file, json),
        Tool::Simulate { policy, payload, project, text, .. } => simulate::run(&policy, &payload, &project, text),
        Tool::Replay { policy, since, journal, project, json } => {
            wait(replay::run(&policy, &since, &journal, &project, json))
        }
        Tool::Incidents { id: Some(id), remote, .. } => wait(remote.incident(&id)),
        Tool::Incidents { state, service, since, limit, remote, .. } => {
            let limit = limit.to_string();
            let query = [("state", state), ("service", service), ("since", since), ("limit", Some(limit))];
            wait(remote.incidents(&query))
        }
        Tool::Freeze { why, period, by, remote } => wait(remote.freeze(&why, period, &by)),
        Tool::Unfreeze { by, remote } => wait(remote.unfreeze(&by)),
        Tool::Release { target, reason, global, by, remote } => wait(remote.release(&target, &reason, global, &by)),
        Tool::Audit { what: Audit::Verify { journal, json } } => wait(verify(&journal, json)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Wrong(lines)) => {
            for line in lines {
                eprintln!("{line}");
            }
            ExitCode::from(WRONG)
        }
        Err(Failure::Failed(line)) => {
            eprintln!("alert-bot: {line}");
            ExitCode::FAILURE
        }
        Err(Failure::Bad) => ExitCode::FAILURE,
    }
}

fn wait(work: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::Failed(format!("cannot start the runtime: {e}")))?.block_on(work)
}

fn print_json(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Checks a document and prints what is wrong.
fn check(file: &Path, as_json: bool) -> Done {
    let policy = match load(file) {
        Ok(policy) => policy,
        Err(Failure::Wrong(faults)) if as_json => {
            print_json(&json!({ "valid": false, "faults": faults }));
            return Err(Failure::Wrong(Vec::new()));
        }
        Err(failure) => return Err(failure),
    };
    let healing = policy.rules.iter().filter(|r| r.heal().is_some()).count();
    if as_json {
        print_json(&json!({
            "valid": true, "rules": policy.rules.len(), "healing": healing, "mode": policy.mode, "digest": policy.digest,
        }));
    } else {
        println!(
            "{}: valid; {} rules, {healing} of them heal; mode {}; digest {}",
            file.display(),
            policy.rules.len(),
            policy.mode.as_str(),
            policy.digest
        );
    }
    Ok(())
}

fn load(file: &Path) -> Result<Arc<Policy>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::wrong(format!("{}: {e}", file.display())))?;
    Policy::parse(&text).map(Arc::new).map_err(|faults| {
        let line = |f: &crate::policy::PolicyError| match f.line {
            0 => format!("{}: {}", file.display(), f.message),
            line => format!("{}:{line}: {}", file.display(), f.message),
        };
        Failure::Wrong(faults.iter().map(line).collect())
    })
}

async fn open(journal: &Path) -> Result<Journal, Failure> {
    Journal::look(journal).await.map_err(|e| Failure::Failed(format!("{}: {e}", journal.display())))
}

async fn verify(journal: &Path, as_json: bool) -> Done {
    let report = audit::verify(&open(journal).await?).await;
    let report = report.map_err(|e| Failure::Failed(format!("{}: {e}", journal.display())))?;
    if as_json {
        print_json(&report);
    } else if report.intact {
        println!("whole: {} lines, last hash {}", report.lines, report.head);
    } else {
        let why = report.error.as_deref().unwrap_or("a line is not what it was");
        println!("CHANGED: {why}; {} lines before it hold, last good hash {}", report.lines, report.head);
    }
    if report.intact { Ok(()) } else { Err(Failure::Bad) }
}

/// A period before now, or a time.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let ago = humantime::parse_duration(text).ok().map(|period| now.minus(period));
    ago.or_else(|| Timestamp::parse(text))
        .ok_or_else(|| Failure::wrong(format!("--since: '{text}' is neither a period such as 7d nor an RFC 3339 time")))
}

/// Columns, each as wide as its widest cell; the last one as it comes.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  ", width = *width));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text of an alert on a terminal: nothing in it moves the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
