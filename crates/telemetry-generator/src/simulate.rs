//! `telemetry-generator simulate`: hours of a fleet's life in seconds, written to a folder
//! as the service would write them to the lake. Faults come by chance, from the seed.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use lake::{Batch, Lake, Settings, store::Backend};
use rand::RngExt;
use telemetry::config::Duration;

use crate::{
    command,
    faults::{Active, Fault, Kind},
    fleet::Fleet,
    machine::rng_for,
    outbox::Outbox,
};

/// Arguments of the subcommand.
#[derive(Debug, Parser)]
#[command(name = "telemetry-generator simulate", about = "Write the readings of a simulated fleet to a folder")]
pub struct Args {
    /// Folder that becomes a lake.
    #[arg(long)]
    pub out: PathBuf,
    /// Machines.
    #[arg(long, default_value_t = 5)]
    pub machines: usize,
    /// Seed of the fleet and of its faults.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// How long.
    #[arg(long, default_value = "24h")]
    pub duration: Duration,
    /// A reading of each machine is due this often.
    #[arg(long, default_value = "1s")]
    pub tick_interval: Duration,
    /// Instant of the first reading, seconds since 1970.
    #[arg(long, default_value_t = 1_767_225_600)]
    pub start: i64,
    /// Faults a machine and day: overheating, lost cooling or a bad bearing, 10 minutes each.
    #[arg(long, default_value_t = 0.0)]
    pub faults_per_day: f64,
}

/// Entry of the subcommand: 0 done, 1 failed, 64 wrong arguments.
pub fn main() -> ExitCode {
    let args: Args = match command::arguments() {
        Ok(args) => args,
        Err(end) => return end,
    };
    command::complete("simulate", async {
        println!("{} readings in {}", run(&args).await?, args.out.display());
        Ok(())
    })
}

/// A fault lasts this long, µs.
const FAULT_US: i64 = 600_000_000;
/// An object holds this many periods.
const BATCH_TICKS: i64 = 600;

/// Simulates and writes; returns the number of readings.
///
/// # Errors
/// The folder cannot be written.
pub async fn run(args: &Args) -> anyhow::Result<usize> {
    let lake = Lake::open(&Settings { backend: Backend::Folder(args.out.clone()) }, Arc::new(()))?;
    let period = i64::try_from(args.tick_interval.as_micros())?.max(1);
    let start = args.start.saturating_mul(1_000_000);
    let ticks = i64::try_from(args.duration.as_micros())? / period;
    let boot_id = format!("simulation-{}", args.seed);
    let mut fleet = Fleet::new(args.machines, args.seed, &boot_id, period, start);
    let mut outbox = Outbox::<Batch>::new(usize::MAX);
    let mut chance = rng_for(args.seed, u64::MAX, 3);
    let rate = args.faults_per_day * period as f64 / 86_400e6;
    let mut written = 0;
    for tick in 0..ticks {
        let now = start + tick * period;
        for machine in 0..args.machines {
            if chance.random::<f64>() < rate {
                let kind = [Kind::Overheat, Kind::Cooling, Kind::Bearing][chance.random_range(0..3)];
                let severity = chance.random_range(0.5..1.5);
                let fault = Fault { kind, severity, drift: None };
                fleet.inject(Active { fault, machine: Some(machine), until_us: now + FAULT_US, grows: None });
            }
        }
        // Nothing is ever dropped: the bound is the address space.
        let _ = outbox.push(fleet.tick(now).readings);
        if tick % BATCH_TICKS == BATCH_TICKS - 1 || tick == ticks - 1 {
            while let Some(batch) = outbox.batch()? {
                lake.write(&batch, now).await?;
                written += batch.rows();
                outbox.written();
            }
        }
    }
    Ok(written)
}
