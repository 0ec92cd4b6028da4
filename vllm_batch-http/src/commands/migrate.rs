//! `migrate`: the database of this version.

use vllm_batch::jobs::SqlStore;
use vllm_batch::pipeline::tasks::TaskStore;

use super::{Failure, jobs, runtime};
use crate::settings::Config;

/// Creates what is missing, and changes what an older version made.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    jobs::create_folder(&config.storage)?;
    runtime()?.block_on(async {
        let store = SqlStore::connect_without_migrating(config.storage.database.reveal()).await?;
        store.migrate().await?;
        TaskStore::migrate_tables(&store).await?;
        Ok::<_, Failure>(())
    })?;
    println!("{} is up to date", config.storage.database);
    Ok(())
}
