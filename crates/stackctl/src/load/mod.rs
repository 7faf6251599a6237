//! `./stack load`: an open load on a service of this machine, bounded in rate, time and connections.

mod histogram;
mod mix;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use reqwest::{Client, Url};
use serde::Serialize;
use tokio::sync::watch;

pub use histogram::Histogram;
pub use mix::{Mix, Request};

use crate::cli::LoadArgs;
use crate::layout;
use crate::site::Site;
use crate::stack::Stack;

/// More connections than this would test the client.
const MOST_CONNECTIONS: usize = 512;
/// A request that takes longer counts as `timeout`.
const REQUEST: Duration = Duration::from_secs(10);

/// What to send where, how fast and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Base address, on loopback.
    pub base: String,
    /// What to send.
    pub mix: Mix,
    /// Requests a second; 0 is as fast as possible.
    pub rate: f64,
    /// When to stop by itself.
    pub duration: Duration,
    /// Requests under way at once at most.
    pub concurrency: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Seconds from the first to the end.
    pub seconds: f64,
    /// Requests a second.
    pub rps: f64,
    /// Median latency in milliseconds, from when the request was due.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// How often each status came; `refused`, `timeout`, `broken` without one.
    pub statuses: BTreeMap<String, u64>,
}

/// An answer, for those who look at them one by one.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was asked for.
    pub request: Request,
    /// Status, or why there is none.
    pub status: Result<u16, &'static str>,
    /// The body, when asked for.
    pub body: String,
}

#[derive(Default)]
struct Tally {
    latencies: Histogram,
    statuses: BTreeMap<String, u64>,
}

/// Sends requests until the duration is over or `stop` becomes true. `on_answer` sees every answer.
pub async fn drive<F>(plan: &Plan, stop: watch::Receiver<bool>, on_answer: F) -> Result<Report>
where
    F: Fn(Seen) + Send + Sync + 'static,
{
    check_loopback(&plan.base)?;
    let client = Client::builder().timeout(REQUEST).no_proxy().pool_max_idle_per_host(plan.concurrency).build()?;
    let next = Arc::new(AtomicU64::new(0));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let on_answer = Arc::new(on_answer);
    let started = Instant::now();
    let workers: Vec<_> = (0..plan.concurrency.clamp(1, MOST_CONNECTIONS))
        .map(|_| {
            let (client, plan, stop) = (client.clone(), plan.clone(), stop.clone());
            let (next, tally, on_answer) = (next.clone(), tally.clone(), on_answer.clone());
            tokio::spawn(async move { worker(&client, &plan, stop, &next, &tally, &*on_answer, started).await })
        })
        .collect();
    for worker in workers {
        worker.await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let requests = tally.latencies.count();
    let ms = |quantile: f64| tally.latencies.quantile(quantile) as f64 / 1000.0;
    Ok(Report {
        requests,
        seconds,
        rps: requests as f64 / seconds.max(f64::EPSILON),
        p50_ms: ms(0.5),
        p95_ms: ms(0.95),
        p99_ms: ms(0.99),
        max_ms: ms(1.0),
        statuses: tally.statuses.clone(),
    })
}

async fn worker<F: Fn(Seen)>(
    client: &Client,
    plan: &Plan,
    mut stop: watch::Receiver<bool>,
    next: &AtomicU64,
    tally: &Mutex<Tally>,
    on_answer: &F,
    started: Instant,
) {
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let due = match plan.rate {
            rate if rate > 0.0 => started + Duration::from_secs_f64(index as f64 / rate),
            _ => Instant::now(),
        };
        if due >= started + plan.duration || *stop.borrow() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let request = plan.mix.pick(index).clone();
        let seen = send(client, &plan.base, request).await;
        // From when it was due: a server that stalls must not look fast because nobody asked meanwhile.
        let latency = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        let status = match &seen.status {
            Ok(code) => code.to_string(),
            Err(why) => (*why).to_owned(),
        };
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.latencies.record(latency);
            *tally.statuses.entry(status).or_default() += 1;
        }
        // Without a rate, a refused connection must not become a busy loop.
        if seen.status.is_err() && plan.rate <= 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        on_answer(seen);
    }
}

