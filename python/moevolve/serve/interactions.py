"""What a server that learns keeps of its traffic: prompts, answers, and what clients said about them, until erased.

All of it lies in tables beside the journal and none of it in the journal, so that it can be erased.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable

import msgspec

from moevolve.errors import CapacityError, UsageError
from moevolve.journal.store import Put, RunStore

INTERACTIONS = "interactions"
FEEDBACK = "feedback"
SEEN = "seen"
"""A row for what learning has seen all of: `FEEDBACK`, and nothing else so far."""
LONGEST = 100_000
"""Characters of a prompt or an answer; what is longer is not kept."""
MOST_VERDICTS = 64
"""Clients whose feedback on one answer is kept."""

_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,64}")

_encode = msgspec.msgpack.encode


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt and its answers."""

    id: str
    """The answer's id, as the client got it; of an answer to several prompts, that and the prompt's number (`of_prompt`)."""
    client: str
    at: int
    """Milliseconds since 1970."""
    prompt: str
    """As the model read it, special tokens and the chat template's marks included."""
    answers: list[str]
    """As the model wrote them, marks included, one a choice, in the order that the client got them."""
    weights: str


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What one client holds of one answer; a newer one takes its place."""

    id: str
    choice: int
    client: str
    at: int
    score: float
    """0 for useless, 1 for right."""
    correction: str | None = None
    """What the answer should have been."""


def of_prompt(answer: str, index: int) -> str:
    """The interaction that one prompt of an answer to several is."""
    return f"{answer}.{index}"


def answer_of(interaction: str) -> str:
    """The answer that an interaction is of, by the id that the client got."""
    return interaction.partition(".")[0]


def client_name(told: str) -> str:
    """A client's name as it is kept: odd ones are hashed."""
    if _NAME.fullmatch(told):
        return told
    return f"client-{hashlib.blake2b(told.encode(), digest_size=8).hexdigest()}"


