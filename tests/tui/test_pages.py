"""What pages say, without a terminal."""

import msgspec
import pytest
import synthetic_run as synthetic
from hostile_run import POISON, STEERING, poisoned_record
from memory_run import MemoryRun
from tui_harness import context_over

from moevolve.journal import samples
from moevolve.journal.drawing.lines import text_of, width_of
from moevolve.records import Consolidated, Controlled, Entry, Evaluated, Gated, GateProgress, Lesson, Timing
from moevolve_tui.drawing import diff
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.drawing.words import next_steps
from moevolve_tui.pages.attempts import AttemptPage, AttemptsPage, kept
from moevolve_tui.pages.diff import DiffPage
from moevolve_tui.pages.memory import LessonPage
from moevolve_tui.pages.page import Context, Page
from moevolve_tui.pages.records import CyclePage, EntryPage
from moevolve_tui.pages.runs import RunsPage, differing, mean_curve
from moevolve_tui.pages.skills import SkillPage
from moevolve_tui.pages.variant import SourcePage, VariantPage
from moevolve_tui.screens import SCREENS
from moevolve_tui.targets import FoldTarget, VariantTarget

MIDDLE = synthetic.middle()
SIZES = [(57, 12), (77, 20), (118, 36), (178, 46)]


def text(page: Page, size: tuple[int, int] = (100, 40)) -> str:
    page.prepare(*size)
    return "\n".join(text_of(page.line(index)) for index in range(page.count()))


