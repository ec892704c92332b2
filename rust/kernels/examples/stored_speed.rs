//! Rates of products with stored weights: `cargo run --release -p moevolve-kernels --example stored_speed [THREADS [ISA [COLUMNS]]]`.
//!
//! GB/s of stored bytes at one row (over more memory than the caches hold), and GFLOP/s at 512 rows of a prompt, beside the f32
//! product with packed weights on one thread.

use std::time::{Duration, Instant};

use moevolve_kernels::gemm::multiply;
use moevolve_kernels::stored::{FloatSums, Format, Matrix, Product, Scratch, products};
use moevolve_kernels::worker_pool::WorkerPool;
use moevolve_kernels::{BatchClass, Isa};

/// Least time of a call over half a second.
fn least(mut work: impl FnMut()) -> f64 {
    let (begin, mut least) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        work();
        least = least.min(start.elapsed());
    }
    least.as_secs_f64()
}

/// More memory than the caches hold.
const CACHES: usize = 128 << 20;
/// What is timed at once: less than the system's time slice.
const PIECE: usize = 1 << 20;

/// Items a second in the fastest tenth of the pieces, `each` items long, of `all` items.
fn typical(all: usize, each: usize, mut work: impl FnMut(usize, usize)) -> f64 {
    let mut times = Vec::new();
    for _ in 0..3 {
        for piece in 0..all / each {
            let start = Instant::now();
            work(piece * each, each);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    each as f64 / times[times.len() / 10]
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7 % 13) as f32 - 6.0).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let isa = arguments
        .next()
        .and_then(|name| Isa::named(&name))
        .unwrap_or(Isa::best());
    let (pool, mut scratch) = (WorkerPool::new(threads), Scratch::default());
    let inp = arguments
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1536);
    let (out, rows) = (576, 512);
    let (a, b) = (numbers(rows * inp), numbers(inp * out));
    let mut c = vec![0.0; rows * out];
    let prompt: Vec<BatchClass> = (0..rows).map(|row| BatchClass::of(row, rows)).collect();
    let operations = (2 * rows * inp * out) as f64;
    let single = least(|| multiply(isa, rows, inp, out, &a, &b, &mut c, false));
    println!(
        "{isa}, {threads} threads; f32 packed, 1 thread: {:.0} GFLOP/s",
        operations / single / 1e9
    );
    let memory = vec![1u64; CACHES / 8];
    let read = typical(CACHES / 8, PIECE / 8, |first, count| {
        let piece = &memory[first..first + count];
        std::hint::black_box(piece.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
    });
    println!("plain reading, 1 thread: {:.1} GB/s", 8.0 * read / 1e9);
    for format in Format::ALL {
        if !usize::is_multiple_of(inp, format.block_len()) {
            continue;
        }
        let row_bytes = format.row_bytes(inp);
        // Small numbers in every format: what they are does not matter to the time.
        let bytes: Vec<u8> = (0..out * row_bytes).map(|i| (i % 32) as u8).collect();
        let grid = |out: usize| {
            let blocks = out.div_ceil(128) * inp.div_ceil(128);
            vec![1.0; if format == Format::Fp8 { blocks } else { 0 }]
        };
        let scales = grid(out);
        let mut run = |bytes: &[u8], rows: usize, out: usize, scales: &[f32], y: &mut [f32]| {
            let matrix = Matrix {
                format,
                bytes,
                out,
                inp,
                scales,
            };
            let product = Product {
                matrix,
                rows,
                x: &a,
                x_stride: inp,
                y,
                y_stride: out,
                add: false,
                sums: FloatSums::Chains,
                classes: if rows < prompt.len() { &[] } else { &prompt },
            };
            products(isa, &pool, &mut [product], &mut scratch);
        };
        let many = least(|| run(&bytes, rows, out, &scales, &mut c));
        let tall = CACHES / row_bytes;
        let bytes = bytes.repeat(tall.div_ceil(out));
        let mut y = vec![0.0; tall];
        let each = (PIECE / row_bytes).next_multiple_of(128);
        let rate = typical(tall, each, |first, count| {
            let piece = &bytes[first * row_bytes..][..count * row_bytes];
            run(piece, 1, count, &grid(count), &mut y);
        });
        let warm = least(|| run(&bytes[..out * row_bytes], 1, out, &scales, &mut y));
        let four = least(|| run(&bytes[..out * row_bytes], 4, out, &scales, &mut c));
        println!(
            "{:8} 1 row {:5.1} GB/s from memory, {:5.1} GB/s from cache; 4 rows {:5.1} GB/s; 512 rows {:4.0} GFLOP/s",
            format.name(),
            row_bytes as f64 * rate / 1e9,
            (out * row_bytes) as f64 / warm / 1e9,
            (out * row_bytes) as f64 / four / 1e9,
            operations / many / 1e9,
        );
    }
}
