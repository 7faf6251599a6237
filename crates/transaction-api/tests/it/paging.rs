use serde_json::{Value, json};

use crate::support::{Start, TestApp, field, problem};

/// All ids from the first page on; `between` runs after each page.
async fn walk(app: &TestApp, query: &str, between: impl AsyncFn()) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let path = match &cursor {
            None => format!("/transactions?{query}"),
            Some(cursor) => format!("/transactions?{query}&cursor={cursor}"),
        };
        let page = app.json(&path).await;
        ids.extend(page["items"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        between().await;
        match &page["next_cursor"] {
            Value::String(next) => cursor = Some(next.clone()),
            end => {
                assert!(end.is_null());
                return ids;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_repeat_nor_skip_while_rows_are_inserted() {
    let app = TestApp::new().await;
    let mut made = Vec::new();
    for amount in 1..=25 {
        made.push(app.pay(json!({"amount": amount, "currency": "EUR"})).await["id"].as_str().unwrap().to_owned());
    }
    made.reverse();
    let seen = walk(&app, "limit=7", async || {
        for _ in 0..3 {
            app.pay(json!({"amount": 1, "currency": "EUR"})).await;
        }
    })
    .await;
    assert_eq!(seen, made, "newest first, exactly what was there at the first page");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_instant_are_told_apart_by_id() {
    let app = TestApp::new().await;
    sqlx::query(
        "INSERT INTO transactions (id, created_at, amount_minor, currency, status)
         SELECT gen_random_uuid(), '2026-01-01T00:00:00Z', n, 'EUR', 'approved' FROM generate_series(1, 23) n",
    )
    .execute(&app.db().pool)
    .await
    .unwrap();
    let seen = walk(&app, "limit=5", async || {}).await;
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (23, 23));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_holds_over_all_pages() {
    let app = Start::default().with("--gateway-decline-ratio", "0.5").start().await;
    for _ in 0..40 {
        app.post("/transactions/create").send().await.unwrap();
    }
    let (approved, declined) = (
        walk(&app, "status=approved&limit=6", async || {}).await,
        walk(&app, "status=declined&limit=6", async || {}).await,
    );
    assert_eq!(approved.len() + declined.len(), 40);
    assert!(!approved.is_empty() && !declined.is_empty());
    assert!(approved.iter().all(|id| !declined.contains(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_ends_exactly_at_the_end_has_no_next() {
    let app = TestApp::new().await;
    for _ in 0..3 {
        app.pay(json!({"amount": 1, "currency": "EUR"})).await;
    }
    assert!(app.json("/transactions?limit=3").await["next_cursor"].is_null());
    assert!(app.json("/transactions?limit=2").await["next_cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_belongs_to_its_filter() {
    let app = TestApp::new().await;
    for _ in 0..2 {
        app.pay(json!({"amount": 1, "currency": "EUR"})).await;
    }
    let page = app.json("/transactions?limit=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let refused = app.get(&format!("/transactions?status=approved&cursor={cursor}")).send().await.unwrap();
    assert_eq!(field(&problem(refused, 400).await), "cursor");
}
