//! What init.sql grants and refuses.

use sqlx::{AssertSqlSafe, Executor};

use crate::support::{TestDatabase, template};

/// Runs a statement as a role; the SQLSTATE if it is refused.
async fn try_as(db: &TestDatabase, role: &str, sql: &str) -> Result<(), String> {
    let mut transaction = db.pool.begin().await.unwrap();
    transaction.execute(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).await.unwrap();
    let result = transaction.execute(AssertSqlSafe(sql.to_owned())).await;
    result.map(drop).map_err(|e| e.as_database_error().unwrap().code().unwrap().into_owned())
}

const ROW: &str =
    "INSERT INTO transactions (id, amount_minor, currency, status) VALUES (gen_random_uuid(), 1, 'EUR', 'approved')";

#[tokio::test]
async fn roles_may_do_what_they_need_and_nothing_more() {
    let db = TestDatabase::new().await;
    let denied = Err("42501".to_owned());
    for (role, sql, allowed) in [
        ("app", ROW, true),
        ("app", "SELECT * FROM transactions", true),
        ("app", "UPDATE transactions SET amount_minor = 2", false),
        ("app", "DELETE FROM transactions", false),
        ("app", "TRUNCATE transactions", false),
        ("app", "ALTER TABLE transactions ADD COLUMN x int", false),
        ("app", "CREATE TABLE mine (x int)", false),
        ("app", "DELETE FROM idempotency_keys", true),
        ("app", "SELECT pg_read_file('/etc/passwd')", false),
        ("readonly", "SELECT * FROM transactions", true),
        ("readonly", ROW, false),
        ("readonly", "SELECT * FROM idempotency_keys", false),
        ("exporter", "SELECT * FROM pg_stat_activity", true),
        ("exporter", "SELECT * FROM transactions", false),
    ] {
        let expected = if allowed { Ok(()) } else { denied.clone() };
        assert_eq!(try_as(&db, role, sql).await, expected, "{role}: {sql}");
    }
    let member: bool =
        sqlx::query_scalar("SELECT pg_has_role('exporter', 'pg_monitor', 'member')").fetch_one(&db.pool).await.unwrap();
    assert!(member);
    // Rights on the database itself are not copied from a template.
    let (connect, create): (bool, bool) = sqlx::query_as(
        "SELECT has_database_privilege('app', $1, 'CONNECT'), has_database_privilege('app', $1, 'CREATE, TEMP')",
    )
    .bind(template().await)
    .fetch_one(&db.pool)
    .await
    .unwrap();
    assert_eq!((connect, create), (true, false));
}

#[tokio::test]
async fn the_schema_refuses_what_the_service_should_never_send() {
    let db = TestDatabase::new().await;
    for (columns, values, constraint) in [
        ("amount_minor, currency, status", "0, 'EUR', 'approved'", "transactions_amount_range"),
        ("amount_minor, currency, status", "100000000000, 'EUR', 'approved'", "transactions_amount_range"),
        ("amount_minor, currency, status", "1, 'eur', 'approved'", "transactions_currency_code"),
        ("amount_minor, currency, status", "1, 'EUR', 'lost'", "transactions_status_known"),
        ("amount_minor, currency, status", "1, 'EUR', 'declined'", "transactions_declined_says_why"),
        ("amount_minor, currency, status, description", "1, 'EUR', 'approved', ''", "transactions_description_length"),
    ] {
        let sql = format!("INSERT INTO transactions (id, {columns}) VALUES (gen_random_uuid(), {values})");
        let error = db.pool.execute(AssertSqlSafe(sql.clone())).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().constraint(), Some(constraint), "{sql}");
    }
}

#[tokio::test]
async fn lists_are_read_from_an_index() {
    let db = TestDatabase::new().await;
    sqlx::query(
        "INSERT INTO transactions (id, amount_minor, currency, status)
         SELECT gen_random_uuid(), n, 'EUR', 'approved' FROM generate_series(1, 5000) n",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    db.pool.execute("ANALYZE transactions").await.unwrap();
    for condition in ["", "WHERE status = 'approved'", "WHERE (created_at, id) < (now(), gen_random_uuid())"] {
        let sql = format!("EXPLAIN SELECT * FROM transactions {condition} ORDER BY created_at DESC, id DESC LIMIT 50");
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&db.pool).await.unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains("Index Scan") && !plan.contains("Sort"), "{condition}\n{plan}");
    }
}
