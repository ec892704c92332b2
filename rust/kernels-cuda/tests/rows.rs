//! Norms, rotation, rows, losses, the optimiser's step and draws on the twin against the CPU's kernels.

mod common;

use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use common::{apart, cases, random, twin};
use moevolve_kernels::adamw as cpu_adamw;
use moevolve_kernels::loss::{cross_entropy as cpu_cross_entropy, entropy, log_sum_exp};
use moevolve_kernels::norm as cpu_norm;
use moevolve_kernels::rope::{Angles as CpuAngles, Pairs, Rotary, rotate as cpu_rotate};
use moevolve_kernels::sample::{Cuts, draw as cpu_draw, greedy, uniform};
use moevolve_kernels::{Isa, padded, rows as cpu_rows};
use moevolve_kernels_cuda::loss::{Logits, cross_entropy, log_probabilities};
use moevolve_kernels_cuda::norm::{Angles, Norm, Stepped, rms_norm, rms_norm_backward, rotate};
use moevolve_kernels_cuda::sample::{Draw, draw};
use moevolve_kernels_cuda::update::{AdamW, adamw, add, sum_squares};
use moevolve_kernels_cuda::{Address, Device, Error, Launch, Memory, Result, rows};
use proptest::prelude::*;

/// A device that computes nothing, and keeps how it was asked to.
#[derive(Default)]
struct Recorder {
    launches: Mutex<Vec<(Launch, Vec<u64>)>>,
}

impl Device for Recorder {
    fn allocate(&self, _: usize) -> Result<Address> {
        Ok(1 << 40)
    }

    fn free(&self, _: Address, _: usize) {}

    fn memory(&self) -> Result<[usize; 2]> {
        Ok([usize::MAX; 2])
    }

    fn shared(&self) -> usize {
        227 << 10
    }

    fn upload(&self, _: &[u8], _: Address) -> Result<()> {
        Ok(())
    }

    fn download(&self, _: Address, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn copy(&self, _: Address, _: Address, _: usize) -> Result<()> {
        Ok(())
    }

    fn clear(&self, _: Address, _: usize) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, launch: Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        // SAFETY: what is launched here has arguments of 64 bits alone.
        let read = arguments
            .iter()
            .map(|&at| unsafe { at.cast::<u64>().read() });
        self.launches.lock().unwrap().push((launch, read.collect()));
        Ok(())
    }
}

