use std::io::Cursor;

use candle_core::Tensor;
use candle_core::quantized::gguf_file::{Value as Field, write};
use proptest::prelude::*;

use super::*;

/// A file with a value of every type and one tensor of each format.
fn sample() -> Vec<u8> {
    let list = |values: Vec<Field>| Field::Array(values);
    let fields = [
        ("general.architecture", Field::String("llama".to_owned())),
        ("a.u8", Field::U8(8)),
        ("a.i8", Field::I8(-8)),
        ("a.u16", Field::U16(16)),
        ("a.i16", Field::I16(-16)),
        ("a.u32", Field::U32(32)),
        ("a.i32", Field::I32(-32)),
        ("a.u64", Field::U64(64)),
        ("a.i64", Field::I64(-64)),
        ("a.f32", Field::F32(0.5)),
        ("a.f64", Field::F64(0.25)),
        ("a.bool", Field::Bool(true)),
        ("a.list", list(vec![Field::String("x".to_owned()), Field::String("ÿ".to_owned())])),
    ];
    let tensors: Vec<_> = formats().into_iter().map(|dtype| (format!("{dtype:?}"), tensor(dtype))).collect();
    let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut bytes = Cursor::new(Vec::new());
    write(&mut bytes, &fields, &tensors).unwrap();
    bytes.into_inner()
}

fn formats() -> Vec<GgmlDType> {
    (0..=30).filter_map(dtype).collect()
}

fn tensor(dtype: GgmlDType) -> QTensor {
    let numbers: Vec<f32> = (0..3 * 256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
    QTensor::quantize(&Tensor::from_vec(numbers, (3, 256), &Device::Cpu).unwrap(), dtype).unwrap()
}

fn open(bytes: &[u8]) -> Result<GgufFile, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    GgufFile::open(&path)
}

#[test]
fn metadata_of_every_type_is_read() {
    let file = open(&sample()).unwrap();
    let expected = serde_json::json!({
        "general.architecture": "llama", "a.u8": 8, "a.i8": -8, "a.u16": 16, "a.i16": -16, "a.u32": 32, "a.i32": -32,
        "a.u64": 64, "a.i64": -64, "a.f32": 0.5, "a.f64": 0.25, "a.bool": true, "a.list": ["x", "ÿ"],
    });
    assert_eq!(Value::Object(file.metadata), expected);
}

#[test]
fn quantised_tensors_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, sample()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let dense = [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16];
    for dtype in formats() {
        let blocks = file.read_blocks(&format!("{dtype:?}"), Part::WHOLE).unwrap();
        assert_eq!(blocks.is_none(), dense.contains(&dtype), "{dtype:?}");
        if let Some((format, bytes)) = blocks {
            assert_eq!(format!("{format:?}").replace("_K", "K"), format!("{dtype:?}"));
            assert_eq!(bytes, *tensor(dtype).data().unwrap(), "{dtype:?}");
        }
    }
}

#[test]
fn tensors_of_every_format_are_dequantised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, sample()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    for dtype in formats() {
        let name = format!("{dtype:?}");
        let expected = tensor(dtype).dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(file.shape(&name), Some(vec![3, 256]), "{name}");
        assert_eq!(file.read(&name).unwrap(), expected, "{name}");
    }
    assert_eq!(file.read("no such tensor").unwrap_err().code(), "missing_tensor");
}

/// `GGUF`, version 3, no tensor, one metadata value, and then `rest`.
fn with_value(rest: &[&[u8]]) -> Vec<u8> {
    let counts: [&[u8]; 4] = [b"GGUF", &3u32.to_le_bytes(), &0u64.to_le_bytes(), &1u64.to_le_bytes()];
    counts.iter().chain(rest).flat_map(|part| part.to_vec()).collect()
}

/// The same with one tensor `t` of these dimensions, in this format, at this offset.
fn with_tensor(dims: &[u64], format: u32, offset: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(b"t");
    bytes.extend((dims.len() as u32).to_le_bytes());
    for dim in dims {
        bytes.extend(dim.to_le_bytes());
    }
    bytes.extend(format.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 256, 0);
    bytes
}

#[test]
fn lies_are_named() {
    let huge = u64::MAX.to_le_bytes();
    let key: [&[u8]; 2] = [&1u64.to_le_bytes(), b"k"];
    let cases = [
        (b"GGML".to_vec(), "does not start with `GGUF`"),
        (b"GG".to_vec(), "the magic number at byte 0 needs 4 bytes, but 2 are left"),
        ([b"GGUF".as_slice(), &9u32.to_le_bytes()].concat(), "version 9 is not supported"),
        ([b"GGUF".as_slice(), &3u32.to_le_bytes(), &huge, &huge].concat(), "it announces 18446744073709551615 tensors"),
        (with_value(&[&huge]), "a metadata key at byte 32 needs 18446744073709551615 bytes"),
        (with_value(&[key[0], key[1], &8u32.to_le_bytes(), &huge]), "k at byte 45 needs"),
        (with_value(&[key[0], key[1], &9u32.to_le_bytes(), &0u32.to_le_bytes(), &huge]), "the array `k` announces"),
        (with_value(&[key[0], key[1], &9u32.to_le_bytes(), &0u32.to_le_bytes(), &999u64.to_le_bytes()]), "k at byte"),
        (with_value(&[key[0], key[1], &77u32.to_le_bytes()]), "`k` has the unknown type 77"),
        (with_tensor(&[], 0, 0), "tensor `t` has 0 dimensions"),
        (with_tensor(&[1, 1, 1, 1, 1], 0, 0), "tensor `t` has 5 dimensions"),
        (with_tensor(&[0, 4], 0, 0), "tensor `t` cannot have the dimensions [0, 4]"),
        (with_tensor(&[u64::MAX, 2], 0, 0), "tensor `t` cannot have the dimensions"),
        (with_tensor(&[33], 2, 0), "tensor `t` cannot have the dimensions [33] as Q4_0"),
        (with_tensor(&[1 << 40], 0, 0), "tensor `t` cannot have the dimensions"),
        (with_tensor(&[64], 0, 32), "tensor `t` ends at byte"),
        (with_tensor(&[4], 0, u64::MAX), "tensor `t` ends at byte"),
        (with_tensor(&[4], 99, 0), "tensor `t` is stored as GGML type 99"),
    ];
    for (bytes, message) in cases {
        let error = open(&bytes).expect_err(message).to_string();
        assert!(error.contains(message), "{error:?} should say {message:?}");
    }
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    for (name, offset) in [(b"a", 0u64), (b"b", 32)] {
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(name);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(16u64.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 128, 0);
    assert!(open(&bytes).unwrap_err().to_string().contains("tensors `a` and `b` overlap"));
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = sample();
    for len in (0..bytes.len()).filter(|len| *len < 2000 || len % 97 == 0) {
        assert!(open(&bytes[..len]).is_err(), "cut at {len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing in a file makes the reader panic or take memory that the file does not back.
    #[test]
    fn flipped_bytes_never_panic(changes in proptest::collection::vec((0usize..1500, any::<u8>()), 1..6)) {
        let mut bytes = sample();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        if let Ok(file) = open(&bytes) {
            prop_assert!(file.tensors.values().all(|info| info.len <= bytes.len()));
        }
    }
}
