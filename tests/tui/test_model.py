import synthetic_run as synthetic

from moevolve.records import Entry, Evaluated, Gated, State, Timing, VariantAdded
from moevolve_tui.model import RunModel, planned_cycles


def folded(count: int | None = None) -> RunModel:
    model = RunModel()
    for entry in synthetic.entries()[:count]:
        model.fold(entry)
    return model


def state(status: str) -> State:
    return synthetic.state_at(5, status)


def test_a_whole_run_folds_to_its_story() -> None:
    model = folded()
    assert (model.run, model.seed, model.arm, model.planned, model.cycle) == ("first", 11, "full", 8, 8)
    assert [point.when for point in model.points] == ["initial", *["cycle"] * 8, "final"]
    assert len(model.skills) == 12 and len(model.variants) == 17
    assert model.entries == len(model.log) == len(synthetic.entries())
    assert (model.generated, model.trained, model.lessons) == (720_000, 400_000, 960)


def test_scores_and_levels_are_the_first_and_the_latest_evaluation() -> None:
    skill = folded().skills["text/reverse"]
    assert skill.before and skill.now
    assert skill.levels == (6, 11)
    assert skill.now.score > skill.before.score


def test_the_gate_settles_the_fate_of_a_variant() -> None:
    model = folded()
    gated = [entry.record for entry in synthetic.entries() if isinstance(entry.record, Gated)]
    fates = {"promote": "promoted", "archive": "archived", "discard": "discarded"}
    for record in gated:
        assert model.variants[record.candidate].fate == fates[record.decision]
        assert model.variants[record.candidate].gain == record.gain
    assert model.champion == [record.candidate for record in gated if record.decision == "promote"][-1]
    assert sum(accepted for accepted, _ in model.decisions.values()) == len(model.promotions)
    assert "screened" in {node.fate for node in model.variants.values()}


def test_a_decision_on_a_variant_never_heard_of_still_counts() -> None:
    model = RunModel()
    model.fold(
        Entry(
            seq=0,
            record=synthetic.gated(1, "weights", "v9", "v0", "promote", 0.1),
            timing=Timing(at=0.0),
            hash="",
        )
    )
    assert model.variants["v9"].parent == "v0"


def test_a_variant_added_after_its_gate_keeps_its_fate() -> None:
    model = folded()
    name = next(name for name, node in model.variants.items() if node.fate == "promoted")
    added = VariantAdded(
        variant=name,
        parents=["v0000"],
        cycle=1,
        level="weights",
        weights="w",
        program="p",
        operator="o",
        summary="",
        score=0.5,
    )
    model.fold(Entry(seq=model.entries, record=added, timing=Timing(at=0.0), hash=""))
    assert model.variants[name].fate == "promoted"


def test_a_run_whose_writer_is_gone_has_stopped() -> None:
    model = folded(30)
    model.observe(state("running"), alive=True)
    assert model.status == "running" and model.eta is not None
    model.observe(state("running"), alive=False)
    assert model.status == "stopped" and model.eta is None
    model.observe(state("paused"), alive=False)
    assert model.status == "stopped"
    model.observe(state("failed"), alive=False)
    assert model.status == "failed"


def test_the_end_on_record_outranks_a_stale_state() -> None:
    model = folded()
    model.observe(state("running"), alive=False)
    assert model.status == "finished"


def test_a_folder_without_state_is_waiting_until_its_first_record() -> None:
    model = RunModel()
    model.observe(None, alive=False)
    assert model.status == "waiting"
    model = folded(3)
    model.observe(None, alive=False)
    assert model.status == "stopped"


def test_text_from_programs_is_harmless_in_every_field() -> None:
    model = RunModel()
    nasty = VariantAdded(
        variant="v1",
        parents=[],
        cycle=1,
        level="program",
        weights="",
        program="",
        operator="\x1b[2J",
        summary="\x1b]0;x\x07hi",
        score=None,
    )
    model.fold(Entry(seq=0, record=nasty, timing=Timing(at=0.0), hash=""))
    assert model.variants["v1"].what == "hi"
    assert "\x1b" not in model.log[0].text


def test_every_kind_of_record_has_a_sentence() -> None:
    model = folded()
    assert all(line.text and "\n" not in line.text for line in model.log)
    kinds = {type(entry.record) for entry in synthetic.entries()}
    assert len(kinds) == 13
    finals = [e for e in synthetic.entries() if isinstance(e.record, Evaluated) and e.record.when == "final"]
    assert model.log[finals[0].seq].text.startswith("Sealed score at the end: .669 ±.020")


def test_planned_cycles_are_found_at_the_top_or_one_table_down() -> None:
    assert planned_cycles('{"cycles": 3}') == 3
    assert planned_cycles('{"run": {"cycles": 5}}') == 5
    assert planned_cycles('{"cycles": null, "minutes": 10}') is None
    assert planned_cycles("not json") is None
    assert planned_cycles("[1]") is None
