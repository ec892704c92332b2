//! The walk over a backend that writes down what it is asked for: one order of blocks for every kind of pass.

use std::borrow::Cow;
use std::sync::Mutex;

use moevolve_kernels::Isa;
use moevolve_kernels::frequencies::Scaling;
use moevolve_kernels::rope::{Angles, Pairs, Rotary};
use moevolve_kernels::worker_pool::WorkerPool;

use super::{Keep, KeyValues, Pass};
use crate::backend::cpu::{self, Cpu, KvCache, Memory};
use crate::backend::{Backend, Host};
use crate::batch::{Packed, Paged, Positions, QueryRows};
use crate::config::Config;
use crate::draw::{Choice, Draw, DrawnToken, Sampler};
use crate::engine::Example;
use crate::layout::Layout;
use crate::objective::{LossTargets, Sums};
use crate::parameters::Parameters;
use crate::train::{Trainer, taught};

const CONFIG: &str = r#"{"model_type": "minimax_m2", "vocab_size": 40, "hidden_size": 32, "intermediate_size": 16,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}"#;

/// The processor's backend, and the names of the blocks that it was asked for.
#[derive(Clone, Copy)]
struct Recorded<'a> {
    cpu: Cpu<'a>,
    calls: &'a Mutex<Vec<&'static str>>,
}

/// Methods that are passed on, those after `recorded` written down.
macro_rules! pass_on {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?;)* recorded: $(fn $block:ident($($barg:ident: $btype:ty),* $(,)?);)*) => {
        $(fn $name(&self, $($arg: $type),*) $(-> $out)? {
            self.cpu.$name($($arg),*)
        })*
        $(#[allow(clippy::too_many_arguments)]
        fn $block(&self, $($barg: $btype),*) {
            self.calls.lock().expect("no test panics with it").push(stringify!($block));
            self.cpu.$block($($barg),*);
        })*
    };
}

type Gradients = cpu::ActivationGradients;

