use crate::norm::{Norm, fits};
use crate::simd::Simd;

kernel! {
    /// As [`crate::norm::rms_norm`]: the squares are rounded to f32 and added one after the other in f64.
    pub fn rms_norm = rms_norm_body(norm: Norm, rows: usize, x: &[f32], x_step: usize, gain: &[f32], y: &mut [f32], y_step: usize, inverse: &mut [f32])
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rms_norm_body<S: Simd>(
    norm: Norm,
    rows: usize,
    x: &[f32],
    x_step: usize,
    gain: &[f32],
    y: &mut [f32],
    y_step: usize,
    inverse: &mut [f32],
) {
    let (groups, width) = (norm.groups, norm.width);
    assert!(width.is_multiple_of(crate::LANES) && gain.len() == width);
    assert!(inverse.len() >= rows * groups);
    assert!(fits(x, rows, x_step, groups * width) && fits(y, rows, y_step, groups * width));
    for piece in 0..rows * groups {
        let (row, group) = (piece / groups, piece % groups);
        let from = x.as_ptr().add(row * x_step + group * width);
        let to = y.as_mut_ptr().add(row * y_step + group * width);
        let mut sum = 0.0f64;
        for i in 0..width {
            let x = *from.add(i);
            sum += f64::from(x * x);
        }
        let mean = (sum / norm.count as f64) as f32;
        let scale = 1.0 / (mean + norm.epsilon).sqrt();
        inverse[piece] = scale;
        crate::norm::scale_row::<S>(width, from, scale, gain.as_ptr(), to);
    }
}
