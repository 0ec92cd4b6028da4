//! Statements that run all the time look at what is open, not at what is done: their plans, as SQLite tells them.

#[path = "../../../tests/common/databases.rs"]
mod databases;

use super::{Database, SqlStore, Statement, batches, deliveries, files, job, lease, text};

/// Runs a check over each database that there is.
pub(crate) fn on_each<F: Future<Output = ()>>(check: impl Fn(SqlStore) -> F) {
    let check = &check;
    databases::on_each(|url| async move { check(SqlStore::connect(&url).await.unwrap()).await });
}

/// How SQLite would run a statement.
async fn plan(database: &Database, statement: Statement) -> String {
    let mut connection = database.read().await.unwrap();
    let rows = statement.rows(&mut connection).await.unwrap();
    rows.iter().map(|row| text(row, "detail").unwrap()).collect::<Vec<_>>().join("; ")
}

#[test]
fn frequent_statements_use_the_indexes_of_what_is_open() {
    let explain = |sql: &str| Statement::new("EXPLAIN QUERY PLAN ").push(sql);
    let served = ["a".to_owned(), "b".to_owned()];
    let cases = [
        (lease::push_next_task(explain(""), &served, 1), "job_tasks_queue"),
        (lease::push_next_task(explain(""), &[], 1), "job_tasks_queue"),
        (explain(lease::OVERDUE).bind(1_i64).bind(1_i64), "job_batches_by_expiry"),
        (explain(lease::EARLIEST[0]), "job_tasks_by_due"),
        (explain(lease::EARLIEST[1]), "job_batches_by_expiry"),
        (explain(job::OPEN_TASK).bind("batch_1"), "job_tasks_open"),
        (explain(batches::QUEUE).bind(1_i64), "job_batches_queue"),
        (explain(batches::COUNT_QUEUE), "job_batches_queue"),
        (explain(batches::COUNT_QUEUE).push(" AND owner = ").push_value("ann"), "job_batches_queue_by_owner"),
        (explain(files::USER).bind("file-1"), "job_batches_queue_by_input"),
        (explain(deliveries::DUE).bind(1_i64).bind(1_i64), "job_deliveries_due"),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqlStore::connect("sqlite::memory:").await.unwrap();
        for (statement, index) in cases {
            let plan = plan(store.database(), statement.clone()).await;
            assert!(plan.contains(&format!("INDEX {index}")) && !plan.contains("TEMP B-TREE"), "{statement:?}: {plan}");
        }
    });
}