class Interactions:
    """The interactions and feedback of one store; safe to use from several threads.

    Args:
        store: where they lie; read-only stores can be listed.
        most: interactions that are kept; the oldest go first, their feedback with them.
    """

    def __init__(self, store: RunStore, most: int = 10_000) -> None:
        self._store = store
        self._most = most
        self._lock = threading.Lock()
        rows = [msgspec.msgpack.decode(row, type=Interaction) for _, row in store.scan(INTERACTIONS)]
        self._ages = {row.id: row.client for row in sorted(rows, key=lambda row: (row.at, row.id))}
        """Client by interaction, oldest first."""
        self.verdicts = 0
        """Verdicts that came in this object's life."""
        self.unseen = bool(store.scan(FEEDBACK, limit=1)) and store.get(SEEN, FEEDBACK) is None
        """Whether there is feedback that no cycle which came to its end has seen, those of earlier servers included."""

    def __len__(self) -> int:
        return len(self._ages)

    def keep(self, interaction: Interaction) -> None:
        """Keeps an interaction that is not too long, and drops the oldest beyond the limit."""
        if any(len(text) > LONGEST for text in (interaction.prompt, *interaction.answers)):
            return
        with self._lock:
            self._ages[interaction.id] = interaction.client
            old = list(self._ages)[: max(0, len(self._ages) - self._most)]
            puts: list[Put] = [(INTERACTIONS, interaction.id, _encode(interaction))]
            self._store_changes(puts + self._gone(old))

    def get(self, id: str) -> Interaction | None:
        """An interaction, if it is kept."""
        row = self._store.get(INTERACTIONS, id)
        return None if row is None else msgspec.msgpack.decode(row, type=Interaction)

    def judge(self, feedback: Feedback) -> None:
        """Keeps what a client holds of an answer.

        Raises:
            UsageError: there is no such answer.
            CapacityError: as many others have judged it as are heard.
        """
        id, choice = self._numbered(feedback.id, feedback.choice)
        interaction = self.get(id)
        if interaction is None or not 0 <= choice < len(interaction.answers):
            raise UsageError(
                f"there is no answer {feedback.id!r}, choice {feedback.choice}: it may be erased"
            )
        feedback = msgspec.structs.replace(feedback, id=id, choice=choice)
        with self._lock:
            place = f"{feedback.id}/{feedback.choice}/"
            key = f"{place}{feedback.client}"
            said = [known for known, _ in self._store.scan(FEEDBACK, place, limit=MOST_VERDICTS)]
            if len(said) >= MOST_VERDICTS and key not in said:
                raise CapacityError(f"{MOST_VERDICTS} clients have judged {feedback.id!r}: no more are heard")
            self._store_changes([(FEEDBACK, key, _encode(feedback)), (SEEN, FEEDBACK, None)])
            self.verdicts += 1
            self.unseen = True

    def seen(self, verdicts: int) -> None:
        """Notes that a cycle has come to its end, unless feedback has come since it began.

        Args:
            verdicts: how many there were when it began.
        """
        with self._lock:
            if self.verdicts == verdicts:
                self._store_changes([(SEEN, FEEDBACK, b"")])
                self.unseen = False

    def all(self, client: str | None = None) -> list[Interaction]:
        """Interactions, oldest first; those of one client if it is named."""
        found = [self.get(id) for id, who in list(self._ages.items()) if client in (None, who)]
        return [interaction for interaction in found if interaction is not None]

    def feedback(self, id: str = "") -> list[Feedback]:
        """Feedback on one interaction, or all of it, by interaction, choice and client."""
        prefix = f"{id}/" if id else ""
        return [msgspec.msgpack.decode(row, type=Feedback) for _, row in self._store.scan(FEEDBACK, prefix)]

    def erase(self, ids: Iterable[str] | None = None, client: str | None = None) -> int:
        """Erases interactions with all feedback on them; returns how many.

        Args:
            ids: which, or the answers whose they are; all when None.
            client: only this client's. Its feedback on others' interactions goes too.
        """
        with self._lock:
            gone, said = self._erased(ids, client)
            self._store_changes(self._gone(gone) + [(FEEDBACK, key, None) for key in said])
            return len(gone)

    def touched(self, ids: Iterable[str] | None = None, client: str | None = None) -> set[str]:
        """Interactions that `erase` takes away, or feedback on them: what was learned from these goes too."""
        with self._lock:
            gone, said = self._erased(ids, client)
        return {*gone, *(key.rsplit("/", 2)[0] for key in said)}

    def _erased(self, ids: Iterable[str] | None, client: str | None) -> tuple[list[str], list[str]]:
        """Interactions that are to be erased, and keys of further feedback."""
        wanted = None if ids is None else frozenset(ids)
        gone = [
            id
            for id, who in self._ages.items()
            if client in (None, who) and (wanted is None or not wanted.isdisjoint((id, answer_of(id))))
        ]
        if ids is not None or client is None:
            return gone, []
        return gone, [key for key, _ in self._store.scan(FEEDBACK) if key.rsplit("/", 1)[1] == client]

    def _numbered(self, answer: str, choice: int) -> tuple[str, int]:
        """The interaction and its choice that a choice of an answer is: those of an answer to several prompts are numbered
        through, as many of each prompt."""
        rows = self._store.scan(INTERACTIONS, f"{answer}.", limit=1)
        if not rows:
            return answer, choice
        each = len(msgspec.msgpack.decode(rows[0][1], type=Interaction).answers)
        index, sample = divmod(choice, each)
        return of_prompt(answer, index), sample

    def _gone(self, ids: Iterable[str]) -> list[Put]:
        puts: list[Put] = []
        for id in ids:
            del self._ages[id]
            puts.append((INTERACTIONS, id, None))
            puts += [(FEEDBACK, key, None) for key, _ in self._store.scan(FEEDBACK, f"{id}/")]
        return puts

    def _store_changes(self, puts: list[Put]) -> None:
        if puts:
            self._store.puts(puts)
