//! GFLOP/s of one core in the products of the seed model: `cargo run --release -p moevolve-kernels --example gemm_speed`.

use std::time::{Duration, Instant};

use moevolve_kernels::Isa;
use moevolve_kernels::bf16;
use moevolve_kernels::gemm::{multiply, weight_gradient};

/// Best rate over half a second.
fn best(operations: usize, mut work: impl FnMut()) -> f64 {
    let (begin, mut least) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        (0..8).for_each(|_| work());
        least = least.min(start.elapsed() / 8);
    }
    operations as f64 / least.as_secs_f64() / 1e9
}

fn main() {
    let isa = std::env::args()
        .nth(1)
        .and_then(|name| Isa::named(&name))
        .unwrap_or(Isa::best());
    for (rows, depth, columns) in [
        (8, 128, 256),
        (160, 128, 256),
        (160, 128, 128),
        (640, 128, 192),
        (640, 128, 16),
    ] {
        let numbers = |n: usize| (0..n).map(|i| (i % 13) as f32 - 6.0).collect::<Vec<f32>>();
        let (a, b, mut c) = (
            numbers(rows * depth),
            numbers(depth * columns),
            vec![0.0; rows * columns],
        );
        let operations = 2 * rows * depth * columns;
        let product = best(operations, || {
            multiply(isa, rows, depth, columns, &a, &b, &mut c, false)
        });
        let (dy, mut dw, mut packed) = (
            numbers(rows * columns),
            vec![0.0; depth * columns],
            Vec::new(),
        );
        let gradient = best(operations, || {
            weight_gradient(isa, rows, columns, depth, &dy, &a, &mut dw, &mut packed)
        });
        let (panels, mut scratch) = (vec![0; b.len()], bf16::Scratch::default());
        let half_product = best(operations, || {
            bf16::multiply(
                isa,
                rows,
                depth,
                columns,
                &a,
                &panels,
                &mut c,
                false,
                &mut scratch,
            )
        });
        let half_gradient = best(operations, || {
            bf16::weight_gradient(isa, rows, columns, depth, &dy, &a, &mut dw, &mut scratch)
        });
        println!(
            "{isa} {rows:4} x {depth} x {columns}: product {product:.0}, weight gradient {gradient:.0} GFLOP/s; \
             in bf16 {half_product:.0} and {half_gradient:.0}"
        );
    }
}
