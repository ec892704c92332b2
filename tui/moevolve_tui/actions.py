"""What keys and the palette do, by name. A part of the application that knows pages and panes, and no thread."""

from __future__ import annotations

from typing import Any

from textual import on
from textual.widgets import Input

from moevolve.journal.text import line
from moevolve_tui.asking import Asking
from moevolve_tui.model import RunModel
from moevolve_tui.pages.page import is_diff, is_log, is_memory
from moevolve_tui.replaying import Replaying
from moevolve_tui.screens import page_for
from moevolve_tui.targets import ActionTarget, DiffTarget, FoldTarget, PageTarget, RunTarget, VariantTarget
from moevolve_tui.widgets.pane import Pane

COMMANDS: tuple[tuple[str, str, str, str, bool, str | None], ...] = (
    ("leave", "q", "quit", "Leave", True, None),
    ("help", "question_mark", "help", "Help", True, "?"),
    ("find", "slash", "find", "Find", True, "/"),
    ("find.next", "n", "hit(1)", "Next hit, or a new quickstart", False, None),
    ("find.previous", "N", "hit(-1)", "Previous hit", False, None),
    ("back", "escape", "step_out", "Step out", False, None),
    ("freeze", "space", "freeze", "Freeze", True, "space"),
    ("follow", "f", "follow", "Follow the newest record", False, None),
    ("zoom", "z", "zoom", "Zoom", True, None),
    ("compare", "c", "compare", "Compare two", False, None),
    ("mark", "m", "mark", "Mark for a comparison", False, None),
    ("diff", "d", "diff", "Diff of the variant", False, None),
    ("source", "x", "source", "Source of the variant", False, None),
    ("attempts", "a", "attempts", "Attempts", False, None),
    ("overlay", "o", "overlay", "Overlay marked runs", False, None),
    ("sort", "O", "sort", "Sort skills", False, None),
    ("axis", "l", "log_axis", "Logarithmic axis", False, None),
    ("decisions", "e", "decisions", "Decisions and alarms only", False, None),
    ("beside", "u", "other_diff", "Diff side by side, or one below the other", False, None),
    ("hunk.next", "right_square_bracket", "hunk(1)", "Next hunk", False, "]"),
    ("hunk.previous", "left_square_bracket", "hunk(-1)", "Previous hunk", False, "["),
    ("picture", "s", "picture", "SVG", True, None),
    ("copy", "y", "copy", "Copy the id", False, None),
    ("pause", "p", "pause", "Pause or resume", False, None),
    ("stop", "P", "stop", "Stop the run", False, None),
    ("approve", "A", "approve", "Approve what waits", False, None),
    ("reject", "R", "reject", "Reject what waits", False, None),
    ("replay", "t", "replay", "Replay", True, None),
    ("replay.step", "full_stop", "replay_step(1)", "Replay: one record on", False, "."),
    ("replay.back", "comma", "replay_step(-1)", "Replay: one record back", False, ","),
    ("replay.cycle", "greater_than_sign", "replay_cycle(1)", "Replay: next cycle", False, ">"),
    ("replay.cycle_back", "less_than_sign", "replay_cycle(-1)", "Replay: cycle before", False, "<"),
    ("replay.faster", "plus", "replay_speed(1)", "Replay: faster", False, "+"),
    ("replay.slower", "minus", "replay_speed(-1)", "Replay: slower", False, "-"),
    ("replay.seek", "T", "replay_seek", "Replay: go to", False, None),
    ("report", "h", "report", "Write the report page", False, None),
    ("serve", "v", "serve", "How to serve the champion", False, None),
    ("palette", "colon", "command_palette", "Commands", True, ":"),
)
"""Id, key, action, words, whether the footer names it, how the key is written."""


