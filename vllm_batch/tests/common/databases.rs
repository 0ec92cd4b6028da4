//! The databases that there are for tests: SQLite in a file, and the PostgreSQL that `scripts/test_postgres.sh` starts.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::SqlStore;

/// Runs a future on threads of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Runs a check on the URL of each database that there is.
pub(crate) fn on_each<F: Future<Output = ()>>(check: impl Fn(String) -> F) {
    block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        check(format!("sqlite://{}/jobs.db?mode=rwc", folder.path().display())).await;
        if let Some(url) = postgres_url().await {
            check(url).await;
        }
    });
}

/// The URL of a new schema on the server that tests may use, if there is one.
pub(crate) async fn postgres_url() -> Option<String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let server = std::env::var("VLLM_BATCH_TEST_POSTGRES").ok()?;
    let schema = format!("{}_{}", env!("CARGO_CRATE_NAME"), COUNT.fetch_add(1, Ordering::Relaxed));
    let admin = SqlStore::connect_without_migrating(&server).await.expect("PostgreSQL");
    let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(admin.pool()).await.expect("a schema");
    let separator = if server.contains('?') { '&' } else { '?' };
    Some(format!("{server}{separator}options[search_path]={schema}"))
}
