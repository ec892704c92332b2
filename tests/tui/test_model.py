import synthetic_run as synthetic
from memory_run import MemoryRun

from moevolve.records import State
from moevolve_tui.model import RunModel


def folded(count: int | None = None) -> RunModel:
    run = MemoryRun(synthetic.entries()[:count])
    model = RunModel()
    model.attach(run)
    model.fold(list(run.records()))
    return model


def state(status: str) -> State:
    return synthetic.state_at(5, status)


def test_a_whole_run_folds_to_its_story() -> None:
    model = folded()
    view = model.view
    assert (model.run, view.planned, view.cycle) == ("first", 8, 8)
    assert [point.when for point in view.curve] == ["initial", "initial", *["cycle"] * 8, "final"]
    assert len(view.skills) == 12 and len(view.variants) == 17
    assert model.entries == len(synthetic.entries())
    assert (view.trained, view.lessons) == (720_000, 960)


def test_a_run_whose_writer_is_gone_has_stopped_unless_it_paused() -> None:
    model = folded(30)
    model.observe(state("running"), alive=True)
    assert model.status == "running" and model.eta is not None
    model.observe(state("running"), alive=False)
    assert model.status == "stopped" and model.eta is None
    model.observe(state("paused"), alive=False)
    assert model.status == "paused"
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


def test_a_line_of_the_log_is_made_from_its_entry_when_it_is_shown() -> None:
    model = folded()
    last = synthetic.entries()[-2]
    assert model.line(last.seq).text.startswith("Sealed score at the end: .669 ±.020")
    assert model.line(last.seq).at == last.timing.at
