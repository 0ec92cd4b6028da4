use candle_core::{DType, Device, Tensor};

use super::*;
use crate::kernels::{KvWrite, RotaryTable, RotateQueries};

/// Sequences whose keys and values are written in chunks, and what attention makes of them.
struct Case {
    heads: HeadShape,
    table: RotaryTable,
    /// `[tokens, qkv_width]` for each sequence.
    qkv: Vec<Vec<f32>>,
    window: Option<usize>,
    soft_cap: Option<f32>,
    causal: bool,
    /// What the cache holds.
    cache: DType,
}

/// What a cache may hold, and how far results may be from the definition.
const CACHES: [(DType, f64); 2] = [(DType::F32, 2e-5), (DType::F16, 1e-2)];

/// A case without its numbers.
struct Setup {
    heads: HeadShape,
    lengths: &'static [usize],
    window: Option<usize>,
    soft_cap: Option<f32>,
    causal: bool,
}

impl Case {
    fn new(&Setup { heads, lengths, window, soft_cap, causal }: &Setup, cache: DType) -> Self {
        let mut state = 12_345_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 2.0
        };
        let qkv = lengths.iter().map(|len| (0..len * heads.qkv_width()).map(|_| next()).collect()).collect();
        let inv_freq: Vec<f32> = (0..heads.head_dim / 2).map(|i| 1.0 / (1.0 + i as f32)).collect();
        let positions = lengths.iter().max().map_or(0, |len| len + 1);
        Self { heads, table: RotaryTable::new(&inv_freq, 1.0, positions), qkv, window, soft_cap, causal, cache }
    }

    fn len(&self, sequence: usize) -> usize {
        self.qkv[sequence].len() / self.heads.qkv_width()
    }

    /// Blocks of all sequences, interleaved so that no sequence has neighbouring ones.
    fn block_table(&self, sequence: usize) -> Vec<u32> {
        let count = self.len(sequence).div_ceil(LANES);
        (0..count).map(|i| (i * self.qkv.len() + sequence) as u32).collect()
    }

    /// The blocks that tokens from `position` on see.
    fn held(&self, position: usize, mut block_table: Vec<u32>) -> HeldBlocks {
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window) / LANES);
        HeldBlocks { first, ids: block_table.split_off(first) }
    }

    /// Computes every sequence in chunks of `chunk` tokens, all sequences side by side; returns `[tokens, q]` for each.
    fn run(&self, chunk: usize, isa: Isa) -> Vec<Vec<f32>> {
        let longest = (0..self.qkv.len()).map(|i| self.len(i)).max().unwrap_or(0);
        let blocks = longest.div_ceil(LANES) * self.qkv.len();
        let cache = Tensor::full(7.5f32, blocks * self.heads.block_len(), &Device::Cpu).unwrap();
        let cache = cache.to_dtype(self.cache).unwrap();
        let mut results = vec![Vec::new(); self.qkv.len()];
        for position in (0..longest).step_by(chunk) {
            self.step(position, chunk, (&cache, isa), &mut results);
        }
        results
    }

    fn step(&self, position: usize, chunk: usize, (cache, isa): (&Tensor, Isa), results: &mut [Vec<f32>]) {
        let width = self.heads.qkv_width();
        let (mut qkv, mut positions, mut slots, mut spans, mut owners) = (vec![], vec![], vec![], vec![], vec![]);
        for sequence in (0..self.qkv.len()).filter(|i| self.len(*i) > position) {
            let query_len = chunk.min(self.len(sequence) - position);
            let block_table = self.block_table(sequence);
            qkv.extend_from_slice(&self.qkv[sequence][position * width..(position + query_len) * width]);
            for p in position..position + query_len {
                positions.push(p as u32);
                slots.push(block_table[p / LANES] * LANES as u32 + (p % LANES) as u32);
            }
            spans.push(QuerySpan {
                query_start: positions.len() - query_len,
                query_len,
                position,
                block_table: self.held(position, block_table),
            });
            owners.push(sequence);
        }
        let qkv = Tensor::from_slice(&qkv, (positions.len(), width), &Device::Cpu).unwrap();
        let (heads, table) = (self.heads, &self.table);
        cache.inplace_op2(&qkv, &KvWrite { positions: &positions, slots: &slots, heads, table }).unwrap();
        qkv.inplace_op1(&RotateQueries { positions: &positions, heads, table }).unwrap();
        let Self { soft_cap, window, causal, .. } = *self;
        let tiles = &QueryTiles::new(&spans, heads);
        let op = Attention { spans: &spans, tiles, heads, scale: 0.3, soft_cap, window, causal, isa };
        let out = Tensor::zeros((positions.len(), heads.num_heads * heads.head_dim), DType::F32, &Device::Cpu).unwrap();
        out.inplace_op3(&qkv, cache, &op).unwrap();
        let out = out.to_vec2::<f32>().unwrap();
        for (span, owner) in spans.iter().zip(owners) {
            results[owner].extend(out[span.query_start..][..span.query_len].iter().flatten());
        }
    }

    /// The definition in f64, without a cache.
    fn reference(&self, sequence: usize) -> Vec<f64> {
        let HeadShape { num_heads, num_kv_heads, head_dim } = self.heads;
        let width = self.heads.qkv_width();
        let head = |token: usize, index: usize| &self.qkv[sequence][token * width + index * head_dim..][..head_dim];
        let turned = |token: usize, index: usize| {
            let mut out = vec![0f32; head_dim];
            self.table.rotate(head(token, index), token, |i, value| out[i] = value);
            out
        };
        let mut result = Vec::new();
        for token in 0..self.len(sequence) {
            for q_head in 0..num_heads {
                let kv_head = q_head / (num_heads / num_kv_heads);
                let q = turned(token, q_head);
                let dot = |k: Vec<f32>| q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(k)).sum::<f64>() * 0.3;
                let cap = |score: f64| self.soft_cap.map(f64::from).map_or(score, |cap| cap * (score / cap).tanh());
                let first = self.window.map_or(0, |window| (token + 1).saturating_sub(window));
                let last = if self.causal { token } else { self.len(sequence) - 1 };
                let scores: Vec<f64> = (first..=last).map(|t| cap(dot(turned(t, num_heads + kv_head)))).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
                let total: f64 = weights.iter().sum();
                result.extend((0..head_dim).map(|i| {
                    let value = |t: usize| f64::from(head(first + t, num_heads + num_kv_heads + kv_head)[i]);
                    weights.iter().enumerate().map(|(t, weight)| weight * value(t)).sum::<f64>() / total
                }));
            }
        }
        result
    }
}

