"""One Mixture-of-Experts block forward, ours and transformers': `make bench`.

Router and experts of MiniMax-M2 at three sizes, for 1, 16 and 512 tokens. Both sides get the same random weights,
which bf16 holds exactly (as released checkpoints do), and the same input; outputs are compared. transformers runs
eagerly and with grouped_mm, in f32 and in bf16: the fastest of the four is the rival. Ours rounds the operands of the
experts' products to bf16 and sums in f32; in f32 it is measured beside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import kt_peer
from measure import clock, in_process, note, quiet
from moevolve import _native

try:
    import torch
    import transformers
    from transformers.models.minimax_m2.modeling_minimax_m2 import MiniMaxM2SparseMoeBlock
except ImportError:
    sys.exit("this bench needs torch and transformers: run `make bench`")

SIZES = [(8, 128, 128, 2), (64, 1024, 512, 8), (128, 2048, 768, 8)]
"""Experts, hidden, intermediate, chosen."""
TOKENS = (1, 16, 512)
EXPERTS = ("grouped_mm", "eager")
TARGET = 1.5
ROUNDS = 7
INPUTS = 4
"""Inputs taken in turn, so that one token does not find its experts in the cache."""
LEAST = 0.05
"""Seconds that a side runs in a round, at least."""


def block(size: tuple[int, int, int, int], experts: str) -> Any:
    """A block with seeded weights that bf16 holds exactly."""
    count, hidden, intermediate, chosen = size
    config = transformers.MiniMaxM2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_local_experts=count,
        num_experts_per_tok=chosen,
    )
    config._experts_implementation = experts
    made = MiniMaxM2SparseMoeBlock(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, hidden**-0.5, generator=generator)
            parameter.copy_(parameter.bfloat16().float())
        made.e_score_correction_bias.normal_(0.0, 0.02, generator=generator)
    return made.eval()


def sides(size: tuple[int, int, int, int], threads: int) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Names and functions from (tokens, hidden) to the same; a bf16 side converts its input outside the clock."""
    _, hidden, intermediate, chosen = size
    base = block(size, EXPERTS[0])
    for precision in ("bf16", "f32"):
        layer = _native.MoeLayer(
            base.gate.weight.detach().numpy(),
            base.e_score_correction_bias.numpy(),
            base.experts.gate_up_proj.detach().numpy(),
            base.experts.down_proj.detach().numpy(),
            hidden=hidden,
            intermediate=intermediate,
            chosen=chosen,
            precision=precision,
            threads=threads,
        )
        yield f"moevolve {precision}", layer.forward
    for experts in EXPERTS:
        base.experts.config._experts_implementation = experts
        yield f"transformers {experts} f32", runner(base, experts)
    if kt_peer.available():
        yield "kt-kernel bf16", kt_peer.experts(base, chosen, threads)
    # Routers stay f32 in transformers' mixed checkpoints too, but here the whole block is converted, its fastest form.
    half = base.to(torch.bfloat16)
    for experts in EXPERTS:
        yield f"transformers {experts} bf16", runner(half, experts)


def runner(made: Any, experts: str) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        made.experts.config._experts_implementation = experts
        with torch.inference_mode():
            return made(x[None])[0]

    return run


