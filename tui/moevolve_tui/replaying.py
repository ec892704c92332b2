"""The actions of a replay."""

from __future__ import annotations

from moevolve_tui.base import Base
from moevolve_tui.replay import Replay


class Replaying(Base):
    """Steps, plays and seeks through a run."""

    def action_replay(self) -> None:
        app = self._app()
        if app.playback is not None:
            app.playback = app.session.replay = None
        elif app.session.current is not None and app.session.current.entries:
            app.playback = Replay(app.session.current)
            app.session.replay = app.playback.model
        app.context.touch()
        app.renew()

    def _moved_replay(self) -> None:
        app = self._app()
        if app.playback is not None:
            app.session.replay = app.playback.model
            app.context.touch()
            app.renew()

    def _replaying(self) -> Replay | None:
        app = self._app()
        if app.playback is None:
            self.action_replay()
        return app.playback

    def action_replay_step(self, step: int) -> None:
        if (playback := self._replaying()) is not None:
            playback.step(step)
            self._moved_replay()

    def action_replay_cycle(self, step: int) -> None:
        if (playback := self._replaying()) is not None:
            playback.step_cycle(step)
            self._moved_replay()

    def action_replay_speed(self, step: int) -> None:
        if (playback := self._replaying()) is not None:
            playback.faster(step)
            self._moved_replay()

    def action_replay_seek(self) -> None:
        if self._replaying() is not None:
            self._prompt("seek", "record number, 40% or c3")
