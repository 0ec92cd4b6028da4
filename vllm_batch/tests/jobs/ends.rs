//! Each way in which a batch can end.

use std::sync::Arc;

use vllm_batch::CancellationToken;
use vllm_batch::jobs::{BatchStatus, NewBatch};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_errors_are_in_the_order_of_the_requests() {
    let house = House::new().await;
    let batch = house.submit(&lines(45)).await;
    house.worker("w", &Arc::new(moody()), |options| options.chunk_size = 10).run_until_idle().await.unwrap();
    let ended = house.get(&batch).await;
    assert_eq!(standing(&ended), ("completed", [45, 41, 4]));
    assert_eq!(ended.model.as_deref(), Some("scripted"));
    assert_eq!((ended.usage.input_tokens, ended.usage.output_tokens), (82, 82));
    let [answers, errors] = house.results(&batch).await;
    assert_eq!([names_of(&answers), names_of(&errors)], names(45));
    let output = house.service.file("", &ended.output_file_id.unwrap()).await.unwrap();
    assert_eq!((output.bytes, output.expires_at), (answers.len() as u64, Some(START + 30 * 86_400)));
    assert_eq!((output.filename, output.purpose.as_str()), (format!("{}_output.jsonl", batch.id), "batch_output"));
    assert_eq!(house.leftovers(), Vec::<String>::new());
    assert_eq!(house.service.workers().await.unwrap(), [], "a worker that ended is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_empty_result_file() {
    let house = House::new().await;
    let cases = [(line("a", "say it"), [true, false], [1, 1, 0]), (line("a", "refuse it"), [false, true], [1, 0, 1])];
    for (input, expected, counts) in cases {
        let batch = house.submit(&input).await;
        house.work().await;
        let ended = house.get(&batch).await;
        assert_eq!(standing(&ended), ("completed", counts));
        assert_eq!([ended.output_file_id.is_some(), ended.error_file_id.is_some()], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_valid_is_refused_with_every_line() {
    let house = House::new().await;
    let bad = [&line("a", "x"), "oops", &line("a", "y"), &line("b", "x").replace("scripted", "other")].join("\n");
    let cases = [
        (bad, vec![("invalid_json_line", Some(2)), ("duplicate_custom_id", Some(3)), ("model_not_found", Some(4))]),
        ("\n".to_owned(), vec![("empty_file", None)]),
        (String::new(), vec![("empty_file", None)]),
        (
            line("a", "x").replace(COMPLETIONS, "/v1/embeddings"),
            vec![("unsupported_parameter", Some(1)), ("url_mismatch", Some(1))],
        ),
    ];
    for (input, expected) in cases {
        let batch = house.submit(&input).await;
        house.work().await;
        let ended = house.get(&batch).await;
        assert_eq!(standing(&ended), ("failed", [0, 0, 0]));
        let found: Vec<_> =
            ended.errors.iter().map(|error| (error["code"].as_str().unwrap(), error["line"].as_u64())).collect();
        let codes: Vec<_> = expected.iter().map(|(code, line)| (*code, *line)).collect();
        if !input.contains("embeddings") {
            assert_eq!(found, codes);
        }
        assert!(found.iter().any(|problem| Some(problem) == codes.last()), "{found:?}");
        assert_eq!((ended.output_file_id, ended.error_file_id), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_is_cancelled_or_expires_with_a_row_for_each_request() {
    let house = House::new().await;
    for (status, code) in [(BatchStatus::Cancelled, "batch_cancelled"), (BatchStatus::Expired, "batch_expired")] {
        let batch = house.submit(&lines(5)).await;
        if status == BatchStatus::Cancelled {
            assert_eq!(house.service.cancel_batch("", &batch.id).await.unwrap().status, BatchStatus::Cancelling);
        } else {
            house.wait(86_400);
        }
        house.work().await;
        let ended = house.get(&batch).await;
        assert_eq!(standing(&ended), (status.as_str(), [5, 0, 5]));
        let [answers, errors] = house.results(&batch).await;
        assert_eq!(answers, "");
        let expected: Vec<_> = (0..5).map(|row| (format!("row-{row}"), code.to_owned())).collect();
        assert_eq!(codes_of(&errors), expected);
        let error = house.service.cancel_batch("", &batch.id).await.unwrap_err();
        assert_eq!(error.code(), "invalid_status");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_ends_when_a_batch_is_cancelled_or_expires() {
    for (status, code) in [(BatchStatus::Cancelled, "batch_cancelled"), (BatchStatus::Expired, "batch_expired")] {
        let house = House::new().await;
        let engine = Arc::new(ScriptedEngine::echo().held());
        let text: String = (0..600).map(|row| line(&format!("row-{row}"), &format!("say {row}")) + "\n").collect();
        let batch = house.submit(&text).await;
        let worker = house.worker("w", &engine, |options| {
            options.chunk_size = 300;
            // The end of the window is to be heard of, and no lease is to end with it.
            options.lease_time = Duration::from_hours(48);
        });
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { worker.run(shutdown).await }
        });
        engine.release(20);
        until(async || engine.stats().finished == 20).await;
        if status == BatchStatus::Cancelled {
            house.service.cancel_batch("", &batch.id).await.unwrap();
        } else {
            house.wait(86_400);
        }
        // Row by row, until the worker has heard of it and what is in flight has ended.
        until(async || {
            engine.release(1);
            house.get(&batch).await.status == status
        })
        .await;
        shutdown.cancel();
        running.await.unwrap().unwrap();
        let ended = house.get(&batch).await;
        let completed = ended.request_counts.completed;
        assert_eq!(standing(&ended), (status.as_str(), [600, completed, 600 - completed]));
        assert!((20..600).contains(&completed), "{completed} rows were in flight");
        assert_eq!(engine.stats().finished as u64, completed, "what was begun has ended, and counts");
        let [answers, errors] = house.results(&batch).await;
        assert!(codes_of(&errors).iter().all(|(_, found)| found == code));
        let mut all = [names_of(&answers), names_of(&errors)].concat();
        all.sort_by_key(|name| name["row-".len()..].parse::<usize>().unwrap());
        assert_eq!(all, (0..600).map(|row| format!("row-{row}")).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_rows_have_another_try() {
    let house = House::new().await;
    let file = house.upload(&lines(25)).await;
    let mut new = NewBatch::new(file.id, COMPLETIONS);
    new.priority = 7;
    new.metadata.insert("team".to_owned(), "red".to_owned());
    let batch = house.service.create_batch(new).await.unwrap();
    assert_eq!(house.service.retry_failed("", &batch.id).await.unwrap_err().code(), "invalid_status");
    house.work().await;
    let page = house.service.failed_rows("", &batch.id, (0, 1)).await.unwrap();
    assert_eq!((page.data.len(), page.has_more), (1, true));
    let page = house.service.failed_rows("", &batch.id, (1, 10)).await.unwrap();
    let found: Vec<_> = page.data.iter().map(|row| row.custom_id.as_deref().unwrap()).collect();
    assert_eq!((found, page.has_more), (vec!["row-17"], false));
    let retried = house.service.retry_failed("", &batch.id).await.unwrap();
    assert_eq!(
        (retried.priority, retried.metadata["retry_of"].as_str(), retried.metadata["team"].as_str()),
        (7, &*batch.id, "red")
    );
    house.worker("w", &Arc::new(ScriptedEngine::echo()), |_| {}).run_until_idle().await.unwrap();
    let [answers, errors] = house.results(&retried).await;
    assert_eq!((names_of(&answers), errors), (vec!["row-7".to_owned(), "row-17".to_owned()], String::new()));
    assert_eq!(house.service.retry_failed("", &retried.id).await.unwrap_err().code(), "invalid_parameter");
    assert_eq!(house.service.failed_rows("", &retried.id, (0, 10)).await.unwrap().data, []);
}
