//! Seeded bugs: each change of a kernel must be found by the checks that all kernels pass, on one ragged shape.

mod common;
mod library;

use std::sync::Arc;

use common::{Case, Sizes, apart, random};
use library::Sources;
use moevolve_kernels::padded;
use moevolve_kernels_cuda::attention::{Heads, KeyValues, Queries, attend};
use moevolve_kernels_cuda::experts::{Combination, Experts, Gradients};
use moevolve_kernels_cuda::loss::{Logits, log_probabilities};
use moevolve_kernels_cuda::products::Format;
use moevolve_kernels_cuda::sample::{Draw, draw};
use moevolve_kernels_cuda::{Device, Memory, Result};

struct Bug {
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const BUGS: &[Bug] = &[
    Bug {
        what: "no barrier between filling the router's tile and reading it",
        file: "route.cu",
        from: "block_sync();\n      for (unsigned k = 0; k < ROUTE_DEPTH; k++) {",
        to: "for (unsigned k = 0; k < ROUTE_DEPTH; k++) {",
    },
    Bug {
        what: "no barrier between reading sums and adding to them",
        file: "route.cu",
        from: "block_sync();\n    for (int i = 0; i < 3; i++) sums[i * CHUNK + t] += more[i];",
        to: "for (int i = 0; i < 3; i++) sums[i * CHUNK + t] += more[i];",
    },
    Bug {
        what: "counts that include the copy itself",
        file: "route.cu",
        from: "same & ((1u << lane()) - 1)",
        to: "same & ((2u << lane()) - 1)",
    },
    Bug {
        what: "the selection bias in the weights",
        file: "route.cu",
        from: "score = scores[row * r.among + at];",
        to: "score = logits[row * r.among + at];",
    },
    Bug {
        what: "an empty expert's tile taken for the next one's",
        file: "tensor.cuh",
        from: "if (p.tiles[middle] <= number) low = middle;",
        to: "if (p.tiles[middle] < number) low = middle;",
    },
    Bug {
        what: "rows past an expert's end",
        file: "tensor.cuh",
        from: "return {low, first, first + size < end ? first + size : end};",
        to: "return {low, first, first + size};",
    },
    Bug {
        what: "one group of copies too few waited for",
        file: "product_bf16.cuh",
        from: "wait_copies<STAGES - 2>();",
        to: "wait_copies<STAGES - 1>();",
    },
    Bug {
        what: "no barrier before a stage is read",
        file: "product_bf16.cuh",
        from: "wait_copies<STAGES - 2>();\n    block_sync();",
        to: "wait_copies<STAGES - 2>();",
    },
    Bug {
        what: "the stage overwritten that is being multiplied",
        file: "product_bf16.cuh",
        from: "into = later % STAGES * STAGE",
        to: "into = s % STAGES * STAGE",
    },
    Bug {
        what: "columns past a row's end",
        file: "product_bf16.cuh",
        from: "unsigned valid = r < tile.end ? valid_of(k0 + k, depth) : 0;",
        to: "unsigned valid = r < tile.end && k0 + k < depth ? 8 : 0;",
    },
    Bug {
        what: "halves of a fragment exchanged",
        file: "product_bf16.cuh",
        from: "(n + l / 16 * 8 + l % 8) * ALONG + k + l / 8 % 2 * 8",
        to: "(n + l / 8 % 2 * 8 + l % 8) * ALONG + k + l / 16 * 8",
    },
    Bug {
        what: "no barrier between reading a tile and filling it again",
        file: "product_f32.cu",
        from: "    block_sync();\n  }\n  float *c",
        to: "  }\n  float *c",
    },
    Bug {
        what: "ups taken for gates",
        file: "product_f32.cu",
        from: "return column / 4 % 2 ? p.n + unit : unit;",
        to: "return column / 4 % 2 ? unit : p.n + unit;",
    },
    Bug {
        what: "a list read before it is written",
        file: "few.cu",
        from: "  block_sync();\n  return list[0]",
        to: "  return list[0]",
    },
    Bug {
        what: "rows added up in the order of tokens instead of experts",
        file: "combine.cu",
        from: "row = c.slots ? c.slots[copy] : copy;",
        to: "row = copy;",
    },
    Bug {
        what: "a gradient without the routing weight",
        file: "combine.cu",
        from: "    slope *= weight;\n",
        to: "",
    },
];

/// Bugs of the kernels around the experts.
const BUGS_AROUND: &[Bug] = &[
    Bug {
        what: "a query read before all lanes wrote it",
        file: "attention.cu",
        from: "query[at + d] = a.queries[size_t(pair) * a.width + d];\n  warp_sync();",
        to: "query[at + d] = a.queries[size_t(pair) * a.width + d];",
    },
    Bug {
        what: "a key too many",
        file: "attention.cu",
        from: "unsigned end = a.last[row] + 1;\n  for (unsigned base = 0; base < end; base += WARP_SIZE) {\n    unsigned position",
        to: "unsigned end = a.last[row] + 2;\n  for (unsigned base = 0; base < end; base += WARP_SIZE) {\n    unsigned position",
    },
    Bug {
        what: "sums of warps read before they are written",
        file: "loss.cu",
        from: "if (lane() == 0) scratch[warp()] = x;\n  block_sync();\n  float sum",
        to: "if (lane() == 0) scratch[warp()] = x;\n  float sum",
    },
    Bug {
        what: "places of sums overwritten while they are read",
        file: "loss.cu",
        from: "sum += scratch[w];\n  block_sync();",
        to: "sum += scratch[w];",
    },
    Bug {
        what: "masses of threads read before they are written",
        file: "sample.cu",
        from: "sums[t] = sum;\n  block_sync();",
        to: "sums[t] = sum;",
    },
];

const AROUND: [&str; 3] = ["attention.cu", "loss.cu", "sample.cu"];

/// Numbers from the kernels around the experts.
fn around(device: &Arc<dyn Device>) -> Result<Vec<f32>> {
    let heads = Heads {
        queries: 4,
        keys: 2,
        width: 40,
        scale: 0.2,
    };
    let (tokens, row) = (45, 80);
    let (queries, keys) = (random(tokens * 160, 1), random(tokens * row, 2));
    let (queries, keys) = (
        Memory::from_slice(device, &queries)?,
        Memory::from_slice(device, &keys)?,
    );
    let last: Vec<u32> = (0..tokens as u32).collect();
    let (last, first) = (
        Memory::from_slice(device, &last)?,
        Memory::from_slice(device, &vec![0u32; tokens])?,
    );
    let (out, logs) = (
        Memory::<f32>::new(device, tokens * 160)?,
        Memory::<f32>::new(device, tokens * 4)?,
    );
    let q = Queries {
        at: queries.address(),
        rows: tokens,
        last: last.address(),
        first: first.address(),
    };
    let from = KeyValues::Packed {
        keys: (keys.address(), row),
        values: (keys.address(), row),
    };
    attend(&**device, heads, q, from, out.address(), logs.address())?;
    let logits = Memory::from_slice(device, &random(3 * 640, 3))?;
    let shape = Logits {
        at: logits.address(),
        rows: 3,
        vocabulary: 600,
        width: 640,
    };
    let [logprobs, entropies] = log_probabilities(device, shape, &[5, 599, 0])?;
    let draws = [0, 1, 2].map(|key| Draw {
        key,
        counter: 4,
        temperature: 1.0,
        min_p: 0.0,
    });
    let tokens = draw(device, shape, &draws)?
        .into_iter()
        .map(|token| token.map_or(f32::NAN, |token| token as f32));
    Ok([
        out.download()?,
        logs.download()?,
        logprobs,
        entropies,
        tokens.collect(),
    ]
    .concat())
}

#[test]
fn the_checks_find_every_seeded_bug_around_the_experts() {
    let sources = Sources::new(&AROUND);
    let expected = around(&sources.unchanged().device(0)).unwrap();
    for bug in BUGS_AROUND {
        let library = sources.changed(bug.file, bug.from, bug.to);
        let found = around(&library.device(1));
        assert!(
            found.is_err() || found.is_ok_and(|found| found != expected),
            "not found: {}",
            bug.what
        );
    }
}

const SOURCES: [&str; 5] = [
    "route.cu",
    "product_f32.cu",
    "product_bf16.cu",
    "few.cu",
    "combine.cu",
];

/// What the CPU computes.
struct Expected {
    output: Vec<f32>,
    gradients: [Vec<f32>; 4],
    few: Vec<f32>,
}

impl Expected {
    fn of(case: &Case, few: &Case) -> Self {
        Self {
            output: case.forward_on_cpu().0,
            gradients: case.backward_on_cpu(&random(case.h.len(), 5)),
            few: few.forward_on_cpu().0,
        }
    }
}

/// Whether everything is as the CPU computes it.
fn right(device: &Arc<dyn Device>, case: &Case, few: &Case, expected: &Expected) -> Result<bool> {
    let experts = Experts::new(device);
    for (format, near, slope_near) in [(Format::F32, 1e-5, 1e-4), (Format::Bf16, 1e-2, 2e-2)] {
        let on = case.on(device, format);
        let block = on.block(case);
        let (h, residual, out) = (on.h.address(), on.residual.address(), on.out.address());
        let saved = experts.forward(&block, case.tokens, h, residual, out, Combination::Ordered)?;
        if apart(&on.out.download()?, &expected.output) >= near {
            return Ok(false);
        }
        let dout = Memory::from_slice(device, &random(case.h.len(), 5))?;
        let dh = Memory::<f32>::new(device, case.h.len())?;
        let router = Memory::<f32>::zeros(device, padded(case.experts) * case.hidden)?;
        let (up, down) = (
            Memory::<f32>::zeros(device, case.gate_up.len())?,
            Memory::<f32>::zeros(device, case.down.len())?,
        );
        let to = Gradients {
            router: router.address(),
            gate_up: up.address(),
            down: down.address(),
            gate_up_apart: case.gate_up.len() / case.experts,
            down_apart: case.down.len() / case.experts,
        };
        experts.backward(&block, &saved, h, dout.address(), dh.address(), to)?;
        let mut router = router.download()?;
        router.truncate(case.router.len());
        let found = [dh.download()?, router, up.download()?, down.download()?];
        if !found
            .iter()
            .zip(&expected.gradients)
            .all(|(found, expected)| apart(found, expected) < slope_near)
        {
            return Ok(false);
        }
    }
    let on = few.on(device, Format::Bf16);
    experts.few(
        &on.block(few),
        few.tokens,
        on.h.address(),
        on.residual.address(),
        on.out.address(),
    )?;
    Ok(apart(&on.out.download()?, &expected.few) < 1e-5)
}

#[test]
fn the_checks_find_every_seeded_bug() {
    // Many experts for few copies: some are empty, some have several tiles. Widths end in the middle of a tile and of a step.
    let sizes = Sizes {
        rule: 0,
        hidden: 76,
        intermediate: 72,
        experts: 9,
        chosen: 2,
        tokens: 330,
    };
    let mut case = Case::new(sizes, true, 21);
    // A few experts get most of the tokens, one gets none.
    case.bias = (0..9)
        .map(|e| [6.0, 5.2, -9.0, 5.0, 5.0, 5.1, 5.0, 4.9, 5.3][e])
        .collect();
    let few = Case::new(Sizes { tokens: 7, ..sizes }, true, 22);
    let sources = Sources::new(&SOURCES);
    let expected = Expected::of(&case, &few);
    assert!(right(&sources.unchanged().device(0), &case, &few, &expected).unwrap());
    let mut missed = Vec::new();
    for bug in BUGS {
        let library = sources.changed(bug.file, bug.from, bug.to);
        match right(&library.device(1), &case, &few, &expected) {
            Ok(true) => missed.push(bug.what),
            Ok(false) => println!("{}: other numbers", bug.what),
            Err(error) => println!("{}: {error}", bug.what),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
