//! Files and batches as those who own them see them.

use futures::stream;
use vllm_batch::batch::OpenAiLimits;
use vllm_batch::jobs::{BatchQuery, FileQuery, NewBatch, NewFile, QueueLimits};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_is_anothers() {
    let house = House::new().await;
    let new = NewFile { owner: "ann".to_owned(), ..NewFile::for_batch() };
    let content = stream::iter([Ok::<_, JobError>(lines(12).into())]);
    let file = house.service.create_file(new, content).await.unwrap();
    let of = |owner: &str| {
        let mut new = NewBatch::new(&file.id, COMPLETIONS);
        owner.clone_into(&mut new.owner);
        new
    };
    let batch = house.service.create_batch(of("ann")).await.unwrap();
    house.work().await;
    let output = house.service.batch("ann", &batch.id).await.unwrap().output_file_id.unwrap();
    for owner in ["", "eve"] {
        let service = &house.service;
        let codes = [
            service.file(owner, &file.id).await.err(),
            service.content(owner, &output, None).await.err(),
            service.delete_file(owner, &file.id).await.err(),
            service.create_batch(of(owner)).await.err(),
            service.batch(owner, &batch.id).await.err(),
            service.cancel_batch(owner, &batch.id).await.err(),
            service.failed_rows(owner, &batch.id, (0, 1)).await.err(),
            service.retry_failed(owner, &batch.id).await.err(),
        ];
        assert!(codes.into_iter().all(|error| error.unwrap().code() == "not_found"));
        let files = FileQuery { owner: Some(owner.to_owned()), limit: 10, ..FileQuery::default() };
        assert_eq!(service.files(&files).await.unwrap().data, []);
        let batches = BatchQuery { owner: Some(owner.to_owned()), limit: 10, ..BatchQuery::default() };
        assert_eq!(service.batches(&batches).await.unwrap().data, []);
        assert_eq!(service.queue(Some(owner), 10).await.unwrap().batches, []);
    }
    let retried = house.service.retry_failed("ann", &batch.id).await.unwrap();
    assert_eq!(retried.owner, "ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_needed_stays() {
    let house = House::new().await;
    let batch = house.submit(&lines(3)).await;
    let error = house.service.delete_file("", &batch.input_file_id).await.unwrap_err();
    assert_eq!(error.code(), "file_in_use");
    house.work().await;
    house.service.delete_file("", &batch.input_file_id).await.unwrap();
    for error in [
        house.service.file("", &batch.input_file_id).await.err(),
        house.service.content("", &batch.input_file_id, None).await.err(),
        house.service.create_batch(NewBatch::new(&batch.input_file_id, COMPLETIONS)).await.err(),
        house.service.content("", "../../etc/passwd", None).await.err(),
    ] {
        assert_eq!(error.unwrap().code(), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused() {
    let house = House::with(|options| {
        options.limits = OpenAiLimits::default().with_max_file_bytes(1000).with_max_requests(2);
        options.queue = QueueLimits { max_batches: Some(1), ..QueueLimits::default() };
    })
    .await;
    let content = stream::iter([Ok::<_, JobError>(vec![b'x'; 1001].into())]);
    let error = house.service.create_file(NewFile::for_batch(), content).await.unwrap_err();
    assert_eq!(error.code(), "file_too_large");
    let batch = house.submit(&lines(3)).await;
    let another = NewBatch::new(&batch.input_file_id, COMPLETIONS);
    assert_eq!(house.service.create_batch(another.clone()).await.unwrap_err().code(), "queue_full");
    house.work().await;
    assert_eq!(house.get(&batch).await.errors[0]["code"], "too_many_tasks");
    house.service.create_batch(another).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_no_input_and_receivers_are_checked() {
    let house = House::new().await;
    let batch = house.submit(&lines(3)).await;
    house.work().await;
    let output = house.get(&batch).await.output_file_id.unwrap();
    let error = house.service.create_batch(NewBatch::new(output, COMPLETIONS)).await.unwrap_err();
    assert!(matches!(error, JobError::InvalidParameter { param: "input_file_id", .. }), "{error}");
    let mut new = NewBatch::new(&batch.input_file_id, COMPLETIONS);
    new.webhook =
        Some(vllm_batch::jobs::WebhookConfig { url: "http://localhost/".to_owned(), secret: None, events: Vec::new() });
    let error = house.service.create_batch(new).await.unwrap_err();
    assert!(matches!(error, JobError::InvalidParameter { param: "webhook", .. }), "{error}");
}
