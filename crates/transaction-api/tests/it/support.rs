//! A service with a database of its own, and what tests ask of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use telemetry::Runtime;
use tokio::sync::OnceCell;
use transaction_api::{config::Config, faults::Hooks};

use crate::proxy::Proxy;

pub const TOKEN: &str = "test-faults-token";
const APP_PASSWORD: &str = "app-test";
const INIT: &str = include_str!("../../../../init.sql");

pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}, or run ./stack test"))
}

fn admin_options() -> PgConnectOptions {
    env("TEST_POSTGRES_URL").parse().unwrap()
}

pub async fn admin() -> PgConnection {
    PgConnection::connect_with(&admin_options()).await.unwrap()
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

pub fn redis_addr() -> SocketAddr {
    env("TEST_REDIS_URL").trim_start_matches("redis://").trim_end_matches('/').parse().unwrap()
}

fn postgres_addr() -> SocketAddr {
    let options = admin_options();
    format!("{}:{}", options.get_host(), options.get_port()).parse().unwrap()
}

/// A database with init.sql applied and no rows, made once a run.
pub async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let now = time::OffsetDateTime::now_utc().unix_timestamp();
            let name = format!("txn_{now}_template_{}", std::process::id());
            let mut admin = admin().await;
            // Roles belong to the whole server: two runs must not make them at the same time.
            execute(&mut admin, "SELECT pg_advisory_lock(7202)".to_owned()).await;
            let old: Vec<String> = sqlx::query_scalar("SELECT datname FROM pg_database WHERE datname LIKE 'txn\\_%'")
                .fetch_all(&mut admin)
                .await
                .unwrap();
            for old in old {
                let made: i64 = old.split('_').nth(1).and_then(|t| t.parse().ok()).unwrap_or(0);
                if now - made > 3600 {
                    execute(&mut admin, format!("DROP DATABASE IF EXISTS {old} WITH (FORCE)")).await;
                }
            }
            execute(&mut admin, format!("CREATE DATABASE {name}")).await;
            let mut inside = PgConnection::connect_with(&admin_options().database(&name)).await.unwrap();
            // Twice: it must be possible to run it again.
            for _ in 0..2 {
                execute(&mut inside, INIT.to_owned()).await;
            }
            execute(&mut inside, "TRUNCATE transactions".to_owned()).await;
            execute(&mut inside, format!("ALTER ROLE app LOGIN PASSWORD '{APP_PASSWORD}'")).await;
            inside.close().await.unwrap();
            execute(&mut admin, "SELECT pg_advisory_unlock(7202)".to_owned()).await;
            name
        })
        .await
}

/// A database of one test; dropped with it.
pub struct TestDatabase {
    pub name: String,
    /// As superuser, past the service.
    pub pool: PgPool,
}

impl TestDatabase {
    pub async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let template = template().await;
        let name = format!("{template}_{}", NEXT.fetch_add(1, Ordering::Relaxed)).replace("_template", "");
        execute(&mut admin().await, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let pool = PgPool::connect_lazy_with(admin_options().database(&name));
        Self { name, pool }
    }

    pub fn url(&self, address: SocketAddr) -> String {
        format!("postgres://app:{APP_PASSWORD}@{address}/{}", self.name)
    }

    pub async fn count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM transactions").fetch_one(&self.pool).await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        // The test's own runtime is about to end.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                execute(&mut admin().await, format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        let _ = dropped.join();
    }
}

/// What to start a service with.
pub struct Start {
    pub flags: BTreeMap<&'static str, String>,
    pub hooks: Hooks,
    redis: bool,
    postgres_up: bool,
}

impl Default for Start {
    fn default() -> Self {
        let flags = [
            ("--gateway-latency", "0ms"),
            ("--gateway-decline-ratio", "0"),
            // Opening a connection takes its time without optimisation, on a busy machine.
            ("--db-acquire-timeout", "5s"),
            ("--db-query-timeout", "5s"),
            ("--redis-timeout", "2s"),
            ("--faults-token", TOKEN),
            ("--user-hash-key", "test-key"),
        ];
        Self {
            flags: flags.into_iter().map(|(flag, value)| (flag, value.to_owned())).collect(),
            hooks: Hooks::default(),
            redis: true,
            postgres_up: true,
        }
    }
}

