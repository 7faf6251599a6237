//! What a slow database is waiting for: a closed list of questions to PostgreSQL's own views.
//!
//! No text of a policy or an alert reaches the server. Statements are shown as PostgreSQL has them,
//! with every literal taken out: they may carry what nobody should read in an incident.

use std::{sync::LazyLock, time::Duration};

use regex::Regex;
use serde::Serialize;
use sqlx::{
    PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};

/// The whole diagnosis takes at most so long.
const LIMIT: Duration = Duration::from_secs(5);
/// Lines of each kind at most.
const LINES: i64 = 5;
/// Of a statement no more than this is shown.
const STATEMENT: usize = 200;

/// One thing found, with its number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// blocked, long_running, idle_in_transaction, connections, slow_statement.
    pub what: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Who, and which statement.
    pub detail: String,
}

/// Asks one database.
#[derive(Clone)]
pub struct Diagnosis {
    pool: PgPool,
}

impl Diagnosis {
    /// Connects when it is first asked.
    pub fn new(options: PgConnectOptions) -> Self {
        let options = options.application_name("alert-bot");
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .min_connections(0)
            .acquire_timeout(LIMIT)
            .idle_timeout(Duration::from_secs(30))
            .connect_lazy_with(options);
        Self { pool }
    }

    /// All findings, the most telling first; none is an answer too.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn run(&self) -> Result<Vec<Finding>, String> {
        tokio::time::timeout(LIMIT, self.ask())
            .await
            .map_err(|_| format!("no answer within {} s", LIMIT.as_secs()))?
            .map_err(|e| e.to_string())
    }

    async fn ask(&self) -> Result<Vec<Finding>, sqlx::Error> {
        let mut found = Vec::new();
        for row in self.rows(BLOCKED).await? {
            let (pid, seconds, by, query): (i32, f64, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let detail = format!("process {pid} waits for {by}: {}", shown(&query));
            found.push(Finding { what: "blocked", value: seconds, unit: "s", detail });
        }
        for (what, question) in [("idle_in_transaction", IDLE), ("long_running", LONG)] {
            for row in self.rows(question).await? {
                let (pid, seconds, application, query): (i32, f64, String, String) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
                let application = if application.is_empty() { "an unnamed client" } else { &application };
                let detail = format!("process {pid} of {application}: {}", shown(&query));
                found.push(Finding { what, value: seconds, unit: "s", detail });
            }
        }
        let row = sqlx::query(CONNECTIONS).fetch_one(&self.pool).await?;
        let (used, most): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let detail = format!("of at most {most}");
        found.push(Finding { what: "connections", value: used as f64, unit: "connections", detail });
        // An extension that may not be there.
        match self.rows(STATEMENTS).await {
            Ok(rows) => {
                for row in rows {
                    let (mean, calls, query): (f64, i64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                    let detail = format!("mean of {calls} calls: {}", shown(&query));
                    found.push(Finding { what: "slow_statement", value: mean, unit: "ms", detail });
                }
            }
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    async fn rows(&self, question: &'static str) -> Result<Vec<PgRow>, sqlx::Error> {
        sqlx::query(question).bind(LINES).fetch_all(&self.pool).await
    }
}

const BLOCKED: &str = "SELECT a.pid, extract(epoch FROM now() - coalesce(a.state_change, now()))::float8, \
     (SELECT string_agg('process ' || b.pid || coalesce(' of ' || nullif(b.application_name, ''), '') || ' (' || \
        coalesce(b.state, 'unknown') || ' for ' || \
        round(extract(epoch FROM now() - b.state_change)::numeric, 1) || ' s)', ', ') \
      FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))), \
     coalesce(a.query, '') \
     FROM pg_stat_activity a WHERE cardinality(pg_blocking_pids(a.pid)) > 0 ORDER BY 2 DESC LIMIT $1";

const IDLE: &str = "SELECT pid, extract(epoch FROM now() - state_change)::float8, coalesce(application_name, ''), \
     coalesce(query, '') FROM pg_stat_activity \
     WHERE state LIKE 'idle in transaction%' AND now() - state_change > interval '1 s' ORDER BY 2 DESC LIMIT $1";

const LONG: &str = "SELECT pid, extract(epoch FROM now() - query_start)::float8, coalesce(application_name, ''), \
     coalesce(query, '') FROM pg_stat_activity \
     WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
     AND now() - query_start > interval '1 s' ORDER BY 2 DESC LIMIT $1";

const CONNECTIONS: &str = "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
     current_setting('max_connections')::int8";

const STATEMENTS: &str = "SELECT mean_exec_time, calls, query FROM pg_stat_statements \
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mean_exec_time > 100 \
     ORDER BY mean_exec_time DESC LIMIT $1";

/// A statement without its literals, on one line.
fn shown(statement: &str) -> String {
    static LITERAL: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"'(?:[^']|'')*'?|\$\$.*?\$\$|\b\d+(?:\.\d+)?\b").ok());
    // Of a pattern that does not compile nothing is shown rather than everything.
    let Some(literal) = &*LITERAL else { return String::new() };
    let plain = literal.replace_all(statement, "?");
    let mut line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(STATEMENT) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_taken_out() {
        assert_eq!(
            shown("SELECT *\n FROM t WHERE mail = 'a''b@c.de' AND amount > 12.50 AND c1 = $1"),
            "SELECT * FROM t WHERE mail = ? AND amount > ? AND c1 = $?"
        );
        // Cut off by PostgreSQL in the middle of a literal.
        assert_eq!(shown("UPDATE t SET note = 'secret wor"), "UPDATE t SET note = ?");
        assert_eq!(shown(&"x ".repeat(300)).chars().count(), STATEMENT + 1);
    }
}
