use futures::{FutureExt as _, stream};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn store() -> (TempDir, FileStore) {
    let folder = tempfile::tempdir().unwrap();
    let files = FileStore::in_folder(folder.path().join("new/folder")).unwrap();
    (folder, files)
}

fn key(number: u32) -> FileKey {
    FileKey::of_file(&format!("file-{number:032x}")).unwrap()
}

fn pieces(texts: &[&str]) -> impl Stream<Item = Result<Bytes, String>> + Send + use<> {
    let texts: Vec<_> = texts.iter().map(|text| Ok(Bytes::from((*text).to_owned()))).collect();
    stream::iter(texts)
}

async fn text(content: ByteStream) -> String {
    let pieces: Vec<_> = content.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

/// The names of all files below a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn a_content_comes_back_whole_and_in_parts_until_it_is_deleted() {
    let (_folder, files) = store();
    block_on(async {
        assert!(!files.exists(&key(1)).await.unwrap());
        let written = files.put(&key(1), pieces(&["ab", "", "cde"]), 5).await.unwrap();
        let sha256 = "36bbe50ed96841d10443bcb670d6554f0a34b761be67ec9c4a8ad2c0c44ca42c";
        assert_eq!(written, Written { bytes: 5, sha256: sha256.to_owned() });
        assert!(files.exists(&key(1)).await.unwrap());
        assert_eq!(text(files.get(&key(1)).await.unwrap()).await, "abcde");
        for (range, expected) in [(0..0, ""), (0..2, "ab"), (1..4, "bcd"), (4..100, "e")] {
            assert_eq!(text(files.get_range(&key(1), range).await.unwrap()).await, expected);
        }
        files.put(&key(1), pieces(&[]), 5).await.unwrap();
        assert_eq!(text(files.get(&key(1)).await.unwrap()).await, "");
        for _ in 0..2 {
            files.delete(&key(1)).await.unwrap();
        }
        assert_eq!(files.get(&key(1)).await.err().unwrap().code(), "not_found");
    });
}

#[test]
fn what_is_not_whole_leaves_nothing() {
    let (folder, files) = store();
    block_on(async {
        let error = files.put(&key(1), pieces(&["abc", "def"]), 5).await.unwrap_err();
        assert!(matches!(error, JobError::FileTooLarge { limit: 5 }), "{error}");
        let broken = pieces(&["abc"]).chain(stream::iter([Err("the line was cut".to_owned())]));
        let error = files.put(&key(2), broken, 5).await.unwrap_err();
        assert!(error.to_string().contains("the line was cut"), "{error}");
        let forever = pieces(&["abc"]).chain(stream::pending());
        assert!(files.put(&key(3), forever, 5).now_or_never().is_none());
        // What was begun is removed on another thread.
        while !names(folder.path()).is_empty() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn files_go_to_the_store_and_back() {
    let (folder, files) = store();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let content: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(&source, &content).unwrap();
    block_on(async {
        let written = files.upload(&source, &key(1)).await.unwrap();
        assert_eq!(written.bytes, 1_000_000);
        files.download(&key(1), None, &target).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content);
        files.download(&key(1), Some(10..500_000), &target).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), content[10..500_000]);
        let listed: Vec<_> = files.list(FileKey::FILES).map_ok(|(key, _)| key).try_collect().await.unwrap();
        assert_eq!(listed, [key(1)]);
    });
}

#[test]
fn keys_say_what_they_are_of() {
    let batch = format!("batch_{:032x}", 7);
    let rows = ChunkRows::new(&batch, 3, 2);
    assert_eq!(ChunkRows::at(rows.location()), rows);
    assert_eq!(batch_of(&rows.answers()), Some(batch.clone()));
    assert_eq!(batch_of(&rows.errors()), Some(batch));
    assert_eq!((rows.answers().file_id(), batch_of(&key(1))), (None, None));
    assert_eq!(key(1).file_id(), Some(format!("file-{:032x}", 1)));
}

proptest! {
    #[test]
    fn lines_are_what_line_feeds_divide(text in "[ab\n]{0,40}", size in 1..7_usize) {
        let pieces: Vec<_> = text.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut lines = Lines::new(stream::iter(pieces).boxed());
        let found = block_on(async {
            let mut found = Vec::new();
            while let Some(line) = lines.next().await.unwrap() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
            found
        });
        prop_assert_eq!(found, text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}
