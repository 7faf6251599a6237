//! `telemetry-generator forecast`: any series through the forecaster that the service uses,
//! and a measurement of how good it is. No server, no lake, no network.

pub mod csv;
pub mod evaluate;
pub mod plant;
pub mod replay;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use forecast::{Cause, Settings};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::{
    csv::{BadInput, Columns, Rows, Written},
    evaluate::Seeds,
    replay::{Raised, Replayed, Survey},
};
use crate::command;

/// Exit code for a file whose contents make no sense (`EX_DATAERR` of sysexits.h).
pub const EXIT_DATA: u8 = 65;

/// Arguments of the subcommand.
#[derive(Debug, Parser)]
#[command(
    name = "telemetry-generator forecast",
    about = "Warn of overheating in a recorded series",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Series to replay: a header, then one reading a line, each machine's in order of time.
    #[arg(long, value_name = "FILE", required = true)]
    csv: Option<PathBuf>,
    /// Names of the columns: TIME,MACHINE,TEMPERATURE[,LOAD]. Time is RFC 3339 or seconds since
    /// 1970, temperature °C, load the share of the maximum or any unit that is 0 without load.
    /// If not given: time,machine_id,temperature and, if there is one, load.
    #[arg(long, value_name = "NAMES")]
    columns: Option<Columns>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure the forecast on simulated machines that it was not tuned on.
    Evaluate {
        /// Seeds of the machines: A..B, the last one not included.
        #[arg(long, default_value = "1000..1040")]
        seeds: Seeds,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Entry of the subcommand: 0 done (with or without alarms), 64 wrong arguments, 65 the file
/// makes no sense.
pub fn main() -> ExitCode {
    let args: Args = match command::arguments() {
        Ok(args) => args,
        Err(end) => return end,
    };
    if let Some(Command::Evaluate { seeds, json }) = &args.command {
        let report = evaluate::run(seeds, &Settings::default());
        print(&if *json { to_json(&report) } else { report.to_string() });
        return ExitCode::SUCCESS;
    }
    match warn(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("telemetry-generator forecast: {error}");
            ExitCode::from(EXIT_DATA)
        }
    }
}

fn warn(args: &Args) -> Result<(), BadInput> {
    let path = args.csv.clone().unwrap_or_default();
    let rows = Rows::open(&path, args.columns.as_ref())?;
    let has_load = rows.has_load();
    let survey = Survey::of(rows)?;
    if !has_load {
        eprintln!(
            "note: no load column: what the load explains cannot be told from a fault, so warnings come later \
             and false ones are more frequent"
        );
    } else if survey.load_has_unit() {
        eprintln!("note: the load exceeds 1: each machine's highest load counts as its full load");
    }
    let replayed = replay::replay(Rows::open(&path, args.columns.as_ref())?, &survey, &Settings::default())?;
    print(&if args.json { to_json(&Alarms::of(&replayed)) } else { as_text(&replayed) });
    Ok(())
}

/// A reader that has had enough is no failure.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The answer in JSON.
#[derive(Serialize)]
struct Alarms {
    alarms: Vec<AlarmView>,
}

#[derive(Serialize)]
struct AlarmView {
    machine_id: String,
    time: serde_json::Value,
    eta_seconds: f64,
    probability: f64,
}

impl Alarms {
    fn of(replayed: &Replayed) -> Self {
        let view = |a: &Raised| AlarmView {
            machine_id: a.machine_id.clone(),
            time: match &a.time {
                Written::Text(text) => text.clone().into(),
                Written::Seconds(s) if s.fract() == 0.0 => (*s as i64).into(),
                Written::Seconds(s) => (*s).into(),
            },
            eta_seconds: a.eta_seconds.round(),
            probability: (a.probability * 1e4).round() / 1e4,
        };
        Self { alarms: replayed.alarms.iter().map(view).collect() }
    }
}

fn as_text(replayed: &Replayed) -> String {
    let mut lines = Vec::new();
    for a in &replayed.alarms {
        let instant = OffsetDateTime::from_unix_timestamp_nanos((a.seconds * 1e3).round() as i128 * 1_000_000)
            .ok()
            .and_then(|t| t.format(&Rfc3339).ok())
            .unwrap_or_else(|| a.time.to_string());
        let what = match a.cause {
            Cause::Trend => "is going to overheat",
            Cause::Level => "is hot",
        };
        let eta = if a.eta_seconds >= replay::FARTHEST {
            "no rise towards 95 °C".to_owned()
        } else {
            format!("95 °C in {:.0} min", a.eta_seconds / 60.0)
        };
        let percent = a.probability * 100.0;
        lines.push(format!("{instant}  {}  {what}: {eta}, {percent:.0} % within 20 min", a.machine_id));
    }
    let Replayed { alarms, rows, machines } = replayed;
    lines.push(format!("{} alarms; {rows} readings of {machines} machines", alarms.len()));
    lines.join("\n")
}
