//! A person's own SQL: what it can see and what it cannot do.

use pinnace_runs::{Reader, Store};
use serde_json::json;

use crate::samples::{of, sample, started};

#[test]
fn views_show_events_as_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let mut store = Store::open(&path).unwrap();
    store
        .apply(&[of("r", "a", 1, started()), of("r", "a", 2, sample(700))])
        .unwrap();
    let rows = Reader::new(&path)
        .query("SELECT client, worker, bytes, writes, to_s FROM samples")
        .unwrap();
    assert_eq!(
        rows.columns,
        ["client", "worker", "bytes", "writes", "to_s"]
    );
    assert_eq!(
        rows.rows,
        [vec![json!("a"), json!(0), json!(700), json!(1), json!(1.0)]]
    );
    for view in ["rollovers", "heartbeats", "resources"] {
        Reader::new(&path)
            .query(&format!("SELECT * FROM {view}"))
            .unwrap();
    }
}

#[test]
fn a_query_can_only_read_this_file_and_not_forever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let mut store = Store::open(&path).unwrap();
    store.apply(&[of("r", "a", 1, started())]).unwrap();
    let reader = Reader::new(&path);
    let attach = format!(
        "ATTACH '{}' AS other",
        folder.path().join("other.db").display()
    );
    for (sql, part) in [
        ("DELETE FROM runs", "only reads"),
        ("SELECT * FROM absent", "no such table"),
        ("SELECT 1; SELECT 2", "ultiple"),
        ("", ""),
        (attach.as_str(), "attached"),
    ] {
        let error = reader.query(sql).expect_err(sql).to_string();
        assert!(error.contains(part), "{sql}: {error}");
    }
    let many = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) SELECT x FROM c";
    let rows = reader.query(many).unwrap();
    assert_eq!(
        (rows.rows.len(), rows.truncated),
        (pinnace_runs::QUERY_ROWS_MAX, true)
    );
    assert_eq!(reader.list().unwrap().len(), 1);
}
