//! Moving and adding whole rows.

use crate::simd::{Simd, dot};
use crate::{LANES, area};

kernel! {
    /// `to[i]` = `from[index[i]]` for rows of `width` floats.
    pub fn gather = gather_body(width: usize, index: &[u32], from: &[f32], to: &mut [f32])
}

kernel! {
    /// `to[index[i]]` += `from[i]` in ascending i.
    pub fn scatter_add = scatter_add_body(width: usize, index: &[u32], from: &[f32], to: &mut [f32])
}

kernel! {
    /// `to` += `from`.
    pub fn add = add_body(from: &[f32], to: &mut [f32])
}

kernel! {
    /// Each of `rows` rows of `to` += `row`: a bias.
    pub fn add_row = add_row_body(rows: usize, row: &[f32], to: &mut [f32])
}

kernel! {
    /// `sum` += each of `rows` rows of `from` in turn: the gradient of a bias.
    pub fn sum_rows = sum_rows_body(rows: usize, from: &[f32], sum: &mut [f32])
}

kernel! {
    /// `out[i]` = the inner product of `row` with row i of `from`.
    pub fn dot_rows = dot_rows_body(rows: usize, row: &[f32], from: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn dot_rows_body<S: Simd>(rows: usize, row: &[f32], from: &[f32], out: &mut [f32]) {
    let width = row.len();
    assert!(width.is_multiple_of(LANES) && from.len() >= area([rows, width]) && out.len() >= rows);
    for (i, out) in out.iter_mut().enumerate().take(rows) {
        *out = dot::<S>(row.as_ptr(), from.as_ptr().add(i * width), width);
    }
}

#[inline(always)]
unsafe fn gather_body<S: Simd>(width: usize, index: &[u32], from: &[f32], to: &mut [f32]) {
    assert!(width.is_multiple_of(LANES) && to.len() >= area([index.len(), width]));
    for (i, &row) in index.iter().enumerate() {
        let from = from[row as usize * width..][..width].as_ptr();
        let to = to.as_mut_ptr().add(i * width);
        let mut j = 0;
        while j < width {
            S::load(from.add(j)).store(to.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
unsafe fn scatter_add_body<S: Simd>(width: usize, index: &[u32], from: &[f32], to: &mut [f32]) {
    assert!(width.is_multiple_of(LANES) && from.len() >= area([index.len(), width]));
    for (i, &row) in index.iter().enumerate() {
        let to = to[row as usize * width..][..width].as_mut_ptr();
        let from = from.as_ptr().add(i * width);
        let mut j = 0;
        while j < width {
            S::load(to.add(j))
                .add(S::load(from.add(j)))
                .store(to.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
unsafe fn add_body<S: Simd>(from: &[f32], to: &mut [f32]) {
    assert!(from.len() == to.len() && from.len().is_multiple_of(LANES));
    let (from, end) = (from.as_ptr(), from.len());
    let to = to.as_mut_ptr();
    let mut j = 0;
    while j < end {
        S::load(to.add(j))
            .add(S::load(from.add(j)))
            .store(to.add(j));
        j += LANES;
    }
}

#[inline(always)]
unsafe fn add_row_body<S: Simd>(rows: usize, row: &[f32], to: &mut [f32]) {
    let width = row.len();
    assert!(width.is_multiple_of(LANES) && to.len() >= area([rows, width]));
    let row = row.as_ptr();
    for r in 0..rows {
        let to = to.as_mut_ptr().add(r * width);
        let mut j = 0;
        while j < width {
            S::load(to.add(j)).add(S::load(row.add(j))).store(to.add(j));
            j += LANES;
        }
    }
}

#[inline(always)]
unsafe fn sum_rows_body<S: Simd>(rows: usize, from: &[f32], sum: &mut [f32]) {
    let width = sum.len();
    assert!(width.is_multiple_of(LANES) && from.len() >= area([rows, width]));
    let sum = sum.as_mut_ptr();
    for r in 0..rows {
        let from = from.as_ptr().add(r * width);
        let mut j = 0;
        while j < width {
            S::load(sum.add(j))
                .add(S::load(from.add(j)))
                .store(sum.add(j));
            j += LANES;
        }
    }
}
