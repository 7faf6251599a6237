//! Memory of the idle bot, with few incidents in its journal and with ten thousand:
//! `cargo bench -p alert-bot --bench idle`.
//!
//! The real process, as it is started in a container; resident memory by the kernel's own account, after the
//! console was looked at once.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use common::{arguments, seed::fill};

const FEW: usize = 100;
const MANY: usize = 10_000;

fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Resident memory in MiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

async fn measure(count: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal.db");
    fill(&journal, count).await;
    let (port, admin) = (free(), free());
    let mut bot = Command::new(env!("CARGO_BIN_EXE_alert-bot"))
        .args(arguments(dir.path(), &journal))
        .args([format!("--listen=127.0.0.1:{port}"), format!("--admin-addr=127.0.0.1:{admin}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let list = format!("http://127.0.0.1:{port}/v1/incidents");
    while client.get(&list).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for path in ["", "v1/incidents?state=closed", "v1/targets", "v1/audit"] {
        client.get(format!("http://127.0.0.1:{port}/{path}")).send().await.unwrap().bytes().await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let found = resident(bot.id());
    bot.kill().unwrap();
    bot.wait().unwrap();
    println!("{count:>7} incidents in the journal   {found:.1} MiB resident");
    found
}

#[tokio::main]
async fn main() {
    let few = measure(FEW).await;
    let many = measure(MANY).await;
    println!("{MANY} over {FEW}: {:.2}", many / few);
}
