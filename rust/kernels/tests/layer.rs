//! The read-only block gives the bits of the trained one, in either precision, on any team.

mod common;

use common::{everywhere, random};
use moevolve_kernels::arithmetic::OWN;
use moevolve_kernels::experts::{PackedBlock, Places, Saved, Scratch, Shape, forward};
use moevolve_kernels::layer::{Layer, Weights};
use moevolve_kernels::panels::{Panels, Side};
use moevolve_kernels::route::Rule;
use moevolve_kernels::team::Team;
use moevolve_kernels::{Isa, Precision, padded};
use proptest::prelude::*;

const RULES: [Rule; 2] = [Rule::Sigmoid, Rule::Softmax { normalised: true }];

struct Case {
    shape: Shape,
    router: Vec<f32>,
    bias: Vec<f32>,
    gate_up: Vec<f32>,
    down: Vec<f32>,
    x: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, tokens: usize, seed: u64) -> Self {
        let size = shape.experts * shape.hidden * shape.intermediate;
        Self {
            shape,
            router: random(shape.experts * shape.hidden, seed),
            bias: random(shape.experts, seed ^ 1),
            gate_up: random(2 * size, seed ^ 2),
            down: random(size, seed ^ 3),
            x: random(tokens * shape.hidden, seed ^ 4),
        }
    }

    fn layer(&self, isa: Isa, team: &Team, precision: Precision) -> Vec<f32> {
        let weights = Weights {
            router: &self.router,
            bias: &self.bias,
            gate_up: &self.gate_up,
            down: &self.down,
        };
        let mut layer = Layer::new(isa, team, self.shape, precision, weights);
        let mut out = vec![f32::NAN; self.x.len()];
        // Twice: buffers are used again.
        layer.forward(
            isa,
            team,
            &random(3 * self.shape.hidden, 8),
            &mut vec![0.0; 3 * self.shape.hidden],
        );
        layer.forward(isa, team, &self.x, &mut out);
        out
    }

    fn trained(&self, precision: Precision) -> Vec<f32> {
        let Shape {
            hidden,
            intermediate,
            experts,
            ..
        } = self.shape;
        let (width, size) = (padded(experts), hidden * intermediate);
        let gates = width * hidden;
        let places = Places {
            router: 0..gates,
            gate_up: (0..experts)
                .map(|e| gates + 3 * e * size..gates + (3 * e + 2) * size)
                .collect(),
            down: (0..experts)
                .map(|e| gates + (3 * e + 2) * size..gates + (3 * e + 3) * size)
                .collect(),
        };
        let isa = Isa::best();
        let mut panels = Panels::new(
            Side::Forward,
            precision,
            gates + 3 * experts * size,
            std::iter::once(0..gates),
        );
        let mut router = self.router.clone();
        router.resize(gates, 0.0);
        panels.whole().pack(isa, 0, width, hidden, &router);
        for e in 0..experts {
            let (up, down) = (places.gate_up[e].start, places.down[e].start);
            panels.whole().pack(
                isa,
                up,
                2 * intermediate,
                hidden,
                &self.gate_up[2 * e * size..][..2 * size],
            );
            panels.whole().pack(
                isa,
                down,
                hidden,
                intermediate,
                &self.down[e * size..][..size],
            );
        }
        let (mut out, zeros) = (vec![f32::NAN; self.x.len()], vec![0.0; self.x.len()]);
        let block = PackedBlock {
            isa,
            shape: self.shape,
            places: &places,
            panels: &panels,
        };
        forward(
            isa,
            &OWN,
            self.shape,
            &block,
            &self.bias,
            self.x.len() / hidden,
            &self.x,
            &zeros,
            &mut out,
            &mut Saved::default(),
            &mut Scratch::default(),
        );
        out
    }
}

proptest! {
    #![proptest_config(common::cases(24))]

    #[test]
    fn it_equals_the_trained_block(
        rule in 0usize..2, experts in 1usize..20, chosen in 1usize..5, hidden in 1usize..12, intermediate in 1usize..12, tokens in 0usize..90, seed: u64,
    ) {
        let shape = Shape { hidden: 16 * hidden, intermediate: 16 * intermediate, experts, chosen: chosen.min(experts), rule: RULES[rule] };
        let case = Case::new(shape, tokens, seed);
        for precision in [Precision::F32, Precision::Bf16] {
            let expected = case.trained(precision);
            for threads in [1, 3] {
                let team = Team::new(threads);
                let found = everywhere(|isa| case.layer(isa, &team, precision));
                prop_assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {}", precision, threads);
            }
        }
    }
}