impl Backend for Recorded<'_> {
    type Device = Memory;

    fn host(&self) -> Host<'_> {
        self.cpu.host()
    }

    fn download<'b>(&self, buffer: &'b Vec<f32>) -> Cow<'b, [f32]> {
        self.cpu.download(buffer)
    }

    fn logits_of<'h>(&self, head: &'h cpu::Head) -> Cow<'h, [f32]> {
        self.cpu.logits_of(head)
    }

    fn hidden_of<'h>(&self, head: &'h cpu::Head) -> Cow<'h, [f32]> {
        self.cpu.hidden_of(head)
    }

    fn sample(&self, head: &mut cpu::Head, samplers: &mut [impl Sampler]) {
        self.cpu.sample(head, samplers);
    }

    pass_on! {
        fn prefill() -> [usize; 2];
        fn kv_cache() -> KvCache;
        fn free_memory() -> usize;
        fn block_bytes() -> usize;
        fn reserve_kv(cache: &KvCache, count: usize);
        fn trim_kv(cache: &KvCache, count: usize);
        fn copy_kv(cache: &KvCache, from: u32, to: u32);
        fn upload(values: &[f32], buffer: &mut Vec<f32>);
        fn count_experts(a: &cpu::Activations, load: &mut [u64]);
        fn loss(targets: LossTargets<'_>, head: &mut cpu::Head, sums: &mut Sums) -> f64;
        fn clear_gradient(gradient: &mut Vec<f32>);
        fn mask_gradient(gradient: &mut Vec<f32>);
        recorded:
        fn embed(ids: &[u32], out: &mut Vec<f32>);
        fn qkv(layer: usize, all: &QueryRows, rows: &QueryRows, input: &Vec<f32>, a: &mut cpu::Activations, w: &mut cpu::Workspace);
        fn attend(layer: usize, batch: &Packed, rows: &QueryRows, keep: bool, a: &mut cpu::Activations, w: &mut cpu::Workspace);
        fn recall(layer: usize, batch: &Packed, rows: &QueryRows, input: &Vec<f32>, a: &mut cpu::Activations, w: &mut cpu::Workspace);
        fn recall_paged(layer: usize, cache: &KvCache, sequences: &[Paged<'_>], all: &QueryRows, rows: &QueryRows, input: &Vec<f32>, a: &mut cpu::Activations, w: &mut cpu::Workspace);
        fn forget_states(cache: &KvCache, block: u32);
        fn recall_backward(layer: usize, batch: &Packed, rows: &QueryRows, input: &Vec<f32>, a: &cpu::Activations, d: &mut Gradients, gradient: &mut Vec<f32>);
        fn append_kv(layer: usize, cache: &KvCache, sequences: &[Paged<'_>], a: &cpu::Activations, w: &mut cpu::Workspace);
        fn attend_paged(layer: usize, cache: &KvCache, sequences: &[Paged<'_>], rows: &QueryRows, a: &mut cpu::Activations, w: &mut cpu::Workspace);
        fn mlp_or_moe(layer: usize, rows: &QueryRows, input: &Vec<f32>, keep: bool, a: &mut cpu::Activations, w: &mut cpu::Workspace, out: &mut Vec<f32>);
        fn logits(rows: usize, output: &Vec<f32>, head: &mut cpu::Head);
        fn logits_backward(rows: usize, output: &Vec<f32>, head: &cpu::Head, d: &mut Gradients, gradient: &mut Vec<f32>);
        fn mlp_or_moe_backward(layer: usize, rows: &QueryRows, a: &cpu::Activations, w: &mut cpu::Workspace, d: &mut Gradients, gradient: &mut Vec<f32>);
        fn attend_backward(layer: usize, batch: &Packed, rows: &QueryRows, a: &cpu::Activations, w: &mut cpu::Workspace, d: &mut Gradients, gradient: &mut Vec<f32>);
        fn qkv_backward(layer: usize, batch: &Packed, rows: &QueryRows, input: &Vec<f32>, a: &cpu::Activations, d: &mut Gradients, gradient: &mut Vec<f32>);
        fn embed_backward(ids: &[u32], d: &Gradients, gradient: &mut Vec<f32>);
    }
}

/// Calls `work` with a small random network, and its `record`.
fn with_network<T>(work: impl FnOnce(&Recorded<'_>, &dyn Fn() -> Vec<&'static str>) -> T) -> T {
    let config = Config::parse(CONFIG, "config.json").expect("a configuration");
    let layout = Layout::new(&config);
    let mut parameters = Parameters::random(&config, &layout, 3);
    parameters.prepare_backward(&layout);
    let angles = Angles::Frequencies(Scaling::Plain.frequencies(config.rotated, 1e4));
    let mut rotary = Rotary::new(layout.widths.head, angles, 1.0, Pairs::Fused);
    rotary.extend(64);
    let (pool, calls) = (WorkerPool::new(1), Mutex::default());
    let backend = Recorded {
        cpu: Cpu {
            config: &config,
            layout: &layout,
            weights: &parameters,
            pool: &pool,
            rotary: &rotary,
            isa: Isa::best(),
        },
        calls: &calls,
    };
    let record = || std::mem::take(&mut *calls.lock().expect("no test panics with it"));
    work(&backend, &record)
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (7 * i * i + 3 * i) % 40).collect()
}

/// Two sequences whose last tokens' outputs are used.
fn batch() -> Packed {
    let mut batch = Packed::default();
    batch.clear();
    for count in [11, 5] {
        let from = Positions::From(0);
        batch.push(
            &ids(count),
            count as usize,
            &from,
            count as usize - 3..count as usize,
        );
    }
    batch
}

#[test]
fn every_pass_walks_over_the_layers_in_one_order() {
    let layer = ["qkv", "attend", "mlp_or_moe"];
    let forward: Vec<&str> = ["embed"]
        .into_iter()
        .chain([layer; 3].concat())
        .chain(["logits"])
        .collect();
    with_network(|backend, record| {
        for keep in [Keep::Nothing, Keep::Inputs, Keep::All] {
            Pass::default().packed(backend, &batch(), keep, |_, _| {});
            assert_eq!(record(), forward, "{keep:?}");
        }
    });
}

#[test]
fn what_was_not_kept_is_computed_again_and_gradients_are_the_same() {
    let gradient = |keep| {
        with_network(|backend, record| {
            let (batch, mut pass) = (batch(), Pass::default());
            let (mut gradient, mut d) = (Vec::new(), Gradients::default());
            backend.clear_gradient(&mut gradient);
            pass.packed(backend, &batch, keep, |_, _| {});
            let targets = LossTargets {
                tokens: &ids(6),
                scale: &mut [0.5; 6],
                policy: None,
            };
            backend.loss(targets, &mut pass.head, &mut Sums::default());
            record();
            pass.backward(backend, &batch, &mut d, &mut gradient);
            (gradient, record())
        })
    };
    let ((whole, calls), (again, more)) = (gradient(Keep::All), gradient(Keep::Inputs));
    assert!(whole.iter().any(|&x| x != 0.0));
    assert_eq!(whole, again);
    let layer = ["mlp_or_moe_backward", "attend_backward", "qkv_backward"];
    let backward: Vec<&str> = ["logits_backward"]
        .into_iter()
        .chain([layer; 3].concat())
        .chain(["embed_backward"])
        .collect();
    assert_eq!(calls, backward);
    let again: Vec<&str> = ["qkv", "attend", "mlp_or_moe"]
        .into_iter()
        .chain(layer)
        .collect();
    let of_layers = [&layer[..], &again, &again].concat();
    assert_eq!(more[1..more.len() - 1], of_layers);
}

#[test]
fn a_trainer_learns_through_any_backend() {
    let example = Example {
        ids: ids(9),
        answer_start: 6,
        weight: 1.0,
        positions: Positions::From(0),
    };
    with_network(|backend, record| {
        let batch = [example.clone(), example];
        let learn = |keep| Trainer::default().accumulate(backend, &taught(&batch), None, keep);
        let (loss, calls) = (learn(Keep::All), record());
        assert!(loss > 0.0);
        assert_eq!(loss, learn(Keep::Inputs));
        let count = |name| calls.iter().filter(|&&call| call == name).count();
        // Each of two shards reads its example, and goes back through every layer.
        assert_eq!(
            [count("embed"), count("qkv"), count("qkv_backward")],
            [2, 6, 6]
        );
    });
}

#[test]
fn a_cache_in_blocks_gives_the_logits_of_a_packed_batch() {
    with_network(|backend, record| {
        let ids = ids(21);
        let mut batch = Packed::default();
        batch.clear();
        batch.push(&ids, 21, &Positions::From(0), 20..21);
        let mut packed = Pass::default();
        packed.packed(backend, &batch, Keep::Nothing, |_, _| {});
        record();
        // Ids in any order; twenty tokens of the prompt, then the last one.
        let (cache, mut paged) = (backend.kv_cache(), Pass::default());
        backend.reserve_kv(&cache, 3);
        for part in [0..20, 20..21] {
            let (mut all, mut outputs) = (QueryRows::default(), QueryRows::default());
            all.whole = true;
            for (row, index) in part.clone().enumerate() {
                all.push(row, index, index, 21);
            }
            let ends = part.end == 21;
            if ends {
                outputs.push(0, 20, 20, 21);
                outputs.whole = true;
            }
            let sequences = [Paged {
                blocks: &[2, 0],
                first: part.start,
                tokens: part.len(),
                outputs: usize::from(ends),
            }];
            let attention = KeyValues::Paged {
                cache: &cache,
                sequences: &sequences,
            };
            let (part, keep) = (&ids[part], Keep::Nothing);
            paged.forward(backend, part, &all, &outputs, &attention, keep, |_, _| {});
        }
        assert_eq!(
            backend.logits_of(&paged.head)[..40],
            backend.logits_of(&packed.head)[..40]
        );
        assert_eq!(record().iter().filter(|&&call| call == "logits").count(), 1);
    });
}

/// Draws so many greedy tokens from one row, each barred once it was drawn; refuses the draws after `last`.
struct Barring {
    row: usize,
    left: usize,
    last: usize,
    drawn: Vec<DrawnToken>,
}

impl Sampler for Barring {
    fn next(&mut self) -> Option<Draw> {
        (self.left > 0).then_some(Draw {
            row: self.row,
            choice: Choice::Greedy,
            bent: true,
            top: 1,
        })
    }

    fn bend(&mut self, logits: &mut [f32]) -> bool {
        for drawn in &self.drawn {
            logits[drawn.token as usize] = f32::NEG_INFINITY;
        }
        let refused = self.left <= self.last;
        self.left -= usize::from(refused);
        !refused
    }

    fn refuse(&mut self) {
        self.left -= 1;
    }

    fn take(&mut self, drawn: DrawnToken) {
        self.left -= 1;
        self.drawn.push(drawn);
    }
}

#[test]
fn draws_of_a_sampler_follow_one_another_from_bent_logits_with_plain_log_probabilities() {
    with_network(|backend, _| {
        let mut pass = Pass::default();
        pass.packed(backend, &batch(), Keep::Nothing, |_, _| {});
        let rows = backend.logits_of(&pass.head)[..6 * 48].to_vec();
        let barring = |row| Barring {
            row,
            left: 5,
            last: 2,
            drawn: Vec::new(),
        };
        let mut samplers: Vec<Barring> = (0..6).map(barring).collect();
        backend.sample(&mut pass.head, &mut samplers);
        for (sampler, row) in samplers.iter().zip(rows.chunks(48)) {
            let mut order: Vec<usize> = (0..40).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let tokens: Vec<usize> = sampler.drawn.iter().map(|d| d.token as usize).collect();
            assert_eq!(tokens, order[..3]);
            let mass = row[..40].iter().map(|&x| f64::from(x).exp()).sum::<f64>();
            for drawn in &sampler.drawn {
                let logprob = f64::from(row[drawn.token as usize]) - mass.ln();
                assert!((f64::from(drawn.logprob) - logprob).abs() < 1e-5);
                assert_eq!(drawn.top[0].0 as usize, order[0]);
            }
        }
    });
}
