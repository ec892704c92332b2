"""A language model on a server as proposer of programs: small edits, or a program anew. Its exchanges are on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from random import Random

import msgspec

from moevolve.config import Config
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.loop.optimise.proposers import Brief, Proposal
from moevolve.loop.optimise.settings import Settings
from moevolve.loop.writing import Writers
from moevolve.proposers.answers import Unusable, fence, replaced, summary, whole
from moevolve.proposers.checks import compiles
from moevolve.proposers.prompting import filled
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import GenerateRequest, Unanswered
from moevolve.protocol.sampling import Sampling
from moevolve.records import Metered

NAME = "model"
KINDS = {"edit": 0.7, "rewrite": 0.3}
"""How often each kind of prompt is drawn."""
TEMPERATURE = 0.8
SHOWN = 2000
"""Characters of what the evaluator told of a program, and of each other program, that are shown."""
OTHERS = 2


class Model:
    """The model of a run.

    Args:
        settings: of the run; they name its server.
        store: the run, open for writing.
        journal: how far it is.
        recorded: another run that exchanges are taken from, so that a replay asks nobody.
        told: what the evaluator said of a program beside its score, by the program's text.
    """

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        journal: JournalWriter,
        recorded: RunStore | None,
        told: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._settings = settings
        self._writers = Writers(configuration(settings), store, journal, recorded)
        self._told = told

    def __call__(self, brief: Brief, rng: Random) -> Proposal:
        """A child.

        Raises:
            Unusable: the answer is no program, or there is none.
            EndpointError, SpendingLimitError: the server, or the limit, ends the run.
        """
        assert self._writers.model is not None, "the settings name a server"
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        sampling = Sampling(max_tokens=self._settings.max_tokens, temperature=TEMPERATURE)
        request = GenerateRequest(
            0, self._prompt(kind, brief), sampling, 1, rng.getrandbits(64), worded=False
        )
        [reply] = self._writers.model.answer([request])
        if isinstance(reply, Unanswered):
            raise Unusable(f"{reply.failure}: {reply.detail}")
        answer = reply[0].text
        if kind == "edit":
            text = replaced(answer, brief.parent)
        else:
            text = whole(answer, brief.parent, python=compiles({"parent.py": brief.parent}) is None)
        return Proposal(text, kind, summary(answer, kind))

    def bill(self, stage: str) -> list[Metered]:
        """What the server charged since the last bill."""
        return self._writers.bill(0, stage)

    def close(self) -> None:
        """Lets go of the server."""
        self._writers.close()

    def _prompt(self, kind: str, brief: Brief) -> tuple[Message, ...]:
        system, _, user = _template(kind).partition("\n---\n")
        told = {name: text for name, text in self._told(brief.parent).items() if text.strip()}
        around = fence(brief.parent, *brief.others[:OTHERS])
        places = {
            "fence": around,
            "task": brief.task.strip(),
            "score": "not known: it failed" if brief.score is None else f"{brief.score:.8g}",
            "metrics": "\n".join(f"{name}: {value:.6g}" for name, value in sorted(brief.metrics.items())),
            "told": "\n".join(f"The evaluator's {name}: {text[:SHOWN]}" for name, text in told.items())[
                : 4 * SHOWN
            ],
            "failures": "\n".join(["Other programs failed:", *brief.failures]) if brief.failures else "",
            "others": "\n\n".join(
                f"Another good program:\n{around}\n{text[:SHOWN]}\n{around}" for text in brief.others[:OTHERS]
            ),
            "evaluation": str(brief.evaluation),
            "evaluations": str(brief.evaluations),
            "marks": "Change only lines between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END."
            if self._settings.marks
            else "",
            "source": brief.parent.rstrip("\n"),
        }
        return Message(role="system", content=system.strip()), Message(
            role="user", content=filled(user, places)
        )


def configuration(settings: Settings) -> Config:
    """A configuration whose proposer is the run's model."""
    base = Config.load("small", {"evolve.proposers": ["model"]})
    return msgspec.structs.replace(base, proposer=settings.proposer)


@cache
def _template(kind: str) -> str:
    return (files("moevolve.loop.optimise") / "prompts" / f"{kind}.md").read_text(encoding="utf-8")
