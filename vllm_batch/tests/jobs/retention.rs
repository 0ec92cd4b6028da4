//! What is deleted, and what is kept.

use std::sync::Arc;

use vllm_batch::jobs::{Maintenance, NewBatch, NewFile, OutputExpiry};

use super::*;

fn done(maintenance: Maintenance) -> [u64; 3] {
    [maintenance.files, maintenance.batches, maintenance.orphans]
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_deleted_when_their_time_is_over_and_nobody_needs_them() {
    let house = House::new().await;
    let new = NewFile { expires_after: Some(3600), ..NewFile::for_batch() };
    let content = stream::iter([Ok::<_, JobError>(lines(3).into())]);
    let file = house.service.create_file(new, content).await.unwrap();
    let mut new = NewBatch::new(&file.id, COMPLETIONS);
    new.output_expires_after = Some(OutputExpiry { seconds: 7200 });
    let batch = house.service.create_batch(new).await.unwrap();
    house.wait(3600);
    assert_eq!(done(house.service.maintain().await.unwrap()), [0, 0, 0], "the input is needed");
    house.work().await;
    assert_eq!(done(house.service.maintain().await.unwrap()), [1, 0, 0]);
    assert_eq!(house.service.file("", &file.id).await.unwrap_err().code(), "not_found");
    let output = house.get(&batch).await.output_file_id.unwrap();
    house.wait(7199);
    assert_eq!(done(house.service.maintain().await.unwrap()), [0, 0, 0]);
    house.wait(1);
    assert_eq!(done(house.service.maintain().await.unwrap()), [1, 0, 0]);
    assert_eq!(house.service.content("", &output, None).await.unwrap_err().code(), "not_found");
    assert_eq!(house.get(&batch).await.status.as_str(), "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_forgotten_with_their_results() {
    let house = House::with(|options| options.batch_retention = Some(100)).await;
    let (old, waiting) = (house.submit(&lines(10)).await, house.upload(&lines(1)).await);
    house.work().await;
    house.wait(101);
    assert_eq!(done(house.service.maintain().await.unwrap()), [2, 1, 0]);
    assert_eq!(house.service.batch("", &old.id).await.unwrap_err().code(), "not_found");
    house.service.file("", &waiting.id).await.unwrap();
    house.service.file("", &old.input_file_id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_behind_is_found() {
    let house = House::new().await;
    let batch = house.submit(&lines(3)).await;
    house.work().await;
    let contents = house.folder.path().join("files");
    let orphan = contents.join("files").join(format!("file-{:032x}", 1));
    let rows = contents.join("batches").join(&batch.id).join("0-9.jsonl");
    let foreign = contents.join("batches").join("notes.txt");
    let torn = orphan.with_file_name(format!("file-{:032x}#1", 2));
    for path in [&orphan, &rows, &torn, &foreign] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    assert_eq!(
        done(house.service.delete_orphans().await.unwrap()),
        [0, 0, 0],
        "they may be about to belong to something"
    );
    // The system's clock says when they were written.
    house.clock.store(i64::from(u32::MAX), Ordering::SeqCst);
    assert_eq!(done(house.service.delete_orphans().await.unwrap()), [0, 0, 3]);
    assert!(!torn.exists() && !orphan.exists() && !rows.exists() && foreign.exists());
    house.text(Some(&batch.input_file_id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_batches_that_ended_elsewhere_are_deleted() {
    let house = House::new().await;
    let batch = house.submit(&lines(3)).await;
    let work = house.folder.path().join("elsewhere");
    let old = work.join(&batch.id);
    std::fs::create_dir_all(&old).unwrap();
    std::fs::create_dir_all(work.join("notes")).unwrap();
    house.work().await;
    let worker = house.worker("v", &Arc::new(moody()), |options| options.work_folder.clone_from(&work));
    let shutdown = vllm_batch::CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { worker.run(shutdown).await }
    });
    until(async || !old.exists()).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(work.join("notes").exists());
}
