"""Evaluator folders of OpenEvolve and ShinkaEvolve: what lies in them, and which of their settings mean something here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.evaluators import keys
from moevolve.tasks.evaluators.marks import marked

Contract = Literal["openevolve", "shinka", "gepa"]
CANDIDATE = "moevolve-candidate.txt"
"""File of the first candidate of a gepa file, in a run's copy of its folder."""
LARGEST_PROGRAM = 256 << 10
"""Bytes of a program, the initial one or a child."""
LARGEST_EVALUATOR = 1 << 20


class EvaluatorFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with a program to improve and what scores it.

    Attributes:
        path: the folder.
        name: its name, under which it is seen inside.
        contract: how its evaluator is called.
        program: file name of the initial program.
        evaluator: file name of the evaluator.
        seconds: the time limit that its configuration sets, if any.
        settings: what the evaluator's process needs of the configuration.
        iterations, seed, task: further settings with a meaning here.
        without_effect: keys of the configuration that are known and mean nothing here.
    """

    path: Path
    name: str
    contract: Contract
    program: str
    evaluator: str
    seconds: float | None = None
    settings: dict[str, Any] = {}
    iterations: int | None = None
    seed: int | None = None
    task: str = ""
    without_effect: tuple[str, ...] = ()

    def initial(self) -> str:
        """The initial program's text.

        Raises:
            UsageError: it is no UTF-8.
        """
        return _text(self.path / self.program)


def openevolve(path: Path, config: Path | None = None) -> EvaluatorFolder:
    """An OpenEvolve folder: an initial program, `evaluator.py`, and a configuration in YAML if there is one.

    Args:
        path: the folder.
        config: the configuration; `config.yaml` of the folder, else the first `config*.yaml`, when None.

    Raises:
        UsageError: a file is missing or no text, or the configuration has a key that OpenEvolve does not know.
    """
    path = _folder(path)
    program = _one(path, ("initial_program.*", "initial.*", "program.py"), "initial program")
    _text(path / program)
    evaluator = _one(path, ("evaluator.py", "evaluate.py"), "evaluator")
    chosen = config or next(
        (
            file
            for pattern in ("config.yaml", "config.yml", "config*.y*ml")
            for file in sorted(path.glob(pattern))
        ),
        None,
    )
    table = {} if chosen is None else keys.load(chosen)
    known = keys.openevolve(table, str(chosen))
    stages = known.get("evaluator.cascade_thresholds")
    settings = {
        "cascade": known.get("evaluator.cascade_evaluation", True),
        "thresholds": [0.5, 0.75, 0.9] if stages is None else stages,
        "features": known.get("database.feature_dimensions", []),
        "arguments": known.get("evaluator.evaluator_args") or {},
    }
    return EvaluatorFolder(
        path=path,
        name=path.name,
        contract="openevolve",
        program=program,
        evaluator=evaluator,
        seconds=known.get("evaluator.timeout"),
        settings=settings,
        iterations=known.get("max_iterations"),
        seed=known.get("random_seed"),
        task=known.get("prompt.system_message", ""),
        without_effect=tuple(sorted(set(keys.flat(table)) - set(known))),
    )


def shinka(path: Path, config: Path | None = None) -> EvaluatorFolder:
    """A ShinkaEvolve folder: `initial.*` with marks, and `evaluate.py`.

    Args:
        path: the folder.
        config: a configuration in YAML; none when None, since most folders keep theirs in a script.

    Raises:
        UsageError: a file or the marks are missing, or the configuration has a key that ShinkaEvolve does not know.
    """
    path = _folder(path)
    program = _one(path, ("initial.*",), "initial program")
    evaluator = _one(path, ("evaluate.py",), "evaluator")
    if not marked(_text(path / program)):
        raise UsageError(
            f"{path / program} has no comment lines EVOLVE-BLOCK-START and EVOLVE-BLOCK-END around what may be changed"
        )
    table = {} if config is None else keys.load(config)
    known = keys.shinka(table, str(config))
    return EvaluatorFolder(
        path=path,
        name=path.name,
        contract="shinka",
        program=program,
        evaluator=evaluator,
        seconds=keys.clock(known.get("job_config.time")),
        settings={"arguments": keys.arguments(known.get("job_config.extra_cmd_args") or {})},
        iterations=known.get("evo_config.num_generations"),
        task=known.get("evo_config.task_sys_msg") or "",
        without_effect=tuple(sorted(set(keys.flat(table)) - set(known))),
    )


def gepa(file: Path) -> EvaluatorFolder:
    """A Python file with gepa's names: `seed_candidate`, and `adapter` with `valset` or `trainset`, or `evaluator`.

    Raises:
        UsageError: there is no such file.
    """
    if not file.is_file() or file.suffix != ".py":
        raise UsageError(f"{file} is no Python file with gepa's seed_candidate and adapter or evaluator")
    path = file.resolve().parent
    return EvaluatorFolder(path=path, name=file.stem, contract="gepa", program=CANDIDATE, evaluator=file.name)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    return path.resolve()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no UTF-8, byte {error.start + 1}: save it as such") from None


def _one(path: Path, patterns: tuple[str, ...], what: str) -> str:
    for pattern in patterns:
        found = [file for file in sorted(path.glob(pattern)) if file.is_file()]
        if found:
            most = LARGEST_EVALUATOR if what == "evaluator" else LARGEST_PROGRAM
            if found[0].stat().st_size > most:
                raise UsageError(f"{found[0]} is larger than {most >> 10} KiB")
            return found[0].name
    raise UsageError(f"{path} has no {what}: none of {', '.join(patterns)}")
