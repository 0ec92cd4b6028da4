//! Memory for what a step computes on its way.

use candle_core::{DType, Device, Result, Tensor};

use crate::kernels::{Activations, LinearScratch};

/// Memory for what a step computes on its way, used again by the next step. It grows with the largest step so far; a step
/// that is no larger takes none from the system.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The residual stream.
    pub(super) hidden: Buffer,
    /// What a norm makes of it.
    pub(super) normed: OperandBuffer,
    /// Queries, keys and values.
    pub(super) qkv: Buffer,
    /// What attention makes of them.
    pub(super) attended: Buffer,
    /// What the first layer of a feed-forward network makes of its input.
    pub(super) gate_up: Buffer,
    /// What the second one gets.
    pub(super) gated: OperandBuffer,
    /// The last hidden states of chosen rows.
    pub(super) last: Buffer,
    /// Their logits.
    pub(super) logits: Buffer,
    /// An encoder's keys and values, of one layer after the other.
    pub(super) keys_and_values: Buffer,
    pub(super) products: ProductWorkspace,
}

/// Memory for what stands between a product and its place.
#[derive(Debug, Default)]
pub(crate) struct ProductWorkspace {
    /// What is added to the residual stream, where more is done to it before than a product.
    pub(super) delta: Buffer,
    /// What a norm makes of it.
    pub(super) normed_delta: OperandBuffer,
    /// What the first factor of an adapter's change makes of its rows.
    pub(super) low_rank: Buffer,
    /// What the second one makes of it.
    pub(super) change: Buffer,
    pub(super) linear: LinearScratch,
}

/// Rows that are multiplied, as they are and quantised.
#[derive(Debug, Default)]
pub(super) struct OperandBuffer {
    pub(super) numbers: Buffer,
    pub(super) quantized: Activations,
}

impl OperandBuffer {
    /// Memory as `[rows, width]`, and for the rows quantised if that is wanted.
    ///
    /// # Errors
    /// As [`Buffer::rows`].
    pub(super) fn rows(
        &mut self,
        (rows, width): (usize, usize),
        quantized: bool,
    ) -> Result<(Tensor, Option<&mut Activations>)> {
        Ok((self.numbers.rows(rows, width)?, quantized.then_some(&mut self.quantized)))
    }
}

/// Numbers that are rows of one shape at a time.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    numbers: Option<Tensor>,
    rows: Option<Tensor>,
}

impl Buffer {
    /// The memory as `[rows, width]`, whatever it holds. Tensors of earlier calls share it.
    ///
    /// # Errors
    /// None: candle's shapes are checked at run time.
    pub(super) fn rows(&mut self, rows: usize, width: usize) -> Result<Tensor> {
        if let Some(current) = self.rows.as_ref().filter(|current| current.dims() == [rows, width]) {
            return Ok(current.clone());
        }
        let view = self.numbers(rows * width)?.narrow(0, 0, rows * width)?.reshape((rows, width))?;
        Ok(self.rows.insert(view).clone())
    }

    /// At least so many.
    fn numbers(&mut self, count: usize) -> Result<&Tensor> {
        if self.numbers.as_ref().is_none_or(|numbers| numbers.elem_count() < count) {
            // What is there is given back before there is more.
            (self.rows, self.numbers) = (None, None);
        }
        let numbers = match self.numbers.take() {
            Some(numbers) => numbers,
            None => Tensor::zeros(count.next_power_of_two(), DType::F32, &Device::Cpu)?,
        };
        Ok(self.numbers.insert(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Storage;

    fn start(tensor: &Tensor) -> *const f32 {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { panic!("not on the processor") };
        storage.as_slice::<f32>().unwrap()[layout.start_offset()..].as_ptr()
    }

    #[test]
    fn smaller_steps_use_the_memory_of_larger_ones() {
        let mut buffer = Buffer::default();
        let large = buffer.rows(4, 3).unwrap();
        let small = buffer.rows(1, 5).unwrap();
        assert_eq!((small.dims(), start(&small)), (&[1, 5][..], start(&large)));
        let larger = buffer.rows(17, 1).unwrap();
        assert_eq!(larger.dims(), [17, 1]);
        assert_ne!(start(&larger), start(&large));
        assert_eq!(buffer.rows(0, 3).unwrap().dims(), [0, 3]);
    }
}
