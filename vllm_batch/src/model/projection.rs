//! A dense layer, and what adapters add to it for the rows of their requests.

use candle_core::{Device, Result, Tensor};

use super::workspace::ProductWorkspace;
use crate::kernels::{AddRows, Operand, PackedMatrix, linear, linear_add};

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

    /// Numbers in a row of the result.
    pub(super) fn rows(&self) -> usize {
        self.matrix.rows()
    }

    /// Numbers in a row of what it is applied to.
    pub(super) fn depth(&self) -> usize {
        self.matrix.depth()
    }

    /// Whether it is multiplied with quantised rows.
    pub(super) fn is_quantized(&self) -> bool {
        self.matrix.is_quantized()
    }

    /// `y = x · matrixᵀ + bias`, and what the adapters add to their rows.
    pub(super) fn apply(
        &self,
        x: &Operand<'_>,
        adapters: &AdapterRows,
        y: &Tensor,
        work: &mut ProductWorkspace,
    ) -> Result<()> {
        linear(x, &self.matrix, y, &mut work.linear)?;
        self.add_changes(x.numbers(), adapters, y, work)
    }

    /// The same, added to `y`.
    pub(super) fn apply_add(
        &self,
        x: &Operand<'_>,
        adapters: &AdapterRows,
        y: &Tensor,
        work: &mut ProductWorkspace,
    ) -> Result<()> {
        linear_add(x, &self.matrix, y, &mut work.linear)?;
        self.add_changes(x.numbers(), adapters, y, work)
    }

    /// The rows of an adapter are multiplied by themselves: what is computed for a row does not depend on the others.
    fn add_changes(&self, x: &Tensor, adapters: &AdapterRows, y: &Tensor, work: &mut ProductWorkspace) -> Result<()> {
        for (rows, changes) in adapters.0.iter().zip(&self.changes) {
            if rows.is_empty() || changes.is_empty() {
                continue;
            }
            let x = x.index_select(&Tensor::new(rows.as_slice(), &Device::Cpu)?, 0)?;
            for Change { a, b, column, scale } in changes {
                let low_rank = work.low_rank.rows(rows.len(), a.rows())?;
                linear(&x, a, &low_rank, &mut work.linear)?;
                let change = work.change.rows(rows.len(), b.rows())?;
                linear(&low_rank, b, &change, &mut work.linear)?;
                y.inplace_op2(&change, &AddRows { rows, column: *column, scale: *scale })?;
            }
        }
        Ok(())
    }
}
