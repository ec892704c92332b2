use crate::norm::{Norm, Squares, normalise};
use crate::simd::Simd;

kernel! {
    /// As [`crate::norm::rms_norm`]: the squares are rounded to f32 and added one after the other in f64.
    pub fn rms_norm = normalise [OneByOne] (norm: Norm, rows: usize, x: &[f32], x_step: usize, gain: &[f32], y: &mut [f32], y_step: usize, inverse: &mut [f32])
}

struct OneByOne;

impl Squares for OneByOne {
    #[inline(always)]
    unsafe fn mean<S: Simd>(norm: Norm, x: *const f32) -> f32 {
        let mut sum = 0.0f64;
        for i in 0..norm.width {
            let x = *x.add(i);
            sum += f64::from(x * x);
        }
        (sum / norm.count as f64) as f32
    }
}
