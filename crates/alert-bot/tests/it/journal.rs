//! The journal on real files: what comes back is what was put in, and nothing
//! can be changed unseen.

use std::{sync::Arc, time::Duration};

use alert_bot::{
    driver::system_note,
    engine::Effect,
    journal::{
        Journal, JournalError, audit,
        lease::{Claim, Grounds},
    },
    timestamp::Timestamp,
};
use serde_json::json;
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

async fn claim(journal: &Journal, by: &str, grounds: Grounds, at: i64) -> Option<i64> {
    let (at, length) = (Timestamp::from_millis(at), Duration::from_secs(10));
    let claimed = journal.claim(Claim { by: by.to_owned(), grounds, at, length }).await.unwrap();
    claimed.granted.then_some(claimed.lease.token)
}

#[tokio::test]
async fn whoever_has_lost_the_lease_writes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let (a, b) = (Journal::open(&path).await.unwrap(), Journal::open(&path).await.unwrap());
    let now = Timestamp::from_millis(0);
    let write = async |journal: &Journal, text: &str| {
        let note = system_note(text.to_owned(), json!({}));
        journal.commit(Arc::new(vec![note]), Vec::new(), now).await
    };
    let first = claim(&a, "a", Grounds::Start, 0).await.unwrap();
    assert_eq!(claim(&b, "b", Grounds::Start, 9_999).await, None, "it is a's");
    write(&a.under(first), "a, while it acts").await.unwrap();

    // a is stopped; its lease runs out.
    let second = claim(&b, "b", Grounds::Succession, 10_000).await.unwrap();
    assert!(second > first);
    write(&b.under(second), "b took over").await.unwrap();

    // a goes on where it was.
    let refused = write(&a.under(first), "a, late").await.unwrap_err();
    assert!(matches!(refused, JournalError::Fenced { own, now } if (own, now) == (first, second)), "{refused}");
    assert!(matches!(a.under(first).gather(Vec::new(), Vec::new(), now).await, Err(JournalError::Fenced { .. })));
    assert_eq!(claim(&a, "a", Grounds::Renewal(first), 10_001).await, None);
    // Notifications are taken from anybody, and found by whoever acts.
    a.deliver(now, 1, b"taken by a".to_vec()).await.unwrap();
    assert_eq!(b.pending(10).await.unwrap().len(), 1);
    write(&b.under(second), "b goes on").await.unwrap();

    let texts: Vec<String> =
        sqlx::query_scalar("SELECT text FROM audit ORDER BY seq").fetch_all(&mut raw(&path).await).await.unwrap();
    assert_eq!(texts, ["a, while it acts", "b took over", "b goes on"]);
    assert!(audit::verify(&a).await.unwrap().intact, "one chain, by two writers");

    // Given back, it is free at once.
    b.release(second).await.unwrap();
    assert_eq!(claim(&a, "a", Grounds::Succession, 10_002).await, Some(second + 1));
}

#[tokio::test]
async fn of_many_that_start_at_once_one_acts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let bots = (0..6).map(|i| {
        let path = path.clone();
        async move {
            let journal = Journal::open(&path).await.unwrap();
            claim(&journal, &format!("bot-{i}"), Grounds::Start, 0).await
        }
    });
    let granted: Vec<_> = futures::future::join_all(bots).await.into_iter().flatten().collect();
    assert_eq!(granted, [1]);
}
