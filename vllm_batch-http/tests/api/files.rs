//! Files, from upload to deletion.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use crate::{App, NOW, form, form_of, lines};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn a_file_comes_and_goes() {
    let app = App::new().await;
    let content = lines(&[("a", "x")]);
    let request = form(&[
        ("expires_after[anchor]", None, "created_at"),
        ("expires_after[seconds]", None, "3600"),
        ("purpose", None, "batch"),
        ("file", Some("täglich.jsonl"), &content),
    ]);
    let object = json!({
        "id": "file-1", "object": "file", "bytes": content.len(), "created_at": NOW, "expires_at": NOW + 3600,
        "filename": "täglich.jsonl", "purpose": "batch", "status": "processed", "status_details": null,
    });
    let created = app.send(request).await.json();
    let id = created["id"].as_str().unwrap().to_owned();
    assert_eq!(app.masked(created), object);
    assert_eq!(app.masked(app.get(&format!("/v1/files/{id}")).await.json()), object);
    let list =
        json!({"object": "list", "data": [object], "first_id": "file-1", "last_id": "file-1", "has_more": false});
    assert_eq!(app.masked(app.get("/v1/files?purpose=batch").await.json()), list);

    let path = format!("/v1/files/{id}/content");
    let whole = app.get(&path).await;
    assert_eq!((whole.text(), whole.header("content-type")), (&*content, "application/jsonl"));
    assert_eq!(whole.header("content-disposition"), "attachment; filename*=UTF-8''t%C3%A4glich.jsonl");
    assert_eq!(whole.header("content-length"), content.len().to_string());

    let deleted = app.delete(&format!("/v1/files/{id}")).await.json();
    assert_eq!(app.masked(deleted), json!({"id": "file-1", "object": "file", "deleted": true}));
    for path in [path, format!("/v1/files/{id}")] {
        assert_eq!(app.get(&path).await.error(), (404, "not_found".to_owned()));
    }
}

#[tokio::test]
async fn parts_of_a_file_are_sent() {
    let app = App::new().await;
    let id = app.upload("0123456789").await;
    let path = format!("/v1/files/{id}/content");
    let get = async |headers: &[(&str, &str)]| app.ask(Method::GET, &path, headers, Body::empty()).await;
    let tag = get(&[]).await.header("etag").to_owned();
    let cases: [(&[(&str, &str)], u16, &str, &str); 8] = [
        (&[], 200, "0123456789", ""),
        (&[("range", "bytes=2-4")], 206, "234", "bytes 2-4/10"),
        (&[("range", "bytes=-2")], 206, "89", "bytes 8-9/10"),
        (&[("range", "bytes=9-100")], 206, "9", "bytes 9-9/10"),
        (&[("range", "bytes=1-2,4-5")], 200, "0123456789", ""),
        (&[("range", "bytes=2-4"), ("if-range", tag.as_str())], 206, "234", "bytes 2-4/10"),
        (&[("range", "bytes=2-4"), ("if-range", "\"other\"")], 200, "0123456789", ""),
        (&[("if-none-match", tag.as_str())], 304, "", ""),
    ];
    for (headers, status, body, range) in cases {
        let answer = get(headers).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, body), "{headers:?}");
        assert_eq!((answer.header("content-range"), answer.header("etag")), (range, &*tag), "{headers:?}");
    }
    let nothing = get(&[("range", "bytes=10-")]).await;
    assert_eq!(nothing.error(), (416, "invalid_range".to_owned()));
    assert_eq!(nothing.header("content-range"), "bytes */10");

    let head = app.ask(Method::HEAD, &path, &[], Body::empty()).await;
    assert_eq!((head.text(), head.header("content-length"), head.header("accept-ranges")), ("", "10", "bytes"));
}