class Actions(Asking, Replaying):
    """What keys do to the screens, in the names of the actions of `WatchApp`."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a question or help is open, its own keys count."""
        app = self._app()
        if len(app.screen_stack) > 1:
            return action in ("quit", "command_palette") or not hasattr(Actions, f"action_{action}")
        return True

    # Moving about

    def action_screen(self, number: int) -> None:
        self._app().show_screen(number)

    def action_next_pane(self, step: int) -> None:
        app = self._app()
        visible = [pane for pane in app.panes if pane.display]
        place = visible.index(app.chosen_pane) if app.chosen_pane in visible else 0
        app.choose(visible[(place + step) % len(visible)])

    def action_zoom(self) -> None:
        app = self._app()
        app.zoomed = not app.zoomed
        app._arrange()
        app.call_after_refresh(app.renew)

    def action_help(self) -> None:
        from moevolve_tui.dialogs import HelpScreen

        self._app().push_screen(HelpScreen())

    def action_step_out(self) -> None:
        """One step out: of a filter, of a page, of the zoom, of a replay."""
        app, pane = self._app(), self._pane
        prompt = app.query_one("#prompt", Input)
        if prompt.display:
            prompt.display = False
            pane.focus()
        elif is_log(pane.page) and pane.page.filtered:
            pane.page.filter("")
            pane.renew()
        elif pane.find:
            pane.find = ""
            pane.renew()
        elif is_memory(pane.page) and pane.page.wanted:
            pane.page.wanted = ""
            pane.renew()
        elif pane.step_out():
            pass
        elif app.zoomed:
            self.action_zoom()
        elif app.playback is not None:
            self.action_replay()

    @on(Pane.Opened)
    def _open(self, event: Pane.Opened) -> None:
        app, target, pane = self._app(), event.target, event.pane
        if isinstance(target, RunTarget):
            model = next(model for model in app.session.runs if model.path == target.path)
            self._look(model)
        elif isinstance(target, PageTarget):
            app.show_screen(target.number)
        elif isinstance(target, ActionTarget):
            app.call_later(app.run_action, target.action)
        elif isinstance(target, FoldTarget):
            pane.action_sideways(1)
        elif isinstance(target, VariantTarget) and pane.page is app.pages[1]:
            parents = app.context.model.view.variants.parents(target.row) if app.context.model else []
            opened = DiffTarget(parents[0], target.row, target.name) if parents else target
            self._push(pane, page_for(opened, app.context))
        else:
            self._push(pane, page_for(target, app.context))

    def _push(self, pane: Pane, page: Any) -> None:
        if page is not None:
            pane.push(page)
            self._app().choose(pane)

    def _look(self, model: RunModel) -> None:
        app = self._app()
        if app.playback is not None:
            self.action_replay()
        app.session.look(model)
        app.context.cursor_row = app.context.marked = app.context.cursor_cycle = None
        app.context.touch()
        app.show_screen(1)

    @on(Pane.Sideways)
    def _sideways(self, event: Pane.Sideways) -> None:
        """Reads the curve off, cycle by cycle."""
        app = self._app()
        model = app.context.model
        if model is None or self._pane.page not in (app.pages[1], app.pages[5]):
            return
        cycles = sorted({point.cycle for point in model.view.curve})
        here = app.context.cursor_cycle
        if cycles:
            if here is None:
                app.context.cursor_cycle = cycles[-1 if event.step < 0 else 0]
            else:
                beyond = [each for each in cycles if (each > here if event.step > 0 else each < here)]
                app.context.cursor_cycle = None if not beyond else beyond[0 if event.step > 0 else -1]
            app.context.touch()
            app.renew()

    # Looking for something

    def action_find(self) -> None:
        pane = self._pane
        words = {"Log": "words that lines must hold", "Memory": "what lessons are searched for"}
        self._prompt("find", words.get(pane.page.NAME, "words to find"))

    @on(Input.Changed, "#prompt")
    def _typed(self, event: Input.Changed) -> None:
        pane = self._pane
        if self._prompting == "find" and event.input.display and is_log(pane.page):
            pane.page.filter(event.value)
            pane.renew()

    @on(Input.Submitted, "#prompt")
    def _submitted(self, event: Input.Submitted) -> None:
        app, pane = self._app(), self._pane
        event.input.display = False
        pane.focus()
        if self._prompting == "seek":
            if app.playback is not None and not app.playback.aim(event.value):
                self._say(f"No place {line(event.value)}: a record's number, 40% or c3", bad=True)
            self._moved_replay()
        elif is_log(pane.page):
            pane.page.filter(event.value)
            pane.renew()
        elif is_memory(pane.page):
            pane.page.wanted = event.value
            pane.renew()
        else:
            pane.find = event.value
            pane.renew()
            if event.value:
                self.action_hit(1)

    def action_hit(self, step: int) -> None:
        app, pane = self._app(), self._pane
        if pane.find:
            if not pane.next_hit(step):
                self._say(f"Nothing holds [{line(pane.find)}]")
        elif pane.page is app.pages[0] and step > 0:
            self.action_new_run()
        elif is_log(pane.page):
            pane.action_move(step)
        elif is_diff(pane.page):
            self.action_hunk(step)

    def action_hunk(self, step: int) -> None:
        pane = self._pane
        if is_diff(pane.page) and pane.page.hunks:
            here = pane.scroll_offset.y
            hunks = pane.page.hunks
            beyond = [each for each in hunks if (each > here if step > 0 else each < here)]
            if beyond:
                pane.scroll_to(y=beyond[0 if step > 0 else -1], animate=False, force=True)

    # How things are shown

    def action_freeze(self) -> None:
        app = self._app()
        if self._pane.page is app.pages[0]:
            target = self._pane.page.target(self._pane.cursor)
            if isinstance(target, RunTarget):
                app.session.marked ^= {target.path}
                app.context.touch()
        elif app.playback is not None:
            app.playback.toggle()
            app.session.replay = app.playback.model
        elif app.session.current is not None:
            app.session.current.frozen = not app.session.current.frozen
            app.context.touch()
        app.renew()

    def action_follow(self) -> None:
        pane = self._pane
        if is_log(pane.page):
            pane.page.follow = not pane.page.follow
            app = self._app()
            app.context.touch()
            pane.renew()

    def action_decisions(self) -> None:
        pane = self._pane
        if is_log(pane.page):
            pane.page.filter("", not pane.page.decisions)
            pane.renew()

    def action_log_axis(self) -> None:
        self._toggle("log_axis")

    def action_other_diff(self) -> None:
        self._toggle("other_diff")

    def action_overlay(self) -> None:
        app = self._app()
        self._toggle("overlay")
        if app.context.overlay and not app.session.marked:
            self._say("No run is marked: space on screen 0 marks one")

    def _toggle(self, name: str) -> None:
        app = self._app()
        setattr(app.context, name, not getattr(app.context, name))
        app.context.touch()
        app.renew()

    def action_sort(self) -> None:
        app = self._app()
        app.context.sort += 1
        app.context.touch()
        app.renew()

    def _variant(self) -> int | None:
        """Row of the variant that the cursor or the page is about; None where the run has none there, as where another run
        took the place of the one that was looked into."""
        model, row = self._app().context.model, self._about()
        return row if model is not None and row is not None and row < len(model.view.variants) else None

    def _about(self) -> int | None:
        pane = self._pane
        target = pane.page.target(pane.cursor)
        if isinstance(target, VariantTarget):
            return target.row
        if isinstance(target, DiffTarget):
            return target.after
        if (row := getattr(pane.page, "row", None)) is not None:
            return int(row)
        if is_diff(pane.page) and (pair := pane.page.chosen()) is not None:
            return pair[1]
        return None

    def action_mark(self) -> None:
        app = self._app()
        app.context.marked = self._variant()
        app.context.touch()
        app.renew()

    def action_compare(self) -> None:
        app, row = self._app(), self._variant()
        model = app.context.model
        if self._pane.page is app.pages[0]:
            app.renew()
            marked = len(app.session.marked)
            self._say(
                "Settings of the marked runs stand below the curves"
                if marked > 1
                else "Mark two runs with space first"
            )
            return
        if model is None or row is None:
            self._say("The cursor is on no variant")
            return
        other = app.context.marked
        if other is None:
            other = model.view.variants.row(model.view.champion)
        if other is None or other == row:
            self._say("Mark another variant with m first")
            return
        self._push(self._pane, page_for(DiffTarget(other, row, ""), app.context))

    def action_diff(self) -> None:
        app, row = self._app(), self._variant()
        model = app.context.model
        parents = model.view.variants.parents(row) if model is not None and row is not None else []
        if row is None or not parents:
            app.show_screen(4)
        else:
            self._push(self._pane, page_for(DiffTarget(parents[0], row, ""), app.context))

    def action_source(self) -> None:
        row = self._variant()
        if row is None:
            self._say("The cursor is on no variant")
        else:
            from moevolve_tui.pages.variant import SourcePage

            self._push(self._pane, SourcePage(self._app().context, row))

    def action_attempts(self) -> None:
        app, row = self._app(), self._variant()
        model = app.context.model
        if model is None:
            return
        diff = is_diff(self._pane.page)
        name = model.view.variants.name(row) if row is not None else None
        from moevolve_tui.pages.attempts import AttemptsPage

        self._push(self._pane, AttemptsPage(app.context, name, "gate" if diff else None))

    def action_copy(self) -> None:
        pane = self._pane
        target = pane.page.target(pane.cursor)
        model = self._app().context.model
        words = target.name if target is not None else (model.run if model is not None else "")
        self._app().copy_to_clipboard(words)
        self._say(f"Copied {line(words)}")

    def action_picture(self) -> None:
        """Writes the screen as SVG beside where the screens were started, never into the run's folder."""
        app = self._app()
        model = app.context.model
        run = (model.run if model is not None else "") or "run"
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in run)
        taken = (app.screenshots / f"moevolve-{name}-{number}.svg" for number in range(1, 10_000))
        try:
            path = next(path for path in taken if not path.exists())
            path.write_text(app.export_screenshot(title=f"moevolve watch {name}"), encoding="utf-8")
        except OSError as error:
            self._say(f"No picture: {error}", bad=True)
        else:
            self._say(f"Wrote {path}")