/// A gradient has as many numbers as the network, which may be more than 32 bits count: kernels take them, or say that they do not.
#[test]
fn sizes_past_32_bits_are_whole_or_refused() {
    let (device, count) = (Recorder::default(), (1_usize << 32) + 16);
    add(&device, 3, 5, count).unwrap();
    let launches = std::mem::take(&mut *device.launches.lock().unwrap());
    let [(launch, arguments)] = &launches[..] else {
        panic!("{} launches", launches.len())
    };
    assert_eq!(*arguments, [3, 5, count as u64]);
    let [x, y, z] = launch.blocks.map(|n| n as usize);
    assert!(x * y * z * launch.threads as usize >= count);
    let adam = AdamW {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        gradient_scale: 1.0,
        step: 1,
    };
    // So many blocks are more than a launch has.
    let most = i32::MAX as usize;
    let error = adamw(&device, adam, 3, 5, 7, 9, 0, 256 * (most + 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "blocks along x is 2147483648; kernels take up to 2147483647"
    );
    let norm = Norm {
        rows: count,
        groups: 1,
        width: 16,
        count: 16,
        epsilon: 1e-6,
    };
    let at = Stepped { at: 3, step: 16 };
    let wide = Logits {
        at: 3,
        rows: 1,
        vocabulary: 16,
        width: count,
    };
    let shared: Arc<dyn Device> = Arc::new(Recorder::default());
    let refused = [
        ("width", rows::add_row(&device, 3, 5, 1, count)),
        ("rows", rows::add_row(&device, 3, 5, count, 16)),
        ("rows", rows::gather(&device, 3, 5, 7, count, 16)),
        ("width", rows::scatter_add(&device, 3, 5, 7, 1, count)),
        ("from_step", rows::copy(&device, (3, count), (5, 16), 1, 16)),
        ("rows", rms_norm(&device, norm, at, 5, at, 7)),
        (
            "width",
            cross_entropy(&shared, wide, &[1], &[1.0]).map(|_| ()),
        ),
    ];
    for (what, refused) in refused {
        let Err(Error::TooLarge {
            what: named, value, ..
        }) = refused
        else {
            panic!("{what} of {count} is taken")
        };
        assert_eq!((named, value), (what, count));
    }
    assert!(device.launches.lock().unwrap().is_empty());
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn norms_and_their_gradients_are_the_cpus(count in 1usize..40, groups in 1usize..5, wide in 1usize..9, more in 0usize..40, add: bool, seed: u64) {
        let (width, isa, device) = (wide * 16, Isa::best(), twin(seed));
        let (true_width, step) = (width - seed as usize % 16, groups * width + more);
        let mut x = random(count * step, seed);
        for (i, x) in x.iter_mut().enumerate() {
            if i % step % width >= true_width && i % step < groups * width { *x = 0.0; }
        }
        let (gain, dy) = (random(width, seed ^ 1), random(count * groups * width, seed ^ 2));
        let norm = cpu_norm::Norm { groups, width, count: true_width, epsilon: 1e-6 };
        let packed = groups * width;
        let (mut y, mut inverse) = (vec![0.0; count * packed], vec![0.0; count * groups]);
        cpu_norm::rms_norm(isa, norm, count, &x, step, &gain, &mut y, packed, &mut inverse);
        let (mut dx, mut dgain) = (random(count * packed, seed ^ 3), random(width, seed ^ 4));
        let on = |x: &[f32]| Memory::from_slice(&device, x).unwrap();
        let (x_on, gain_on, dy_on, dx_on, dgain_on) = (on(&x), on(&gain), on(&dy), on(&dx), on(&dgain));
        let y_on = Memory::<f32>::new(&device, y.len()).unwrap();
        let inverse_on = Memory::<f32>::new(&device, inverse.len()).unwrap();
        let shape = Norm { rows: count, groups, width, count: true_width, epsilon: 1e-6 };
        let at = |memory: &Memory<f32>, step| Stepped { at: memory.address(), step };
        rms_norm(&*device, shape, at(&x_on, step), gain_on.address(), at(&y_on, packed), inverse_on.address()).unwrap();
        prop_assert!(apart(&y_on.download().unwrap(), &y) < 1e-5);
        prop_assert!(apart(&inverse_on.download().unwrap(), &inverse) < 1e-5);
        cpu_norm::rms_norm_backward(isa, norm, count, &x, step, &gain, &inverse, &dy, packed, &mut dx, packed, add, &mut dgain);
        rms_norm_backward(
            &device, shape, at(&x_on, step), gain_on.address(), inverse_on.address(), at(&dy_on, packed), at(&dx_on, packed), add,
            dgain_on.address(),
        ).unwrap();
        prop_assert!(apart(&dx_on.download().unwrap(), &dx) < 1e-4);
        prop_assert!(apart(&dgain_on.download().unwrap(), &dgain) < 1e-4);
    }

    #[test]
    fn part_of_each_head_is_rotated_there_and_back(count in 1usize..30, heads in 1usize..5, wide in 1usize..9, part in 0usize..9, seed: u64) {
        let (width, isa, device) = (wide * 16, Isa::best(), twin(seed));
        let pairs = (width / 2 * part / 8).max(usize::from(part > 0));
        let frequencies: Vec<f32> = (0..pairs).map(|i| 100f32.powf(-(i as f32) / pairs as f32)).collect();
        let positions: Vec<u32> = (0..count).map(|i| ((i * 37 + seed as usize % 90) % 100) as u32).collect();
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for position in 0..100 {
            for f in &frequencies {
                let (sin, cos) = (position as f32 * f).sin_cos();
                cosines.push(cos);
                sines.push(sin);
            }
        }
        let mut rotary = Rotary::new(width, CpuAngles::Frequencies(frequencies), 1.0, Pairs::Fused);
        rotary.extend(100);
        let x = random(count * heads * width, seed);
        let on = |x: &[f32]| Memory::from_slice(&device, x).unwrap();
        let (x_on, cosines, sines) = (on(&x), on(&cosines), on(&sines));
        let places = Memory::from_slice(&device, &positions).unwrap();
        let angles = Angles { cosines: cosines.address(), sines: sines.address(), pairs };
        for back in [false, true] {
            let (mut framed, mut y) = (Vec::new(), vec![0.0; x.len()]);
            rotary.frame(&mut framed, x.len()).copy_from_slice(&x);
            cpu_rotate(isa, &rotary, heads, &positions, &framed, &mut y, back);
            let y_on = Memory::<f32>::new(&device, x.len()).unwrap();
            let at = |memory: &Memory<f32>| Stepped { at: memory.address(), step: heads * width };
            rotate(&*device, angles, places.address(), count, heads, width, at(&x_on), at(&y_on), back).unwrap();
            prop_assert!(apart(&y_on.download().unwrap(), &y) < 1e-6);
        }
    }

    #[test]
    fn rows_are_gathered_scattered_and_added(count in 1usize..200, width in 1usize..150, among in 1usize..9, seed: u64) {
        let (device, wide) = (twin(seed), padded(width));
        let index: Vec<u32> = (0..count).map(|i| (uniform(seed, i as u64) * among as f64) as u32).collect();
        let (from, mut to) = (random(count * wide, seed ^ 1), random(among * wide, seed ^ 2));
        let on = |x: &[f32]| Memory::from_slice(&device, x).unwrap();
        let (index_on, from_on, to_on) = (Memory::from_slice(&device, &index).unwrap(), on(&from), on(&to));
        let gathered = Memory::<f32>::new(&device, count * wide).unwrap();
        rows::gather(&*device, to_on.address(), index_on.address(), gathered.address(), count, wide).unwrap();
        let expected: Vec<f32> = index.iter().flat_map(|&i| to[i as usize * wide..][..wide].to_vec()).collect();
        prop_assert_eq!(gathered.download().unwrap(), expected);
        rows::scatter_add(&*device, from_on.address(), index_on.address(), to_on.address(), count, wide).unwrap();
        cpu_rows::scatter_add(Isa::best(), wide, &index, &from, &mut to);
        prop_assert_eq!(to_on.download().unwrap(), to.clone());
        let sum_on = on(&to[..wide]);
        let pieces = rows::Pieces { at: from_on.address(), step: wide, other: (0, 0), scales: 0, rows: count, groups: 1, width: wide };
        rows::sum(&device, pieces, sum_on.address()).unwrap();
        let mut sum = to[..wide].to_vec();
        cpu_rows::sum_rows(Isa::best(), count, &from, &mut sum);
        prop_assert!(apart(&sum_on.download().unwrap(), &sum) < 1e-5);
        rows::add_row(&*device, sum_on.address(), from_on.address(), count, wide).unwrap();
        let row = sum_on.download().unwrap();
        let expected: Vec<f32> = from.iter().enumerate().map(|(i, x)| x + row[i % wide]).collect();
        prop_assert_eq!(from_on.download().unwrap(), expected);
    }

    #[test]
    fn losses_and_their_gradients_are_the_cpus(count in 1usize..12, vocabulary in 1usize..2000, seed: u64) {
        let (device, isa, width) = (twin(seed), Isa::best(), padded(vocabulary));
        let mut logits: Vec<f32> = random(count * width, seed).iter().map(|x| x * 9.0).collect();
        logits.chunks_exact_mut(width).for_each(|row| row[vocabulary..].fill(0.0));
        let targets: Vec<u32> = (0..count).map(|i| (uniform(seed ^ 1, i as u64) * vocabulary as f64) as u32).collect();
        let scale = random(count, seed ^ 2);
        let on = Memory::from_slice(&device, &logits).unwrap();
        let shape = Logits { at: on.address(), rows: count, vocabulary, width };
        let [logprobs, entropies] = log_probabilities(&device, shape, &targets).unwrap();
        for (row, x) in logits.chunks_exact(width).enumerate() {
            let expected = x[targets[row] as usize] - log_sum_exp(isa, vocabulary, x);
            prop_assert!((logprobs[row] - expected).abs() < 1e-5 * expected.abs().max(1.0));
            let expected = entropy(isa, vocabulary, x);
            prop_assert!((entropies[row] - expected).abs() < 1e-5 * expected.abs().max(1.0));
        }
        let loss = cross_entropy(&device, shape, &targets, &scale).unwrap();
        let expected = cpu_cross_entropy(isa, vocabulary, width, &targets, &scale, &mut logits);
        prop_assert!((loss - expected).abs() < 1e-5 * scale.iter().map(|s| f64::from(s.abs())).sum::<f64>() * 20.0);
        prop_assert!(apart(&on.download().unwrap(), &logits) < 1e-4);
    }

    #[test]
    fn the_step_is_the_cpus(count in 1usize..600, step in 1u32..50, seed: u64) {
        let (device, count) = (twin(seed), count * 16);
        let adam = cpu_adamw::AdamW {
            learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, gradient_scale: 0.5, step,
        };
        let gradient = random(count, seed);
        let (mut weight, mut first) = (random(count, seed ^ 1), random(count, seed ^ 2));
        let mut second: Vec<f32> = random(count, seed ^ 3).iter().map(|x| x.abs()).collect();
        let on = |x: &[f32]| Memory::from_slice(&device, x).unwrap();
        let (g, w, m, v) = (on(&gradient), on(&weight), on(&first), on(&second));
        let rounded = Memory::<u16>::new(&device, count).unwrap();
        let cpu_adamw::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, step } = adam;
        let on_card = AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, step };
        adamw(&*device, on_card, g.address(), w.address(), m.address(), v.address(), rounded.address(), count).unwrap();
        cpu_adamw::adamw(Isa::best(), adam, &gradient, &mut weight, &mut first, &mut second);
        for (found, expected) in [(&w, &weight), (&m, &first), (&v, &second)] {
            prop_assert!(apart(&found.download().unwrap(), expected) < 1e-6);
        }
        let halves: Vec<u16> = w.download().unwrap().into_iter().map(common::bf16).collect();
        prop_assert_eq!(rounded.download().unwrap(), halves);
        let sum: Vec<f32> = w.download().unwrap().iter().zip(&gradient).map(|(a, b)| a + b).collect();
        add(&*device, g.address(), w.address(), count).unwrap();
        prop_assert_eq!(w.download().unwrap(), sum);
        let squares: f64 = gradient.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        prop_assert!((sum_squares(&device, g.address(), count).unwrap() / squares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn draws_are_the_cpus(count in 1usize..9, vocabulary in 1usize..3000, flat: bool, seed: u64) {
        let (device, width) = (twin(seed), padded(vocabulary));
        let scale = if flat { 0.01 } else { 8.0 };
        // Steps, so that many logits are equal.
        let mut logits: Vec<f32> = random(count * width, seed).iter().map(|x| (x * 64.0).round() / 64.0 * scale).collect();
        // The first row has a NaN, the second +inf as well, the third nothing.
        let wrong = [(0, f32::NAN), (vocabulary / 3, f32::INFINITY)];
        for (row, x) in logits.chunks_exact_mut(width).take(2).enumerate() {
            wrong[..=row].iter().for_each(|&(at, wrong)| x[at] = wrong);
        }
        logits.chunks_exact_mut(width).skip(2).take(1).for_each(|x| x.fill(f32::NAN));
        let draws: Vec<Draw> = (0..count).map(|row| Draw {
            key: seed ^ row as u64,
            counter: row as u64 * 7,
            temperature: [0.0, 0.3, 1.0, 2.5][(seed as usize + row) % 4],
            min_p: [0.0, 0.05][row % 2],
        }).collect();
        let on = Memory::from_slice(&device, &logits).unwrap();
        let found = draw(&device, Logits { at: on.address(), rows: count, vocabulary, width }, &draws).unwrap();
        for (row, d) in draws.iter().enumerate() {
            let x = &logits[row * width..][..vocabulary];
            let expected = if d.temperature == 0.0 { greedy(x) } else {
                let cuts = Cuts { temperature: d.temperature, top_k: 0, top_p: 1.0, min_p: d.min_p };
                cpu_draw(x, cuts, uniform(d.key, d.counter), &mut Vec::new())
            };
            prop_assert_eq!(found[row].map(|token| token as usize), expected);
        }
    }
}
