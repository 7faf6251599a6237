//! The journal on real files: what comes back is what was put in, and nothing
//! can be changed unseen.

use std::{sync::Arc, time::Duration};

use alert_bot::{
    engine::Effect,
    journal::{Journal, audit},
    timestamp::Timestamp,
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::model;

#[tokio::test]
async fn what_is_read_back_is_what_the_engine_remembers() {
    for seed in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let journal = Journal::open(&path).await.unwrap();
        let (turns, mut expected, now) = model::history(seed, 150);
        // Several turns a commit, as the driver does.
        for turns in turns.chunks(4) {
            let effects = turns.concat();
            journal.commit(Arc::new(effects), Vec::new(), now).await.unwrap();
        }
        drop(journal);
        let journal = Journal::open(&path).await.unwrap();
        let (policy, scope) = model::setting();
        let mut read = journal.load(policy, scope, now).await.unwrap();
        expected.forget(now);
        read.forget(now);
        assert!(read.durable() == expected.durable(), "{:#?}\n{:#?}", read.durable(), expected.durable());
        let report = audit::verify(&journal).await.unwrap();
        assert!(report.intact && report.lines > 0, "{report:?}");
    }
}

async fn raw(path: &std::path::Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap()
}

#[tokio::test]
async fn a_changed_removed_or_inserted_line_is_found() {
    let (turns, _, now) = model::history(3, 120);
    for (sabotage, says) in [
        ("UPDATE audit SET text = 'nothing happened' WHERE seq = 5", "line 5 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 5", "line 5 was changed"),
        ("DELETE FROM audit WHERE seq = 5", "line 5 is missing"),
        (
            "UPDATE audit SET reason = NULL, target = coalesce(reason, '') || coalesce(target, '') WHERE seq = \
             (SELECT min(seq) FROM audit WHERE reason IS NOT NULL)",
            "was changed",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let journal = Journal::open(&path).await.unwrap();
        journal.commit(Arc::new(turns.concat()), Vec::new(), now).await.unwrap();
        sqlx::query(sabotage).execute(&mut raw(&path).await).await.unwrap();
        let report = audit::verify(&journal).await.unwrap();
        assert!(!report.intact, "{sabotage}");
        assert!(report.error.as_deref().unwrap_or_default().contains(says), "{sabotage}: {report:?}");
    }
}

#[tokio::test]
async fn the_same_step_cannot_be_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let journal = Journal::open(&path).await.unwrap();
    // The first history in which anything was done.
    let acted = |turns: &[Vec<Effect>]| turns.iter().flatten().any(|e| matches!(e, Effect::PutAction(_)));
    let (turns, _, now) = (0..).map(|seed| model::history(seed, 200)).find(|(turns, ..)| acted(turns)).unwrap();
    journal.commit(Arc::new(turns.concat()), Vec::new(), now).await.unwrap();
    let copied = sqlx::query(
        "INSERT INTO actions SELECT 'other', incident, fingerprint, starts_at, policy, step, attempt, target, verb, \
         status, intended_at, doc FROM actions LIMIT 1",
    )
    .execute(&mut raw(&path).await)
    .await;
    assert!(copied.unwrap_err().to_string().contains("UNIQUE"));
}

#[tokio::test]
async fn many_notifications_at_once_are_all_kept_in_few_commits() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal.db")).await.unwrap();
    let posts = (0..500).map(|i| {
        let journal = journal.clone();
        async move { journal.deliver(Timestamp::from_millis(i), 1, format!("{i}").into_bytes()).await }
    });
    for result in futures::future::join_all(posts).await {
        result.unwrap();
    }
    let kept = journal.pending(1_000).await.unwrap();
    assert_eq!(kept.len(), 500);
    assert!(journal.lag(Timestamp::from_millis(5_000)).await.unwrap() >= Duration::from_millis(4_000));
}
