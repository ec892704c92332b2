"""Behaviours of a run's programs: what their `solve` returned, found out once and kept in the run's store.

A program is never run again for its plans: `resume` reads them from the store, so whatever draws or clocks a program may
have used, the run goes on as it was.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping

import msgspec

from moevolve.agents.host import ProgramHost
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.journal.store import RunStore
from moevolve.loop.variants import VariantStore
from moevolve.randomness import key
from moevolve.records import Timing
from moevolve.tasks.suite import Suite

TABLE = "behaviours"


class Behaviours:
    """Behaviours by the program's content hash; any thread may ask.

    Args:
        store: the run, open for writing.
        variants: gives programs.
        host: runs them.
        suite: whose skills they answer.
    """

    def __init__(self, store: RunStore, variants: VariantStore, host: ProgramHost, suite: Suite) -> None:
        self._store = store
        self._variants = variants
        self._host = host
        self._verbs = {path: skill.verb for path, skill in suite.skills.items()}
        self._known: dict[str, tuple[str, Behaviour]] = {}
        """By the key in the table."""
        self._lock = threading.Lock()

    def of(self, program: str) -> Behaviour:
        """The behaviour of a program."""
        return self._both(program)[1]

    def name(self, program: str) -> str:
        """Content hash of a program's behaviour."""
        return self._both(program)[0]

    def beside(self, program: str, verbs: Mapping[str, str]) -> tuple[str, Behaviour]:
        """The behaviour of a program, with its name, on other skills than the suite's.

        Args:
            program: its content hash.
            verbs: skill -> the word that its prompts begin with.
        """
        told = msgspec.json.encode(verbs, order="sorted")
        digest = hashlib.blake2b(told, digest_size=8).hexdigest()
        return self._both(program, f"{program}+{digest}", verbs)

    def _both(
        self, program: str, row: str | None = None, verbs: Mapping[str, str] | None = None
    ) -> tuple[str, Behaviour]:
        row, verbs = row or program, self._verbs if verbs is None else verbs
        with self._lock:
            if row not in self._known:
                kept = self._store.get(TABLE, row)
                if kept is None:
                    kept = self._found(program, row, verbs)
                name = kept.decode()
                self._known[row] = name, Behaviour.decoded(self._store.blob(name))
            return self._known[row]

    def _found(self, program: str, row: str, verbs: Mapping[str, str]) -> bytes:
        """Runs the program once a skill; keeps what it returned and its name before anything uses it."""
        genome = self._variants.genome(program)
        behaviour = self._host.behaviour(genome, verbs, key("behaviour", program))
        name = self._store.put_blob(behaviour.encoded()).encode()
        self._store.batch([], Timing(at=0.0), puts=[(TABLE, row, name)])
        return name
