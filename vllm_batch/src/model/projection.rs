//! A dense layer, and what adapters add to it for the rows of their requests.

use candle_core::{Device, Result, Tensor};

use crate::kernels::{AddRows, PackedMatrix, linear, linear_add};

/// The rows of a step that each adapter changes, by the adapter's number, in ascending order.
#[derive(Debug, Default)]
pub(super) struct AdapterRows(Vec<Vec<u32>>);

impl AdapterRows {
    /// Gives rows, which come after all earlier ones, to an adapter.
    pub(super) fn extend(&mut self, adapter: u32, rows: std::ops::Range<u32>) {
        let adapter = adapter as usize;
        self.0.resize_with(self.0.len().max(adapter + 1), Vec::new);
        self.0[adapter].extend(rows);
    }
}

/// A weight matrix, and the changes of each adapter.
#[derive(Debug)]
pub(super) struct Projection {
    matrix: PackedMatrix,
    /// By the adapter's number; those after the last have none.
    changes: Vec<Vec<Change>>,
}

/// What an adapter adds to some columns of a product: `scale · (x · Aᵀ) · Bᵀ`.
#[derive(Debug)]
pub(super) struct Change {
    /// `[rank, depth]`.
    pub(super) a: PackedMatrix,
    /// `[columns, rank]`.
    pub(super) b: PackedMatrix,
    /// The first of the columns.
    pub(super) column: usize,
    pub(super) scale: f32,
}

impl From<PackedMatrix> for Projection {
    fn from(matrix: PackedMatrix) -> Self {
        Self { matrix, changes: Vec::new() }
    }
}

impl Projection {
    /// Takes the changes of one more adapter.
    pub(super) fn add_adapter(&mut self, changes: Vec<Change>) {
        self.changes.push(changes);
    }

    /// `x · matrixᵀ + bias`, and what the adapters add to their rows.
    pub(super) fn apply(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        self.changed(linear(x, &self.matrix)?, x, adapters)
    }

    /// The same, added to `addend`.
    pub(super) fn apply_add(&self, x: &Tensor, addend: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        self.changed(linear_add(x, &self.matrix, addend)?, x, adapters)
    }

    /// The rows of an adapter are multiplied by themselves: what is computed for a row does not depend on the others.
    fn changed(&self, y: Tensor, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        for (rows, changes) in adapters.0.iter().zip(&self.changes) {
            if rows.is_empty() || changes.is_empty() {
                continue;
            }
            let x = x.index_select(&Tensor::new(rows.as_slice(), &Device::Cpu)?, 0)?;
            for Change { a, b, column, scale } in changes {
                let part = linear(&linear(&x, a)?, b)?;
                y.inplace_op2(&part, &AddRows { rows, column: *column, scale: *scale })?;
            }
        }
        Ok(y)
    }
}