async fn send(client: &Client, base: &str, request: Request) -> Seen {
    let sent = client.request(request.method.clone(), format!("{base}{}", request.path)).send().await;
    match sent {
        Ok(response) => {
            let status = response.status().as_u16();
            match response.text().await {
                Ok(body) => Seen { request, status: Ok(status), body },
                Err(_) => Seen { request, status: Err("broken"), body: String::new() },
            }
        }
        Err(error) => {
            let why = match () {
                () if error.is_timeout() => "timeout",
                () if error.is_connect() => "refused",
                () => "broken",
            };
            Seen { request, status: Err(why), body: String::new() }
        }
    }
}

/// Only this machine may be put under load.
fn check_loopback(base: &str) -> Result<()> {
    let url = Url::parse(base)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if url.scheme() != "http" || !loopback {
        bail!("{base} is not on this machine: load goes to http://127.0.0.1 only");
    }
    Ok(())
}

/// Runs `load`.
pub async fn run(site: &Site, args: &LoadArgs) -> Result<u8> {
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => Stack::open(site)?.url("transaction-api")?,
    };
    if !args.rate.is_finite() || args.rate < 0.0 {
        bail!("--rate must be 0 or more");
    }
    let text = args.mix.as_deref().or(args.path.as_deref());
    let plan = Plan {
        base,
        mix: Mix::parse(text.unwrap_or("GET /transactions=8,POST /transactions/create=2"))?,
        rate: args.rate,
        duration: args.duration,
        concurrency: args.concurrency,
    };
    let (_stop, stopped) = watch::channel(false);
    if !args.json {
        let rate = if plan.rate > 0.0 { format!("{}/s", plan.rate) } else { "as fast as possible".into() };
        println!("{} · {rate} · {}", plan.base, layout::duration(plan.duration));
    }
    let report = drive(&plan, stopped, |_| {}).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", render(&report));
    }
    Ok(0)
}

fn render(report: &Report) -> String {
    let statuses: Vec<String> = report.statuses.iter().map(|(status, count)| format!("{status} × {count}")).collect();
    format!(
        "requests {} · {:.1}/s\nlatency  p50 {:.1} ms · p95 {:.1} ms · p99 {:.1} ms · max {:.1} ms\nanswers  {}\n",
        report.requests,
        report.rps,
        report.p50_ms,
        report.p95_ms,
        report.p99_ms,
        report.max_ms,
        statuses.join(" · ")
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn only_this_machine() {
        for good in ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000"] {
            check_loopback(good).unwrap();
        }
        for bad in ["http://example.org", "http://10.0.0.1:80", "https://127.0.0.1", "ftp://localhost", "nonsense"] {
            assert!(check_loopback(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn keeps_the_rate_and_counts_what_comes_back() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(read) = socket.read(&mut buffer).await
                        && read > 0
                    {
                        let status = if buffer.starts_with(b"POST") { "201 Created" } else { "503 Down" };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
                        if socket.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let plan = Plan {
            base,
            mix: Mix::parse("GET /a=1,POST /b=1").unwrap(),
            rate: 200.0,
            duration: Duration::from_millis(500),
            concurrency: 8,
        };
        let (_stop, stopped) = watch::channel(false);
        let bodies = Arc::new(AtomicU64::new(0));
        let counted = bodies.clone();
        let report = drive(&plan, stopped, move |seen| {
            counted.fetch_add(u64::from(seen.body == "ok"), Ordering::Relaxed);
        })
        .await
        .unwrap();
        // An open load sends what is due and no more, however fast the answers come.
        assert_eq!(report.requests, 100);
        assert_eq!(report.statuses, BTreeMap::from([("201".into(), 50), ("503".into(), 50)]));
        assert_eq!(bodies.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn stops_when_told_to() {
        let plan = Plan {
            base: "http://127.0.0.1:1".into(),
            mix: Mix::parse("/").unwrap(),
            rate: 1.0,
            duration: Duration::from_secs(600),
            concurrency: 2,
        };
        let (stop, stopped) = watch::channel(false);
        let driven = tokio::spawn(async move { drive(&plan, stopped, |_| {}).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.send(true).unwrap();
        let report = driven.await.unwrap().unwrap();
        assert_eq!(report.statuses, BTreeMap::from([("refused".into(), 1)]));
    }

    #[test]
    fn the_report_fits_a_narrow_terminal() {
        let report = Report {
            requests: 1500,
            seconds: 30.0,
            rps: 50.0,
            p50_ms: 1.2,
            p95_ms: 4.5,
            p99_ms: 160.0,
            max_ms: 201.3,
            statuses: BTreeMap::from([("200".into(), 1200), ("201".into(), 300)]),
        };
        insta::assert_snapshot!(render(&report));
    }
}