def every_page(context: Context) -> list[Page]:
    """Each screen, and each inspector of something in the run."""
    model = context.model
    assert model is not None
    rows = range(len(model.view.variants))
    lesson = Lesson(
        id=POISON,
        skill=POISON,
        level=1,
        text=POISON,
        prompt=POISON,
        answer=POISON,
        success=True,
        run=POISON,
        cycle=1,
        variant="v0001",
    )
    return [
        *(page(context) for page in SCREENS),
        *(VariantPage(context, row) for row in rows),
        *(SourcePage(context, row) for row in rows),
        *(DiffPage(context, (0, row)) for row in rows),
        *(EntryPage(context, seq) for seq in range(model.entries)),
        *(CyclePage(context, number) for number in range(10)),
        *(SkillPage(context, path) for path in model.view.skills),
        *(AttemptPage(context, target) for target in kept(model)),
        AttemptsPage(context),
        LessonPage(context, lesson),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_every_page_has_rows_at_every_size(size: tuple[int, int]) -> None:
    for page in every_page(context_over(synthetic.recorded())):
        page.prepare(*size)
        assert page.count() > 0
        for index in range(page.count()):
            assert width_of(page.line(index)) <= size[0]
        assert page.heading()


def test_no_words_of_a_run_steer_the_screens() -> None:
    run = synthetic.recorded()
    run.written = [
        msgspec.structs.replace(entry, record=poisoned_record(entry.record)) for entry in run.written
    ]
    run.said = msgspec.structs.replace(synthetic.state_at(100), stage=POISON, error=POISON)
    poisoned = msgspec.structs.replace(
        synthetic.attempts("program")[0],
        task=POISON,
        skill=POISON,
        prompt=POISON,
        answer=POISON,
        detail=POISON,
        failure=POISON,
        requests=[(POISON, POISON)],
        other=POISON,
    )
    run.blobs = {name: msgspec.msgpack.encode({POISON: POISON}) for name in [*run.blobs, POISON]}
    _, key, value = samples.put(1, "program", POISON, [poisoned])
    assert value is not None
    run.tables = {samples.TABLE: {key: value}}
    context = context_over(run)
    assert context.model is not None
    lines = heading_lines(context.model, 1.0, 200)
    for page in every_page(context):
        page.prepare(120, 40)
        lines += [page.line(index) for index in range(page.count())]
        lines.append([(page.heading(), "plain")])
    for line in lines:
        assert STEERING.search(text_of(line)) is None and "\n" not in text_of(line)


def test_the_overview_says_what_changed_by_how_much_and_of_how_many() -> None:
    shown = text(SCREENS[1](context_over(synthetic.recorded(MIDDLE))))
    assert "+.043 n=420" in shown and "distil 60 steps" in shown
    assert "Worked: tried, passed, promoted" in shown and "Next: p pause after this cycle" in shown


def test_the_gate_is_shown_while_it_runs() -> None:
    run = synthetic.recorded(MIDDLE)
    progress = GateProgress(
        candidate="v0008",
        champion="v0007",
        level="program",
        n=192,
        most=4096,
        wins=15,
        losses=1,
        gain=0.07,
        evidence=3.6,
        alpha=0.01,
    )
    run.said = msgspec.structs.replace(synthetic.state_at(MIDDLE), gate=progress)
    shown = text(SCREENS[1](context_over(run)))
    for words in (
        "v0008 against champion v0007",
        "192 of 4,096 pairs  15 won  1 lost",
        "36.6 : 1",
        "needs 100 : 1",
        "no skill shown harmed",
    ):
        assert words in shown


def test_what_was_not_measured_is_a_dash() -> None:
    context = context_over(synthetic.recorded(3))
    shown = text(SCREENS[0](context))
    assert ".44 " in shown and ">" not in shown.split("run-")[-1].split("space")[0].replace(
        "before > now", ""
    )
    assert "no change can be told" in text(SCREENS[2](context))


def test_fates_are_told_in_the_records_words() -> None:
    page = SCREENS[3](context_over(synthetic.recorded()))
    shown = text(page)
    assert "17 variants: " in shown and "promoted" in shown and "n=420" in shown
    row = next(index for index in range(page.count()) if isinstance(page.target(index), VariantTarget))
    assert page.fold(row, False)
    assert len(text(page).splitlines()) < len(shown.splitlines())


def test_minor_siblings_are_counted_until_they_are_opened() -> None:
    run = synthetic.recorded(4)
    seq = len(run.written)
    for number in range(1, 41):
        record = msgspec.structs.replace(
            run.written[1].record,
            variant=f"v{number:04}",
            parents=["v0000"],
            level="program",
            cycle=1,  # type: ignore[arg-type]
        )
        run.written.append(Entry(seq=seq, record=record, timing=Timing(at=9.0), hash=f"{seq:064x}"))
        seq += 1
    context = context_over(run)
    assert context.model is not None
    for row in range(1, 41):
        context.model.view.variants.settle(row, "not screened")
    page = SCREENS[3](context)
    assert "37 more not screened" in text(page)
    folded = next(index for index in range(page.count()) if isinstance(page.target(index), FoldTarget))
    page.fold(folded, True)
    assert "more" not in text(page) and "v0040" in text(page)


def test_a_diff_shows_the_change_its_figures_by_skill_and_what_flipped() -> None:
    context = context_over(synthetic.recorded())
    variants = context.model.view.variants  # type: ignore[union-attr]
    row = variants.row("v0002")
    assert row is not None
    shown = text(DiffPage(context, (0, row)), (120, 60))
    assert "+    2      'v0': vote(samples=0)," in shown
    assert "At the gate" in shown and "number/add" in shown
    flipped = [line for line in shown.splitlines() if "won " in line or "lost " in line]
    assert len(flipped) >= 2


def test_a_wide_diff_stands_side_by_side_and_u_turns_that_round() -> None:
    context = context_over(synthetic.recorded())
    row = context.model.view.variants.row("v0008")  # type: ignore[union-attr]
    assert row is not None
    narrow, wide = (text(DiffPage(context, (1, row)), (width, 60)).splitlines() for width in (100, 118))
    context.other_diff = True
    turned = text(DiffPage(context, (1, row)), (100, 60)).splitlines()
    below = text(DiffPage(context, (1, row)), (118, 60)).splitlines()
    for unified in (narrow, below):
        assert any(line.startswith("+    3      'v1'") for line in unified)
        assert not any(" │ " in line for line in unified)
    for beside in (wide, turned):
        halves = [line.split(" │ ") for line in beside if " │ " in line]
        assert any(left.split() == ["1", "ROUTES", "=", "{"] == right.split() for left, right in halves)
        assert any(not left.strip() and right.startswith("+    3") for left, right in halves)


def test_lines_of_a_diff_are_wrapped_and_numbered_once() -> None:
    before = "same\n" + "x" * 150 + "\nend"
    after = "same\n" + "x" * 149 + "y\nnew\nend"
    [hunk] = diff.hunks(before, after)
    assert hunk.head == "@@ -1,3 +1,4 @@" and diff.counts([hunk]) == (2, 1)
    for drawn in (list(diff.below(hunk.pairs, 80)), list(diff.side_by_side(hunk.pairs, 120))):
        words = [text_of(line) for line in drawn]
        assert max(map(len, words)) <= 120
        joined = "".join(each.replace(" ", "").replace("│", "") for each in words)
        assert joined.count("x") == 299 and sum("-    2" in each for each in words) == 1
    [only] = diff.hunks("", "one")
    assert (only.head, [pair.after for pair in only.pairs]) == ("@@ -1 +1 @@", [(1, "one")])


def test_an_attempt_shows_prompt_requests_answer_and_verdict() -> None:
    context = context_over(synthetic.recorded())
    failed = next(each for each in kept(context.model) if not each.sample.success and each.stage == "program")  # type: ignore[arg-type]
    shown = text(AttemptPage(context, failed))
    for words in (
        "verdict: wrong, score 0",
        "differs at letter 2",
        "rev:abcabcabc=",
        "asked: rev:",
        "drawn: cbacbacba",
        "cab",
    ):
        assert words in shown


def test_a_skill_shows_levels_with_intervals_and_its_failures() -> None:
    shown = text(SkillPage(context_over(synthetic.recorded()), "number/add"))
    assert "level  bare policy" in shown and "timeout" in shown
    assert "[" in shown.split("through the program")[1]


def test_a_dead_expert_is_marked() -> None:
    shown = text(SCREENS[5](context_over(synthetic.recorded(MIDDLE))))
    assert "0.00!" in shown and "2.40" in shown


def test_every_state_offers_a_next_step() -> None:
    for status in ("running", "paused", "finished", "failed", "stopped", "waiting", "deleted"):
        context = context_over(synthetic.recorded(MIDDLE))
        assert context.model is not None
        context.model.status = status  # type: ignore[assignment]
        assert next_steps(context.model)
        text(SCREENS[1](context))


def test_what_waits_for_a_person_is_offered_where_it_is_seen() -> None:
    run = synthetic.recorded(MIDDLE)
    gated = next(entry.record for entry in run.written if isinstance(entry.record, Gated))
    held = msgspec.structs.replace(gated, decision="hold")
    seq = len(run.written)
    run.written.append(Entry(seq=seq, record=held, timing=Timing(at=999.0), hash="h"))
    context = context_over(run)
    assert "A approve" in text(SCREENS[7](context))
    assert f"approve {held.candidate}" in text(SCREENS[1](context))
    done = Controlled(
        cycle=4, request=1, command="reject", variant=held.candidate, done=True, champion="v0007"
    )
    run.written.append(Entry(seq=seq + 1, record=done, timing=Timing(at=1000.0), hash="i"))
    assert "waiting for you: nothing" in text(SCREENS[7](context_over(run)))


def other_seed(run: MemoryRun, seed: int, shift: float) -> MemoryRun:
    """The run with another seed, and dev scores that are higher."""
    first = run.written[0]
    record = msgspec.structs.replace(
        first.record, seed=seed, config=f'{{"cycles": 8, "seed": {seed}}}', run=f"seed-{seed}"
    )  # type: ignore[arg-type]
    run.written = [msgspec.structs.replace(first, record=record, hash=f"seed {seed}"), *run.written[1:]]
    for index, entry in enumerate(run.written):
        if isinstance(entry.record, Evaluated) and entry.record.split == "dev":
            score = msgspec.structs.replace(entry.record.score, mean=entry.record.score.mean + shift)
            moved = msgspec.structs.replace(entry.record, score=score)
            run.written[index] = msgspec.structs.replace(entry, record=moved)
    return run


def test_runs_that_differ_in_their_seed_have_a_mean_with_its_interval() -> None:
    context = context_over(synthetic.recorded(MIDDLE), other_seed(synthetic.recorded(MIDDLE), 12, 0.1))
    models = context.session.runs
    points, bands = mean_curve(models) or ([], [])
    own = [point.score.mean for point in models[0].view.curve if point.split == "dev"]
    assert [y for _, y in points] == pytest.approx([y + 0.05 for y in own])
    assert all(low < y < high for (_, y), (low, high) in zip(points, bands, strict=True))
    context.session.marked = {model.path for model in models}
    shown = text(RunsPage(context), (120, 40))
    assert "mean of 2 seeds, arm full" in shown and "a first" in shown and "b seed-12" in shown
    assert any("seed" in text_of(row.line) and "12" in text_of(row.line) for row in differing(models, 100))


def test_lessons_that_were_made_one_are_counted_and_name_their_sources() -> None:
    run = synthetic.recorded(MIDDLE)
    made = Consolidated(
        cycle=4,
        merge="m001",
        skill="text/reverse",
        about="fact",
        decision="merged",
        reason="2 lessons say the same",
        lesson="ab",
        sources=["a", "b"],
        evidence=[(1.0, 0.0), (0.0, 0.0)],
        trust=0.6,
    )
    seq = len(run.written)
    run.written.append(Entry(seq=seq, record=made, timing=Timing(at=999.0), hash="h"))
    context = context_over(run)
    assert "1 merge of lessons that say the same, last m001" in text(SCREENS[6](context))
    lesson = Lesson(
        id="ab",
        skill="text/reverse",
        level=1,
        text="t",
        prompt="p",
        answer="a",
        success=True,
        run="first",
        cycle=4,
        variant="v0001",
        sources=["a", "b"],
    )
    shown = text(LessonPage(context, lesson))
    assert "Made of 2 lessons that said the same" in shown and "a, b" in shown
