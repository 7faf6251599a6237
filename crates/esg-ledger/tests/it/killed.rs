//! The real service, killed with SIGKILL while it writes, again and again.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use esg_ledger::{
    dir::LogDir,
    entry::Entry,
    scan, testing,
    verify::{Options, verify},
};

const TOKEN: &str = "a-token";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The process; gone with the test, whatever happens.
struct Service(Child);

impl Service {
    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(dir: &Path, port: u16, admin: u16) -> Service {
    let child = Command::new(env!("CARGO_BIN_EXE_esg-ledger"))
        .args(["serve", "--token", TOKEN, "--max-age", "36500days", "--max-ahead", "36500days"])
        .args([
            "--silence",
            "36500days",
            "--heartbeat",
            "36500days",
            "--verify-interval",
            "0s",
            "--batch-window",
            "1ms",
        ])
        .arg("--dir")
        .arg(dir.join("log"))
        .args(["--listen-addr", &format!("127.0.0.1:{port}"), "--admin-addr", &format!("127.0.0.1:{admin}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Service(child)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (port, admin) = (free_port(), free_port());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let url = format!("http://127.0.0.1:{port}/v1/entries");
    // Sequence number from which nothing is acknowledged yet.
    let mut next = 0i64;
    let mut kills = 0;
    for round in 0..6u64 {
        let mut service = start(folder.path(), port, admin);
        let before = next;
        // Each round lives a little longer, so that the kill falls into another moment.
        let mut killed = false;
        for batch in 0..1_000u64 {
            let seqs = next..next + 37;
            let lines: String = seqs
                .clone()
                .map(|seq| String::from_utf8(Entry::Reading(testing::reading("m", seq)).to_bytes()).unwrap() + "\n")
                .collect();
            let sent = client.post(&url).bearer_auth(TOKEN).body(lines).send();
            let answer = if next > before && batch > 3 * round + 3 {
                // The request is under way when the process dies.
                let under_way = tokio::spawn(sent);
                tokio::time::sleep(Duration::from_millis(2 * round)).await;
                service.kill();
                killed = true;
                under_way.await.unwrap()
            } else {
                sent.await
            };
            if let Ok(response) = answer
                && response.status().is_success()
                && let Ok(text) = response.text().await
            {
                let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(answer["refused"].as_array().map(Vec::len), Some(0), "{answer}");
                next = seqs.end;
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if killed {
                kills += 1;
                break;
            }
        }
        assert!(killed, "the service never came up");
    }
    assert_eq!(kills, 6);
    // Once more in peace: it recovers, and what is there is what was acknowledged, in order.
    let dir = folder.path().join("log");
    let log = esg_ledger::log::Log::open(esg_ledger::log::Place::beside(&dir)).unwrap();
    let key = log.verifier().clone();
    log.close().unwrap();
    let report = verify(&dir, &Options { key, last: None, witnesses: Vec::new() });
    assert!(report.ok, "{:?}", report.failures);
    let mut seqs = Vec::new();
    scan::entries(&LogDir::new(&dir, report.size), |_, entry, _| {
        if let Entry::Reading(r) = entry {
            seqs.push(r.seq);
        }
        Ok::<_, scan::ScanError>(())
    })
    .unwrap();
    assert_eq!(seqs, (0..seqs.len() as i64).collect::<Vec<_>>(), "nothing twice, nothing missing");
    assert!(seqs.len() as i64 >= next, "{next} acknowledged, {} there", seqs.len());
}