fn setups() -> [Setup; 10] {
    let heads = |num_heads, num_kv_heads, head_dim| HeadShape { num_heads, num_kv_heads, head_dim };
    let plain = |heads, lengths| Setup { heads, lengths, window: None, soft_cap: None, causal: true };
    [
        plain(heads(4, 2, 16), &[1, 17, 64, 65]),
        plain(heads(9, 3, 64), &[130, 5]),
        plain(heads(2, 2, 24), &[33, 16, 15]),
        plain(heads(8, 1, 256), &[40]),
        Setup { soft_cap: Some(2.0), ..plain(heads(4, 2, 16), &[1, 17, 64, 65]) },
        Setup { window: Some(64), ..plain(heads(9, 3, 64), &[200, 5]) },
        Setup { window: Some(1), ..plain(heads(2, 2, 24), &[150, 16, 15]) },
        Setup { window: Some(71), soft_cap: Some(5.0), ..plain(heads(6, 2, 16), &[300, 129]) },
        Setup { causal: false, ..plain(heads(4, 2, 16), &[1, 17, 64, 65, 200]) },
        Setup { causal: false, ..plain(heads(3, 3, 24), &[70, 16]) },
    ]
}

#[test]
fn it_is_close_to_the_definition() {
    for (setup, (cache, bound)) in setups().iter().flat_map(|setup| CACHES.map(|cache| (setup, cache))) {
        let (heads, case) = (setup.heads, Case::new(setup, cache));
        for (sequence, actual) in case.run(1000, Isa::detect()).iter().enumerate() {
            for (actual, expected) in actual.iter().zip(case.reference(sequence)) {
                let error = (f64::from(*actual) - expected).abs();
                assert!(error < bound, "{heads:?} {cache:?} {sequence}: {actual} for {expected}");
            }
        }
    }
}

#[test]
fn chunks_neighbours_and_instruction_sets_do_not_change_a_bit() {
    for (setup, (cache, _)) in setups().iter().flat_map(|setup| CACHES.map(|cache| (setup, cache))) {
        let (heads, all) = (setup.heads, Case::new(setup, cache));
        let expected = all.run(1000, Isa::detect());
        for isa in Isa::available() {
            for chunk in [1, 7, 16, 50, 1000].into_iter().filter(|chunk| all.causal || *chunk == 1000) {
                assert_eq!(all.run(chunk, isa), expected, "{heads:?} {cache:?} chunk {chunk} {isa:?}");
            }
        }
        for (sequence, expected) in expected.iter().enumerate() {
            let alone = Case { table: all.table.clone(), qkv: vec![all.qkv[sequence].clone()], ..all };
            let chunk = if alone.causal { 3 } else { 1000 };
            assert_eq!(&alone.run(chunk, Isa::detect())[0], expected, "{heads:?} {cache:?} sequence {sequence} alone");
        }
    }
}

