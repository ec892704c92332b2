"""kt-kernel's experts as a rival: KTransformers' CPU kernels (the wheel `kt-kernel`), method BF16.

The wheel wants one version of torch by its metadata and works with others, since its extension takes addresses of
memory: it is installed without its dependencies (`make parity-env`). It computes the experts alone; the choice of
experts and their weights are computed outside the clock.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LONGEST = 512
"""Tokens of one call, at most."""


def available() -> bool:
    """Whether the package is there."""
    from importlib.util import find_spec

    return find_spec("kt_kernel") is not None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Its narration on stdout away: stdout is data here."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def experts(block: Any, chosen: int, threads: int) -> Callable[[Any], Any]:
    """A function from (tokens, hidden) in bf16 to the experts' sum in bf16, with the weights of a transformers block.

    Args:
        block: a `MiniMaxM2SparseMoeBlock` whose weights bf16 holds exactly.
        chosen: experts of a token.
        threads: workers of its pool.
    """
    import torch

    with _silent():
        from kt_kernel import kt_kernel_ext as kt
    gate_up, down = block.experts.gate_up_proj, block.experts.down_proj
    count, both, hidden = gate_up.shape
    inner = both // 2
    kept = [gate_up[:, :inner], gate_up[:, inner:], down]
    kept = [[t[e].detach().bfloat16().contiguous() for e in range(count)] for t in kept]
    pool = kt.WorkerPoolConfig()
    pool.subpool_count, pool.subpool_numa_map, pool.subpool_thread_count = 1, [0], [threads]
    nobody = torch.zeros(count, dtype=torch.bool)
    order = torch.arange(count, dtype=torch.int64)
    with _silent():
        infer = kt.CPUInfer(pool)
        config = kt.moe.MOEConfig(count, chosen, hidden, inner, nobody.data_ptr())
        config.layer_idx, config.pool, config.max_len = 0, infer.backend_, LONGEST
        config.gate_projs, config.up_projs, config.down_projs = ([[t.data_ptr() for t in ts]] for ts in kept)
        config.gate_scales = config.up_scales = config.down_scales = [[0] * count]
        layer = kt.moe.AMXBF16_MOE(config)
        infer.submit(layer.load_weights_task(order.data_ptr()))
        infer.sync()

    def route(x: Any) -> tuple[Any, Any]:
        scores = torch.sigmoid(x.float() @ block.gate.weight.float().T)
        ids = torch.topk(scores + block.e_score_correction_bias.float(), chosen, dim=-1).indices
        weights = scores.gather(1, ids)
        return ids.contiguous(), (weights / weights.sum(-1, keepdim=True)).contiguous()

    routed: dict[int, tuple[Any, Any]] = {}
    alive = (nobody, order, kept, pool)
    """What its extension holds addresses of."""

    def run(x: Any, alive: Any = alive) -> Any:
        if x.data_ptr() not in routed:
            routed[x.data_ptr()] = route(x)
        ids, weights = routed[x.data_ptr()]
        out = torch.empty_like(x)
        size = torch.tensor([x.shape[0]], dtype=torch.int32)
        task = layer.forward_task(
            size.data_ptr(), chosen, ids.data_ptr(), weights.data_ptr(), x.data_ptr(), out.data_ptr(), False
        )
        infer.submit(task)
        infer.sync()
        return out

    return run
