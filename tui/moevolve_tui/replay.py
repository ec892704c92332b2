"""Any run played again from its journal: step, play, speed, seek; every page shows it as it stood then."""

from __future__ import annotations

from moevolve_tui.model import RunModel

SPEEDS = (1, 2, 5, 10, 25, 100, 500, 2500)
"""Entries a tick."""
TICK_SECONDS = 0.25


class Replay:
    """A position in a run's journal.

    Args:
        source: the run.
    """

    def __init__(self, source: RunModel) -> None:
        self.source = source
        self.playing = False
        self.speed = 1
        self.model = self._model(max(1, source.entries))

    def _model(self, until: int) -> RunModel:
        source = self.source
        # The same open folder: a journal is opened once a process.
        return RunModel(
            source.path, lambda path: source.folder or source.opener(path), source.probe, until=until
        )

    @property
    def position(self) -> int:
        """Entries that are shown, or are about to be."""
        return self.model.until or 0

    def seek(self, position: int) -> None:
        """Goes to a number of entries."""
        position = max(1, min(position, self.source.entries))
        if position < self.model.entries:
            self.model = self._model(position)
        else:
            self.model.until = position

    def step(self, entries: int) -> None:
        """Some entries on, or back."""
        self.seek(self.position + entries)

    def step_cycle(self, step: int) -> None:
        """To the beginning of the next cycle, or of the one before."""
        places = [seq + 1 for seq in self.source.view.opened]
        here = self.position
        if step > 0:
            self.seek(next((place for place in places if place > here), self.source.entries))
        else:
            self.seek(next((place for place in reversed(places) if place < here), 1))

    def toggle(self) -> None:
        """Plays or holds; from the beginning, where the end has been reached."""
        self.playing = not self.playing
        if self.playing and self.position >= self.source.entries:
            self.seek(1)

    def tick(self) -> bool:
        """Plays on where it plays; returns whether it moved."""
        if not self.playing or self.model.loading:
            return False
        if self.position >= self.source.entries:
            self.playing = False
            return False
        self.step(SPEEDS[self.speed])
        return True

    def faster(self, step: int) -> None:
        self.speed = max(0, min(len(SPEEDS) - 1, self.speed + step))

    def aim(self, words: str) -> bool:
        """Goes to `120`, `40%` or `c3`; returns whether the words name a place."""
        words = words.strip().lower()
        try:
            if words.endswith("%"):
                self.seek(round(self.source.entries * float(words[:-1]) / 100))
            elif words.startswith("c"):
                self.seek(self.source.view.opened[int(words[1:]) - 1] + 1 if int(words[1:]) > 0 else 1)
            else:
                self.seek(int(words))
        except (ValueError, IndexError, OverflowError):
            return False
        return True

    def words(self) -> str:
        """`replay 120 of 310, 10 a tick`."""
        going = f", playing {SPEEDS[self.speed]} a tick" if self.playing else ""
        return f"replay {self.position:,} of {self.source.entries:,}{going}"
