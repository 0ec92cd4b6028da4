//! Batches, from creation to results.

use serde_json::{Value, json};

use crate::{App, NOW, lines};

/// A batch as it is when it was created.
fn fresh() -> Value {
    json!({
        "id": "batch_1", "object": "batch", "endpoint": "/v1/completions", "model": null, "errors": null,
        "input_file_id": "file-1", "completion_window": "24h", "status": "validating", "output_file_id": null,
        "error_file_id": null, "created_at": NOW, "in_progress_at": null, "expires_at": NOW + 86_400,
        "finalizing_at": null, "completed_at": null, "failed_at": null, "expired_at": null, "cancelling_at": null,
        "cancelled_at": null, "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": {
            "input_tokens": 0, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 0,
        },
        "metadata": {"team": "red"}, "priority": 7,
    })
}

fn with(mut object: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

#[tokio::test]
async fn a_batch_is_created_done_and_read() {
    let app = App::new().await;
    // The second row is refused when it runs: the prompt is empty.
    let file = app.upload(&lines(&[("a", "one two"), ("b", ""), ("c", "three")])).await;
    let wanted = json!({
        "input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h", "metadata": {"team": "red"},
        "output_expires_after": {"anchor": "created_at", "seconds": 7200}, "priority": 7,
    });
    let created = app.post("/v1/batches", &wanted).await.json();
    let id = created["id"].as_str().unwrap().to_owned();
    app.mask(file);
    assert_eq!(app.masked(created), fresh());
    let path = format!("/v1/batches/{id}");
    assert_eq!(app.masked(app.get(&path).await.json()), fresh());
    assert_eq!(app.get(&format!("{path}/results")).await.error(), (409, "invalid_status".to_owned()));
    let queue = app.masked(app.get("/v1/queue").await.json());
    let queued = json!({
        "batch_id": "batch_1", "position": 1, "status": "validating", "model": null, "priority": 7,
        "request_counts": {"total": 0, "completed": 0, "failed": 0}, "requests_left": null, "starts_in_seconds": null,
        "eta_seconds": null,
    });
    let expected = json!({"object": "queue", "now": NOW, "data": [queued], "workers": [], "tokens_per_second": 0.0});
    assert_eq!(queue, expected);

    app.work().await;
    let done = app.masked(app.get(&path).await.json());
    let expected = json!({
        "model": "scripted", "status": "completed", "output_file_id": "file-2", "error_file_id": "file-3",
        "in_progress_at": NOW, "finalizing_at": NOW, "completed_at": NOW,
        "request_counts": {"total": 3, "completed": 2, "failed": 1},
        "usage": {
            "input_tokens": 3, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 6,
        },
    });
    assert_eq!(done, with(fresh(), &expected));

    let results = app.get(&format!("{path}/results")).await;
    let names: Vec<Value> =
        results.text().lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["custom_id"].clone()).collect();
    assert_eq!(
        (names, results.header("content-type")),
        (vec![json!("a"), json!("c"), json!("b")], "application/jsonl")
    );
    let output = app.get(&path).await.json()["output_file_id"].as_str().unwrap().to_owned();
    let output = app.get(&format!("/v1/files/{output}")).await.json();
    assert_eq!((&output["purpose"], &output["expires_at"]), (&json!("batch_output"), &json!(NOW + 7200)));

    let failed = app.get(&format!("{path}/failed")).await.json();
    let row = json!({
        "custom_id": "b", "line": null, "status_code": 400, "code": "empty_prompt", "param": "prompt",
        "message": "the prompt is empty",
    });
    assert_eq!((&failed["data"][0]["code"], &failed["has_more"]), (&row["code"], &json!(false)), "{failed}");
    assert_eq!(
        failed["data"][0].as_object().unwrap().keys().collect::<Vec<_>>(),
        row.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    assert_eq!(app.get(&format!("{path}/failed?offset=1")).await.json()["data"], json!([]));

    let retried = app.post(&format!("{path}/retry"), &json!({})).await.json();
    assert_eq!(retried["metadata"], json!({"team": "red", "retry_of": id}));
    app.work().await;
    let retried = app.get(&format!("/v1/batches/{}", retried["id"].as_str().unwrap())).await.json();
    assert_eq!(retried["request_counts"], json!({"total": 1, "completed": 0, "failed": 1}));

    let stats = app.get("/v1/jobs/stats").await.json();
    assert_eq!(
        (&stats["total_batches"], &stats["by_status"], &stats["success_rate"]),
        (&json!(2), &json!({"completed": 2}), &json!(1.0))
    );
    let history = app.get("/v1/jobs/history?limit=1&order=asc").await.json();
    assert_eq!(
        (&history["data"][0]["batch_id"], &history["has_more"], &history["last_id"]),
        (&json!(id), &json!(true), &json!(id))
    );
    assert_eq!(app.get("/v1/queue").await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_file_that_is_wrong_fails_its_batch() {
    let app = App::new().await;
    let id = app.batch(&format!("{}oops\n", lines(&[("a", "x")]))).await;
    app.work().await;
    let batch = app.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!(
        (&batch["status"], &batch["errors"]["data"][0]["code"], &batch["errors"]["data"][0]["line"]),
        (&json!("failed"), &json!("invalid_json_line"), &json!(2))
    );
    assert_eq!(app.post(&format!("/v1/batches/{id}/retry"), &json!({})).await.error().0, 400);
    assert_eq!(app.get(&format!("/v1/batches/{id}/results")).await.text(), "");
}

#[tokio::test]
async fn batches_are_cancelled_once() {
    let app = App::new().await;
    let id = app.batch(&lines(&[("a", "x")])).await;
    let path = format!("/v1/batches/{id}/cancel");
    for _ in 0..2 {
        let batch = app.post(&path, &json!({})).await.json();
        assert_eq!((&batch["status"], &batch["cancelling_at"]), (&json!("cancelling"), &json!(NOW)));
    }
    app.work().await;
    let batch = app.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!((&batch["status"], &batch["request_counts"]["failed"]), (&json!("cancelled"), &json!(1)));
    let answer = app.post(&path, &json!({})).await;
    assert_eq!(answer.error(), (409, "invalid_status".to_owned()));
    assert_eq!(app.post("/v1/batches/batch_0/cancel", &json!({})).await.error(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn lists_of_batches_are_walked_through() {
    let app = App::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(app.batch(&lines(&[("a", "x")])).await);
    }
    let page = app.get("/v1/batches?limit=2").await.json();
    let told = |page: &Value| (page["first_id"].clone(), page["last_id"].clone(), page["has_more"].clone());
    assert_eq!(told(&page), (json!(ids[2]), json!(ids[1]), json!(true)));
    let rest = app.get(&format!("/v1/batches?limit=2&after={}", ids[1])).await.json();
    assert_eq!(told(&rest), (json!(ids[0]), json!(ids[0]), json!(false)));
    let none = app.get("/v1/batches?status=completed,failed").await.json();
    assert_eq!((&none["data"], told(&none)), (&json!([]), (json!(null), json!(null), json!(false))));
    for query in ["limit=0", "limit=101", "limit=1.5", "status=done", "status=", "order=x"] {
        assert_eq!(
            app.get(&format!("/v1/batches?{query}")).await.error(),
            (400, "invalid_value".to_owned()),
            "{query}"
        );
    }
    assert_eq!(app.get("/v1/batches?after=batch_0").await.error(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_created_is_refused() {
    let app = App::new().await;
    let file = app.upload(&lines(&[("a", "x")])).await;
    let base = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    let cases = [
        (json!({"input_file_id": "file-0"}), 404, "not_found"),
        (json!({"input_file_id": "../x"}), 404, "not_found"),
        (json!({"endpoint": "/v1/images/edits"}), 400, "invalid_parameter"),
        (json!({"completion_window": "25m"}), 400, "invalid_parameter"),
        (json!({"priority": 101}), 400, "invalid_parameter"),
        (json!({"priority": "high"}), 400, "invalid_value"),
        (json!({"metadata": {"k": 1}}), 400, "invalid_value"),
        (json!({"metadata": {"k": "v".repeat(513)}}), 400, "invalid_parameter"),
        (json!({"output_expires_after": {"anchor": "now", "seconds": 3600}}), 400, "invalid_value"),
        (json!({"output_expires_after": {"anchor": "created_at", "seconds": 5}}), 400, "invalid_parameter"),
        (json!({"webhook": {"url": "https://example.com"}}), 400, "invalid_parameter"),
        (json!({"webhook": {"url": "https://example.com", "events": ["batch.exploded"]}}), 400, "invalid_value"),
        (json!({"window": "24h"}), 400, "invalid_value"),
        (json!({"endpoint": null}), 400, "invalid_value"),
    ];
    for (change, status, code) in cases {
        let answer = app.post("/v1/batches", &with(base.clone(), &change)).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{change} {}", answer.text());
    }
    assert_eq!(app.get("/v1/batches").await.json()["data"], json!([]));
}