#[tokio::test]
async fn lists_are_walked_through() {
    let app = App::new().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(app.upload(&number.to_string()).await);
    }
    for (order, expected) in [("asc", ids.clone()), ("desc", ids.iter().rev().cloned().collect())] {
        let mut walked: Vec<String> = Vec::new();
        loop {
            let after = walked.last().cloned().unwrap_or_default();
            let page = app.get(&format!("/v1/files?limit=2&order={order}&after={after}")).await.json();
            walked.extend(page["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()));
            assert_eq!(page["last_id"], *walked.last().unwrap());
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(walked, expected, "{order}");
    }
    for (query, param) in [
        ("limit=0", Some("limit")),
        ("limit=10001", Some("limit")),
        ("limit=-1", Some("limit")),
        ("limit=x", None),
        ("order=up", None),
        ("purpose=fine-tune", Some("purpose")),
    ] {
        let answer = app.get(&format!("/v1/files?{query}")).await;
        assert_eq!(answer.error(), (400, "invalid_value".to_owned()), "{query}");
        assert_eq!(answer.json()["error"]["param"].as_str(), param, "{query}");
    }
    for after in ["file-0", "..%2F..%2Fetc%2Fpasswd", "%00"] {
        assert_eq!(app.get(&format!("/v1/files?after={after}")).await.error().0, 404, "{after}");
    }
}

#[tokio::test]
async fn a_file_may_come_first_or_be_empty() {
    let app = App::new().await;
    let answer = app.send(form(&[("file", Some("a"), ""), ("purpose", None, "batch")])).await;
    assert_eq!(answer.json()["bytes"], 0);
    let path = format!("/v1/files/{}/content", answer.json()["id"].as_str().unwrap());
    let content = app.get(&path).await;
    assert_eq!((content.text(), content.header("etag")), ("", &*format!("\"{EMPTY}\"")));
}

#[tokio::test]
async fn forms_that_are_wrong_leave_nothing() {
    let app = App::new().await;
    let file = ("file", Some("a"), "x");
    let purpose = ("purpose", None, "batch");
    let long = "x".repeat(2000);
    let cases: Vec<(Vec<(&str, Option<&str>, &str)>, &str, Option<&str>)> = vec![
        (vec![], "missing_required_parameter", Some("purpose")),
        (vec![purpose], "missing_required_parameter", Some("file")),
        (vec![file], "missing_required_parameter", Some("purpose")),
        (vec![("purpose", None, "fine-tune"), file], "invalid_value", Some("purpose")),
        (vec![file, ("purpose", None, "fine-tune")], "invalid_value", Some("purpose")),
        (vec![("purpose", None, "batch_output"), file], "invalid_value", Some("purpose")),
        (vec![purpose, purpose, file], "invalid_value", Some("purpose")),
        (vec![purpose, file, file], "invalid_value", Some("file")),
        (vec![purpose, ("file", None, "x")], "invalid_value", Some("file")),
        (vec![purpose, file, ("other", None, "x")], "invalid_value", Some("other")),
        (vec![("purpose", None, long.as_str()), file], "invalid_value", Some("purpose")),
        (
            vec![purpose, file, ("expires_after[anchor]", None, "created_at")],
            "invalid_value",
            Some("expires_after[anchor]"),
        ),
        (
            vec![purpose, ("expires_after[anchor]", None, "created_at"), file],
            "missing_required_parameter",
            Some("expires_after[seconds]"),
        ),
        (
            vec![purpose, ("expires_after[anchor]", None, "x"), ("expires_after[seconds]", None, "3600"), file],
            "invalid_value",
            Some("expires_after[anchor]"),
        ),
        (
            vec![purpose, ("expires_after[anchor]", None, "created_at"), ("expires_after[seconds]", None, "1h"), file],
            "invalid_value",
            Some("expires_after[seconds]"),
        ),
        (
            vec![purpose, ("expires_after[anchor]", None, "created_at"), ("expires_after[seconds]", None, "5"), file],
            "invalid_parameter",
            Some("expires_after.seconds"),
        ),
        (vec![purpose, ("file", Some("a\tb"), "x")], "invalid_parameter", Some("filename")),
    ];
    for (fields, code, param) in cases {
        let answer = app.send(form(&fields)).await;
        assert_eq!(answer.error(), (400, code.to_owned()), "{fields:?} {}", answer.text());
        if param.is_some() {
            assert_eq!(answer.json()["error"]["param"].as_str(), param, "{fields:?}");
        }
    }
    let many: Vec<_> = std::iter::repeat_n(("expires_after[anchor]", None, ""), 20).collect();
    assert_eq!(app.send(form(&many)).await.error().0, 400);
    assert_eq!(app.get("/v1/files").await.json()["data"], json!([]));
    let stored = std::fs::read_dir(app.folder.path().join("files")).unwrap().flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![path]
        }
    });
    assert_eq!(stored.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn bodies_that_break_off_are_told() {
    let app = App::new().await;
    let head = "------the-boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let broken = futures::stream::iter([Ok(head.to_owned()), Err(std::io::Error::other("gone"))]);
    for body in [Body::from(head), Body::from_stream(broken), Body::from("no form"), Body::from(vec![b'x'; 3 << 20])] {
        assert_eq!(app.send(form_of(body)).await.error(), (400, "invalid_body".to_owned()));
    }
    assert_eq!(app.get("/v1/files").await.json()["data"], json!([]));
    for content_type in ["text/plain", "multipart/form-data", "application/json"] {
        let answer = app.ask(Method::POST, "/v1/files", &[("content-type", content_type)], Body::from("x")).await;
        assert_eq!(answer.error(), (415, "unsupported_media_type".to_owned()));
    }
}

#[tokio::test]
async fn names_and_ids_lead_nowhere() {
    let app = App::new().await;
    let name = "../../../etc/passwd";
    let answer = app.send(form(&[("purpose", None, "batch"), ("file", Some(name), "x")])).await;
    assert_eq!(answer.json()["filename"], name);
    for id in ["..%2F..%2Fjobs.db", "%2e%2e", "file-%00", "%FF", "file-ä", &"x".repeat(5000)] {
        for path in [format!("/v1/files/{id}"), format!("/v1/files/{id}/content"), format!("/v1/batches/{id}")] {
            assert_eq!(app.get(&path).await.error(), (404, "not_found".to_owned()), "{path}");
        }
        assert_eq!(app.delete(&format!("/v1/files/{id}")).await.error().0, 404);
    }
}

#[tokio::test]
async fn too_long_a_file_is_refused_while_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let change = |options: &mut vllm_batch::jobs::ServiceOptions| options.limits.max_file_bytes = 10;
    let jobs = crate::jobs(folder.path(), change).await;
    let app = App::over(jobs, vllm_batch::testing::ScriptedEngine::echo(), |_| (), folder);
    app.upload("0123456789").await;
    let answer = app.send(form(&[("purpose", None, "batch"), ("file", Some("a"), "0123456789a")])).await;
    assert_eq!(answer.error(), (413, "file_too_large".to_owned()));
    assert_eq!(app.get("/v1/files").await.json()["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn files_in_use_are_kept() {
    let app = App::new().await;
    let id = app.batch(&lines(&[("a", "x")])).await;
    let batch: Value = app.get(&format!("/v1/batches/{id}")).await.json();
    let path = format!("/v1/files/{}", batch["input_file_id"].as_str().unwrap());
    assert_eq!(app.delete(&path).await.error(), (409, "file_in_use".to_owned()));
    app.work().await;
    assert_eq!(app.delete(&path).await.status, 200);
}