impl Start {
    pub fn with(mut self, flag: &'static str, value: impl Into<String>) -> Self {
        self.flags.insert(flag, value.into());
        self
    }

    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    pub fn without_redis(mut self) -> Self {
        self.redis = false;
        self
    }

    pub fn without_postgres(mut self) -> Self {
        self.postgres_up = false;
        self
    }

    pub async fn start(self) -> TestApp {
        let db = TestDatabase::new().await;
        self.start_on(db).await
    }

    pub async fn start_on(self, db: TestDatabase) -> TestApp {
        let prefix = db.name.clone();
        let mut app = self.start_beside(&db, &prefix).await;
        app.own_db = Some(db);
        app
    }

    /// A service on a database (and keys in Redis) that another one uses too.
    pub async fn start_beside(mut self, db: &TestDatabase, prefix: &str) -> TestApp {
        let postgres = Proxy::start(postgres_addr()).await;
        if !self.postgres_up {
            postgres.cut();
        }
        let redis = Proxy::start(redis_addr()).await;
        self.flags.insert("--database-url", db.url(postgres.address));
        self.flags.insert("--cache-prefix", prefix.to_owned());
        if self.redis {
            self.flags.insert("--redis-addr", redis.address.to_string());
        }
        let args = std::iter::once("transaction-api".to_owned())
            .chain(self.flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        let config: Config = telemetry::config::parse(args.map(Into::into))
            .unwrap_or_else(|e| panic!("{}", e.unwrap_or_else(|e| e.to_string())));
        let rt = Runtime::for_test();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(transaction_api::serve(listener, config, rt.clone(), self.hooks));
        let app = TestApp { address, rt, client: client(), postgres, redis, own_db: None };
        if self.redis {
            // Redis is used from its first answer on.
            app.eventually("redis in use", async |app| app.metric("cache_redis_up").await == 1.0).await;
        }
        app
    }
}

pub fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(20)).no_proxy().build().unwrap()
}

pub struct TestApp {
    pub address: SocketAddr,
    pub rt: Runtime,
    pub client: Client,
    pub postgres: Proxy,
    pub redis: Proxy,
    own_db: Option<TestDatabase>,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.rt.shutdown.cancel();
    }
}

impl TestApp {
    pub async fn new() -> Self {
        Start::default().start().await
    }

    pub fn db(&self) -> &TestDatabase {
        self.own_db.as_ref().unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.get(path).send().await.unwrap().status().as_u16()
    }

    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    /// A payment that succeeds; its JSON.
    pub async fn pay(&self, body: Value) -> Value {
        let response = self.post("/transactions/create").json(&body).send().await.unwrap();
        let (status, body): (_, Value) = (response.status(), response.json().await.unwrap());
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body
    }

    /// The value of one series, written as in the text format; 0 if there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").send().await.unwrap().text().await.unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn faults(&self, method: Method) -> RequestBuilder {
        self.request(method, "/faults").bearer_auth(TOKEN)
    }

    /// Waits until something is so; a test's limit, not a measure of speed.
    pub async fn eventually(&self, what: &str, so: impl AsyncFn(&Self) -> bool) {
        for _ in 0..200 {
            if so(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 10 s: {what}");
    }
}

/// Checks that an answer is a problem with this status that tells nothing of the inside; returns it.
pub async fn problem(response: Response, status: u16) -> Value {
    let got = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{text}");
    let lower = text.to_lowercase();
    for inside in ["sqlx", "pool", "panicked", "select ", "insert ", "127.0.0.1", "/src/", "constraint", "settlement"] {
        assert!(!lower.contains(inside), "tells '{inside}': {text}");
    }
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["type"].is_string() && problem["instance"].is_string());
    problem
}

pub fn field(problem: &Value) -> &str {
    problem["errors"][0]["field"].as_str().unwrap_or_default()
}