#[test]
fn sequences_that_share_blocks_go_together_and_get_the_bits_they_get_alone() {
    let heads = HeadShape { num_heads: 6, num_kv_heads: 2, head_dim: 24 };
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let numbers = |count: usize, next: &mut dyn FnMut() -> f32| (0..count).map(|_| next()).collect::<Vec<f32>>();
    let cache = Tensor::new(numbers(64 * heads.block_len(), &mut next), &Device::Cpu).unwrap();
    let caches = CACHES.map(|(dtype, _)| cache.to_dtype(dtype).unwrap());
    // The first 4, 9 and 6 blocks are those of the first sequence, and one that is written like it.
    let table = |shared: u32, own: u32| (0..shared).chain(20 + own..30 + own).collect::<Vec<u32>>();
    let tables = [table(9, 0), table(4, 10), table(9, 0), table(6, 20), table(0, 34), table(9, 5), table(3, 12)];
    let positions = [150, 100, 64, 97, 30, 170, 63];
    let qkv = Tensor::new(numbers(14 * heads.qkv_width(), &mut next), &Device::Cpu).unwrap();
    let qkv = qkv.reshape((14, heads.qkv_width())).unwrap();
    let run = |spans: &[QuerySpan], cache: &Tensor, (window, causal), isa| {
        let out = Tensor::zeros((14, heads.num_heads * heads.head_dim), DType::F32, &Device::Cpu).unwrap();
        let tiles = &QueryTiles::new(spans, heads);
        let op = Attention { spans, tiles, heads, scale: 0.3, soft_cap: None, window, causal, isa };
        out.inplace_op3(&qkv, cache, &op).unwrap();
        out.to_vec2::<f32>().unwrap()
    };
    for query_len in [1, 2] {
        let span = |(i, (block_table, position)): (usize, (&Vec<u32>, usize))| QuerySpan {
            query_start: i * query_len,
            query_len,
            position,
            block_table: block_table.clone().into(),
        };
        let spans: Vec<QuerySpan> = tables.iter().zip(positions).enumerate().map(span).collect();
        assert!(QueryTiles::new(&spans, heads).tiles.len() < spans.len());
        for seen in [(None, true), (Some(40), true), (Some(100), true), (None, false)] {
            for (isa, cache) in Isa::available().into_iter().flat_map(|isa| caches.each_ref().map(|cache| (isa, cache)))
            {
                let together = run(&spans, cache, seen, isa);
                for (i, span) in spans.iter().enumerate() {
                    let rows = span.query_start..span.query_start + query_len;
                    let alone = run(std::slice::from_ref(span), cache, seen, isa);
                    let what = format!("{query_len} {seen:?} {isa:?} {:?} {i}", cache.dtype());
                    assert_eq!(alone[rows.clone()], together[rows], "{what}");
                }
            }
        }
    }
}

#[test]
fn a_key_that_is_too_large_for_the_cache_does_not_make_results_nan() {
    let setup = Setup { soft_cap: None, ..setups().into_iter().next().unwrap() };
    let mut case = Case::new(&setup, DType::F16);
    let (key, value) = (4 * 16 + 3, (4 + 2) * 16 + 5);
    for sequence in &mut case.qkv {
        (sequence[key], sequence[value]) = (1e6, -1e6);
    }
    let results = case.run(7, Isa::detect());
    assert!(results.iter().flatten().all(|x| x.is_finite() && x.abs() <= 65_504.0));
    // The first token sees itself alone.
    assert_eq!(results[0][5], -65_504.0);
}

#[test]
fn a_block_that_is_seen_and_gone_is_an_error() {
    let heads = HeadShape { num_heads: 2, num_kv_heads: 1, head_dim: 16 };
    let run = |first: usize, window: usize| {
        let block_table = HeldBlocks { first, ids: vec![0, 1, 2] };
        let spans = [QuerySpan { query_start: 0, query_len: 1, position: 16 * (first + 3) - 1, block_table }];
        let tiles = &QueryTiles::new(&spans, heads);
        let (window, isa) = (Some(window), Isa::detect());
        let op = Attention { spans: &spans, tiles, heads, scale: 0.3, soft_cap: None, window, causal: true, isa };
        let zeros = |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        zeros((1, 32)).inplace_op3(&zeros((1, heads.qkv_width())), &zeros((3, heads.block_len())), &op)
    };
    assert!(run(0, 100).is_ok() && run(5, 48).is_ok());
    assert!(run(5, 49).is_err());
}
