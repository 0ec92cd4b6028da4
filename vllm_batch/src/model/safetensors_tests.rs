use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use super::*;

fn tensors(dtype: DType) -> HashMap<String, Tensor> {
    // Numbers of few bits, so that every format holds them exactly.
    let tensor = |start: f32| Tensor::arange(start, start + 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    [("a", 0.0), ("b", 10.0)]
        .map(|(name, start)| (name.to_owned(), tensor(start).to_dtype(dtype).unwrap()))
        .into_iter()
        .collect()
}

#[test]
fn every_float_format_is_read_from_one_file_or_shards() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let folder = tempfile::tempdir().unwrap();
        candle_core::safetensors::save(&tensors(dtype), folder.path().join(SINGLE)).unwrap();
        check(folder.path());

        let folder = tempfile::tempdir().unwrap();
        for (name, tensor) in tensors(dtype) {
            let one = HashMap::from([(name.clone(), tensor)]);
            candle_core::safetensors::save(&one, folder.path().join(format!("{name}.safetensors"))).unwrap();
        }
        let index = r#"{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#;
        std::fs::write(folder.path().join(INDEX), index).unwrap();
        check(folder.path());
    }
}

fn check(folder: &Path) {
    let files = SafetensorsFiles::open(folder).unwrap();
    assert_eq!((files.shape("a"), files.shape("c")), (Some(vec![2, 3]), None));
    assert_eq!(files.read("a").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(files.read("b").unwrap(), [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
    assert_eq!(files.read("c").unwrap_err().code(), "missing_tensor");
}

/// A file whose header says it has `len` bytes.
fn with_header(len: u64, header: &str, data: usize) -> Vec<u8> {
    [&len.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn broken_files_are_named() {
    let honest = |header: &str, data| with_header(header.len() as u64, header, data);
    let tensor = r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#;
    let cases = [
        (vec![1, 2, 3], "it has 3 bytes"),
        (with_header(u64::MAX, "{}", 0), "its header claims 18446744073709551615 bytes, but 2 are left"),
        (with_header(100, "{}", 0), "its header claims 100 bytes, but 2 are left"),
        (honest("not json", 0), "expected"),
        (honest(tensor, 4), "its tensors end at byte"),
        (honest(tensor, 12), "its tensors end at byte"),
        (honest(r#"{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#, 8), "a.safetensors"),
        (honest(r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}"#, 8), "a.safetensors"),
        (
            honest(r#"{"a": {"dtype": "F32", "shape": [4611686018427387904, 8], "data_offsets": [0, 8]}}"#, 8),
            "a.safetensors",
        ),
    ];
    for (bytes, message) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.safetensors"), &bytes).unwrap();
        std::fs::write(folder.path().join(INDEX), r#"{"weight_map": {"a": "a.safetensors"}}"#).unwrap();
        let error = SafetensorsFiles::open(folder.path()).expect_err(message);
        assert_eq!(error.code(), "model_file_broken");
        assert!(error.to_string().contains(message), "{error}: should say {message:?}");
    }
}

#[test]
fn an_index_cannot_lead_out_of_the_folder() {
    for file in [r#""../a.safetensors""#, r#""/etc/passwd""#, r#""sub/a.safetensors""#, r#""..""#, "7", r#""""#] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(INDEX), format!(r#"{{"weight_map": {{"a": {file}}}}}"#)).unwrap();
        let error = SafetensorsFiles::open(folder.path()).expect_err(file);
        assert!(error.to_string().contains("is not a file name"), "{error}");
    }
}

#[test]
fn integer_tensors_are_refused_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = HashMap::from([("a".to_owned(), Tensor::arange(0u32, 4, &Device::Cpu).unwrap())]);
    candle_core::safetensors::save(&tensors, folder.path().join(SINGLE)).unwrap();
    let files = SafetensorsFiles::open(folder.path()).unwrap();
    assert_eq!(files.read("a").unwrap_err().code(), "unsupported_tensor_dtype");
}

#[test]
fn a_folder_without_weights_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let error = SafetensorsFiles::open(folder.path()).unwrap_err();
    assert_eq!(error.code(), "model_file_missing");
}
