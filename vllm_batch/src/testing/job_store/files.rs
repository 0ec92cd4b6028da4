//! Files are made known, listed, and forgotten unless they are needed.

use std::future::Future;
use std::sync::Arc;

use super::work::{START, Work, code, file};
use crate::jobs::{FileObject, FilePurpose, FileQuery, JobStore, Order};

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    files_are_what_they_were(&Work(make().await)).await;
    lists_have_pages(&Work(make().await)).await;
    what_a_batch_needs_stays(&Work(make().await)).await;
}

async fn files_are_what_they_were(store: &Work) {
    let mut first = file("file-1");
    first.owner = "ann".into();
    first.filename = "naïve \"quotes\" \\ \u{1f600}.jsonl".into();
    first.expires_at = Some(START + 5);
    store.insert_file(&first).await.expect("a file is made known");
    assert_eq!(store.file("file-1").await.expect("a file is read"), Some(first.clone()));
    assert_eq!(store.file("file-2").await.expect("a file is read"), None);
    assert_eq!(code(store.insert_file(&file("file-1")).await), Err("invalid_parameter"));
    assert_eq!(store.file("file-1").await.expect("a file is read"), Some(first), "a second file changed the first");
    assert_eq!(code(store.delete_file("file-1").await), Ok(true));
    assert_eq!(code(store.delete_file("file-1").await), Ok(false));
    assert_eq!(store.file("file-1").await.expect("a file is read"), None);
}

async fn lists_have_pages(store: &Work) {
    for number in 1..=7 {
        let mut file = file(&format!("file-{number}"));
        file.owner = if number % 2 == 1 { "ann" } else { "bob" }.into();
        file.purpose = if number < 6 { FilePurpose::Batch } else { FilePurpose::BatchOutput };
        store.insert_file(&file).await.expect("a file is made known");
    }
    let ann = || FileQuery { owner: Some("ann".to_owned()), limit: 10, ..FileQuery::default() };
    let all = || FileQuery { limit: 3, ..FileQuery::default() };
    let after = |id: &str| Some(id.to_owned());
    let cases = [
        (all(), "7 6 5", true),
        (FileQuery { after: after("file-5"), ..all() }, "4 3 2", true),
        (FileQuery { after: after("file-4"), ..all() }, "3 2 1", false),
        (FileQuery { after: after("file-1"), ..all() }, "", false),
        (FileQuery { order: Order::Ascending, ..all() }, "1 2 3", true),
        (FileQuery { order: Order::Ascending, after: after("file-4"), ..all() }, "5 6 7", false),
        (FileQuery { limit: 0, ..all() }, "", true),
        (ann(), "7 5 3 1", false),
        (FileQuery { after: after("file-5"), ..ann() }, "3 1", false),
        (FileQuery { purpose: Some(FilePurpose::Batch), ..ann() }, "5 3 1", false),
        (FileQuery { owner: Some("eve".to_owned()), ..all() }, "", false),
    ];
    for (query, expected, has_more) in cases {
        let page = store.files(&query).await.expect("files are listed");
        assert_eq!((numbers(&page.data).as_str(), page.has_more), (expected, has_more), "{query:?}");
    }
    for id in ["file-8", "file-2"] {
        let query = FileQuery { after: after(id), ..ann() };
        assert_eq!(code(store.files(&query).await), Err("not_found"), "{query:?}");
    }
}

async fn what_a_batch_needs_stays(store: &Work) {
    for (id, expires_at) in [("file-2", START + 20), ("file-3", START + 10), ("file-4", START + 30)] {
        let mut file = file(id);
        file.expires_at = Some(expires_at);
        store.insert_file(&file).await.expect("a file is made known");
    }
    store.add("batch_1").await;
    let mut needed = super::work::batch("batch_4");
    needed.webhook = None;
    store.insert_batch(&needed, super::work::NO_LIMITS).await.expect("a batch is added");
    let expired = async |now, limit| numbers(&store.expired_files(now, limit).await.expect("files are listed"));
    assert_eq!(expired(START + 9, 10).await, "");
    assert_eq!(expired(START + 10, 10).await, "3");
    assert_eq!(expired(START + 99, 10).await, "3 2", "file-4 is the input of a batch");
    assert_eq!(expired(START + 99, 1).await, "3");
    assert_eq!(code(store.delete_file("file-4").await), Err("file_in_use"));
    store.work_off(START).await;
    assert_eq!(expired(START + 99, 10).await, "3 2 4");
    assert_eq!(code(store.delete_file("file-4").await), Ok(true));
    assert!(store.get("batch_4").await.status.is_terminal(), "the batch went with its input");
}

fn numbers(files: &[FileObject]) -> String {
    let numbers: Vec<_> = files.iter().map(|file| file.id.trim_start_matches("file-")).collect();
    numbers.join(" ")
}
