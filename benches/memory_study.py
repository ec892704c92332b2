"""What memory brings: arms that differ in `[memory] mode` alone, on the same sealed tasks, over seeds.

    python benches/memory_study.py primer [--seeds 5]
    python benches/memory_study.py excel --model SmolLM2-135M-Instruct.Q4_1.gguf [--seeds 3]

`on` is the run as it is; `off` recalls and writes nothing; `shuffled` shows as many other lessons of the same skill
and kinds; `poisoned` writes beside each confirmed answer a wrong one that looks confirmed. All arms of a seed have the same
sealed tasks and draw the same numbers, so differences are paired by task; the pooled interval is over all tasks of all
seeds. All arms have the same budget: a number of cycles, never a time, in which an arm that is quicker gets further. Runs
that are on file under --out are read, and not made again; one of another configuration is refused by name.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from moevolve.config import Config
from moevolve.config.source import flat
from moevolve.errors import UsageError
from moevolve.journal.intervals import paired_gain, wilson
from moevolve.journal.store import RunStore, is_run
from moevolve.loop.run import start
from moevolve.records import Evaluated, RunFinished, RunStarted
from moevolve.report.summary import summary_of

ARMS = ("on", "off", "shuffled", "poisoned")
PRESETS = {"primer": "quickstart", "excel": "real-excel"}
OPEN = (
    "agent.digest",
    "agent.path",
    "evolve.proposers",
    "roles.solver.prompt_chars",
    "suite.digest",
    "suite.path",
    "tools.digest",
)
"""Keys that a run fills in where they are empty; it does so as well where a value is `auto`."""
Outcomes = list[float | None]


def configured(options: argparse.Namespace, arm: str, seed: int) -> Config:
    """The study's run of an arm and a seed."""
    settings: dict[str, Any] = dict(each.split("=", 1) for each in options.set)
    settings = {key: json.loads(value) for key, value in settings.items()} | {"memory.mode": arm}
    if options.model is not None:
        settings["policy.checkpoint"] = str(options.model.resolve())
    config = Config.load(PRESETS[options.suite], settings).override(seed=seed, cycles=options.cycles)
    return msgspec.structs.replace(config, minutes=None)


def finished(run: Path, config: Config) -> bool:
    """Whether a run of a configuration is on file with its end.

    Raises:
        UsageError: a run of another configuration is there.
    """
    if not is_run(run):
        return False
    with RunStore.open(run) as store:
        if not len(store):
            return False
        began, ended = store.entries(0, 1)[0].record, store.entries(len(store) - 1, 1)[0].record
    if not isinstance(began, RunStarted) or not isinstance(ended, RunFinished):
        return False
    if others := differences(config, began.config):
        raise UsageError(f"{run} is a run of another configuration ({', '.join(others)}): name another --out")
    return True


def differences(config: Config, recorded: str) -> list[str]:
    """Keys that a configuration on record has otherwise; what was left open, the run has chosen.

    Args:
        config: what is wanted.
        recorded: the configuration of a run, as its first record has it.
    """
    wanted, there = (flat(json.loads(text)) for text in (config.canonical(), recorded))
    return sorted(
        key
        for key, value in wanted.items()
        if there.get(key) != value and value != "auto" and not (key in OPEN and not value)
    )


def measured(options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Sealed scores of one run, made now unless it is on file."""
    run = options.out / f"{options.suite}-{arm}-{seed}"
    began = time.monotonic()
    config = configured(options, arm, seed)
    if not finished(run, config):
        start(config, run)
    with RunStore.open(run) as store:
        sealed = [entry.record for entry in store.entries() if isinstance(entry.record, Evaluated)]
        summary = summary_of(store)
    first, *_, last = [record for record in sealed if record.split == "sealed"]
    assert summary is not None
    return {
        "arm": arm,
        "seed": seed,
        "first": first.outcomes,
        "last": last.outcomes,
        "seconds": round(time.monotonic() - began),
        "tokens": summary.tokens.generated,
        "memory": None
        if summary.memory.gain is None
        else [summary.memory.gain, *(summary.memory.gain_ci or ())],
        "lessons": summary.memory.lessons,
        "expired": summary.memory.expired,
    }


def score(outcomes: Outcomes) -> str:
    known = [each for each in outcomes if each is not None]
    found = wilson(sum(known), len(known))
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] n={found.n}"


def gain(before: Outcomes, after: Outcomes) -> str:
    found = paired_gain(before, after)
    return "-" if found is None else f"{found[0]:+.3f} [{found[1][0]:+.3f}, {found[1][1]:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=sorted(PRESETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--model", type=Path, help="of excel: the model's folder or GGUF file")
    parser.add_argument("--cycles", type=int, help="instead of the preset's end")
    parser.add_argument("--out", type=Path, default=Path("runs/memory-study"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON")
    options = parser.parse_args()
    if options.suite == "excel" and options.model is None:
        parser.error("excel needs --model")
    options.out.mkdir(parents=True, exist_ok=True)
    arms = options.arms.split(",")
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in range(options.first, options.first + options.seeds):
        for arm in arms:
            try:
                row = rows[arm, seed] = measured(options, arm, seed)
            except UsageError as error:
                parser.error(str(error))
            brought = "" if row["memory"] is None else f"; memory by twins {row['memory'][0]:+.3f}"
            print(
                f"seed {seed} {arm:<9} {score(row['first'])} -> {score(row['last'])}; {row['lessons']} lessons, "
                f"{row['expired']} expired, {row['tokens']:,} tokens, {row['seconds']} s{brought}",
                file=sys.stderr,
                flush=True,
            )
    print(
        "| seed | "
        + " | ".join(arms)
        + " | "
        + " | ".join(f"{arm} - off" for arm in arms if arm != "off")
        + " |"
    )
    print("|---|" + "---|" * (2 * len(arms) - 1))
    seeds = sorted({seed for _, seed in rows})
    groups = [([seed], str(seed)) for seed in seeds] + ([(seeds, "all")] if len(seeds) > 1 else [])
    for chosen, name in groups:
        last = {arm: [each for seed in chosen for each in rows[arm, seed]["last"]] for arm in arms}
        cells = [score(last[arm]) for arm in arms]
        cells += [gain(last["off"], last[arm]) for arm in arms if arm != "off" and "off" in arms]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if "on" in arms and "shuffled" in arms:
        last = {arm: [each for seed in seeds for each in rows[arm, seed]["last"]] for arm in arms}
        print(f"\non - shuffled: {gain(last['shuffled'], last['on'])}")


if __name__ == "__main__":
    main()