def worker(threads: int, rounds: int, size: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Figures of one size in this process."""
    torch.set_num_threads(threads)
    results = []
    inputs = {
        tokens: torch.randn(INPUTS, tokens, size[1], generator=torch.Generator().manual_seed(tokens))
        for tokens in TOKENS
    }
    times: dict[tuple[str, int], list[float]] = {}
    errors: dict[tuple[str, int], float] = {}
    expected: dict[int, Any] = {}
    # One side after another: all of them at once do not fit in the memory of a small machine at the largest size.
    for name, run in sides(size, threads):
        ours = name.startswith("moevolve")
        for tokens in TOKENS:
            given = inputs[tokens].bfloat16() if name.endswith("bf16") and not ours else inputs[tokens]
            rows = [x.numpy() for x in given] if ours else list(given)
            out = (
                torch.frombuffer(memoryview(run(rows[0])), dtype=torch.float32)
                if ours
                else run(rows[0]).float()
            )
            if name == "moevolve bf16" and tokens not in expected:
                expected[tokens] = out.reshape(tokens, size[1]).clone()
            gap = (out.reshape(tokens, size[1]) - expected[tokens]).norm() / expected[tokens].norm()
            errors[name, tokens] = gap.item()
            note(f"  {threads} threads, {size}, {name}, {tokens} tokens")
            quiet()
            for _ in range(rounds):
                count, start = 0, clock()
                while count < INPUTS or clock() - start < LEAST:
                    run(rows[count % INPUTS])
                    count += 1
                times.setdefault((name, tokens), []).append((clock() - start) / count)
    note("")
    for tokens in TOKENS:
        seconds = {name: statistics.median(t) for (name, n), t in times.items() if n == tokens}
        least = {name: min(t) for (name, n), t in times.items() if n == tokens}
        rivals = [name for name in seconds if name.startswith("transformers")]
        rival = min(rivals, key=seconds.__getitem__)
        results.append(
            {
                "threads": threads,
                "size": size,
                "tokens": tokens,
                "microseconds": {name: round(s * 1e6, 1) for name, s in seconds.items()},
                "least_microseconds": {name: round(s * 1e6, 1) for name, s in least.items()},
                "rival": rival,
                "ratio": seconds[rival] / seconds["moevolve bf16"],
                "ratio_of_least": min(least[r] for r in rivals) / least["moevolve bf16"],
                "ratio_f32": min(seconds[r] for r in rivals if r.endswith("f32")) / seconds["moevolve f32"],
                "ratio_kt": seconds["kt-kernel bf16"] / seconds["moevolve bf16"]
                if "kt-kernel bf16" in seconds
                else None,
                "gap": {name: errors[name, tokens] for name in seconds},
            }
        )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="one Mixture-of-Experts block forward")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, nargs="+", default=[0, 1, 2], help="which of the sizes")
    parser.add_argument("--json", action="store_true", help="figures on stdout as JSON")
    parser.add_argument("--require", action="store_true", help="exit 1 when the target is missed")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.threads[0], options.rounds, SIZES[options.size[0]])))
        return 0
    results = []
    for size in options.size:
        for threads in options.threads:
            results += in_process(threads, options.rounds, "--size", str(size))
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        table(results)
    return int(options.require and any(result["ratio"] < TARGET for result in results))


def table(results: list[dict[str, Any]]) -> None:
    print(
        "one block, microseconds, medians; the ratio is to transformers' fastest of f32 and bf16, grouped_mm and eager"
    )
    print(
        "size, threads, tokens             ours bf16   ours f32  their f32  their bf16    ratio   f32 alone"
        "   kt-kernel    ratio   rival"
    )
    for r in results:
        us = r["microseconds"]
        best = {
            d: min(us[name] for name in us if name.startswith("transformers") and name.endswith(d))
            for d in ("f32", "bf16")
        }
        where = f"{tuple(r['size'])!s:<22} {r['threads']} {r['tokens']:>4}"
        verdict = "met" if r["ratio"] >= TARGET else "MISSED"
        kt = "" if r["ratio_kt"] is None else f"{us['kt-kernel bf16']:>10,.0f}   {r['ratio_kt']:5.2f}x"
        print(
            f"{where}    {us['moevolve bf16']:>10,.0f} {us['moevolve f32']:>10,.0f} "
            f"{best['f32']:>10,.0f} {best['bf16']:>11,.0f}   {r['ratio']:5.2f}x {verdict:<6} {r['ratio_f32']:5.2f}x"
            f"  {kt:>19}   {r['rival'].removeprefix('transformers ')}"
        )


if __name__ == "__main__":
    sys.exit(main())
