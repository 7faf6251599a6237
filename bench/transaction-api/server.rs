//! The real program in a process of its own, and a database for it.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

const INIT: &str = include_str!("../../init.sql");
const PASSWORD: &str = "bench";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}"))
}

fn admin_url() -> String {
    std::env::var("BENCH_POSTGRES_URL").unwrap_or_else(|_| variable("TEST_POSTGRES_URL"))
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

pub struct Database {
    name: String,
    options: PgConnectOptions,
}

impl Database {
    pub async fn create() -> Self {
        let options: PgConnectOptions = admin_url().parse().unwrap();
        let name = format!("bench_{}", std::process::id());
        let mut admin = PgConnection::connect_with(&options).await.unwrap();
        run(&mut admin, format!("CREATE DATABASE {name}")).await;
        let db = Self { name: name.clone(), options: options.database(&name) };
        let mut inside = PgConnection::connect_with(&db.options).await.unwrap();
        run(&mut inside, INIT.to_owned()).await;
        run(&mut inside, format!("ALTER ROLE app LOGIN PASSWORD '{PASSWORD}'")).await;
        db
    }

    pub async fn describe(&self) -> String {
        let mut inside = PgConnection::connect_with(&self.options).await.unwrap();
        sqlx::query_scalar(
            "SELECT 'version ' || current_setting('server_version') || ', fsync ' || current_setting('fsync')
                 || ', synchronous_commit ' || current_setting('synchronous_commit')",
        )
        .fetch_one(&mut inside)
        .await
        .unwrap()
    }

    pub fn app_url(&self) -> String {
        format!("postgres://app:{PASSWORD}@{}:{}/{}", self.options.get_host(), self.options.get_port(), self.name)
    }

    pub async fn drop(self) {
        let options: PgConnectOptions = admin_url().parse().unwrap();
        let mut admin = PgConnection::connect_with(&options).await.unwrap();
        run(&mut admin, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Server {
    /// Starts the service as deployed, without the gateway's wait, plus `settings`.
    pub async fn start(db: &Database, settings: &[(&str, &str)]) -> Self {
        let (address, admin) = (free_port(), free_port());
        let redis = variable("TEST_REDIS_URL").trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let child = Command::new(env!("CARGO_BIN_EXE_transaction-api"))
            .env_clear()
            .env("LISTEN_ADDR", address.to_string())
            .env("ADMIN_ADDR", admin.to_string())
            .env("DATABASE_URL", db.app_url())
            .env("REDIS_ADDR", redis)
            .env("CACHE_PREFIX", &db.name)
            .env("GATEWAY_LATENCY", "0ms")
            .envs(settings.iter().copied())
            // Written and thrown away: the cost of writing stays.
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let probe = crate::load::Load {
                address,
                request: "GET /health HTTP/1.1\r\nhost: bench\r\n\r\n",
                status: 200,
                connections: 1,
                time: Duration::from_millis(1),
            };
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                probe.run().await;
                return server;
            }
        }
        panic!("not serving within 10 s");
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// A line of proc_pid_status(5), in MiB.
    pub fn memory(&self, name: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
