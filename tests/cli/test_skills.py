"""`moevolve skills` of a run whose tree has grown: what it shows, takes back, exports and imports."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from moevolve.api import Run, import_skills
from moevolve.cli.main import main
from moevolve.errors import UsageError
from moevolve.loop.run import start
from moevolve.tasks import folder as suites
from moevolve.tasks.agent_skills.folder import folders, validate
from moevolve.tasks.agent_skills.tree import imported

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from growing import growing  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(growing(), tmp_path_factory.mktemp("skills") / "run")


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_levels_have_posteriors_with_intervals(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "skills", run)
    sort = next(each for each in shown["skills"] if each["path"] == "text/sort")
    for level in sort["mastery"]:
        low, high = level["ci"]
        assert 0 <= low <= level["mean"] <= high <= 1 and level["n"] >= 0


def test_what_was_grown_is_shown_with_mastery_and_growth_column(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growth = told(capsys, "skills", run)["growth"]
    leaf = next(each for path, each in growth["leaves"].items() if path.startswith("compose/"))
    assert leaf["parents"] and leaf["mastery"]
    low, high = leaf["sealed"]["ci"]
    assert low <= leaf["sealed"]["score"] <= high and leaf["sealed"]["n"] > 0
    assert any(each["levels"][0] == 4 for each in growth["opened"].values())
    assert all(each["growth"] and each["reason"] for each in growth["changes"])
    assert told(capsys, "show", run)["growth"] == growth
    assert not set(growth["leaves"]) & set(told(capsys, "show", run)["skills"])


def test_the_tree_names_grown_leaves_beside_the_suites(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaves = told(capsys, "skills", run)["growth"]["leaves"]
    assert main(["skills", str(run), "--tree"]) == 0
    shown = capsys.readouterr().out
    assert all(path.rpartition("/")[2][:12] in shown for path in [*leaves, "text/sort"])
    assert main(["skills", str(run)]) == 0
    assert "Growth, in no score" in capsys.readouterr().out


@pytest.mark.parametrize("by", ["name", "leaf"])
def test_a_change_is_rolled_back_by_its_name_or_its_leaf(
    copy: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    leaves = told(capsys, "skills", copy)["growth"]["leaves"]
    path = next(iter(leaves))
    name = leaves[path]["growth"] if by == "name" else path
    assert main(["skills", str(copy), "--rollback", name]) == 0
    growth = told(capsys, "skills", copy)["growth"]
    assert path not in growth["leaves"]
    assert {"rolled back"} == {
        each["state"] for each in growth["changes"] if each["growth"] == leaves[path]["growth"]
    }
    assert main(["audit", str(copy)]) == 0


def test_export_validate_and_import_give_the_same_tree(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skills", str(run), "--export", str(tmp_path / "out")]) == 0
    assert main(["skills", "--validate", str(tmp_path / "out")]) == 0
    reference = pytest.importorskip("skills_ref").validate
    for each in folders(tmp_path / "out"):
        assert validate(each) == [] == reference(each)
    tree = Run.attach(run).skills
    assert [each.leaf for each in imported(tmp_path / "out")] == tree
    capsys.readouterr()
    told(capsys, "skills", tmp_path / "suite", "--import", tmp_path / "out")
    suite = suites.load(tmp_path / "suite")
    assert set(suite.skills) <= {leaf.path for leaf in tree}
    assert suite.skills


def test_examples_are_of_their_own_skill_and_of_no_sealed_task(run: Path, tmp_path: Path) -> None:
    from moevolve.config import Config
    from moevolve.loop import resolve

    Run.attach(run).export_skills(tmp_path / "out")
    suite = resolve.suite(Config.load(run / "run.toml"))
    verbs = {path: leaf.verb for path, leaf in suite.skills.items()}
    found = [(each.leaf.path, example) for each in imported(tmp_path / "out") for example in each.examples]
    assert found
    for path, example in found:
        assert suite.split_of(example.prompt) == "train"
        assert example.prompt.startswith(f"{verbs.get(path, '')}")


def test_imports_beside_a_run_leave_it_as_it_is(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skills", str(copy), "--export", str(tmp_path / "out")]) == 0
    assert main(["skills", str(copy), "--import", str(tmp_path / "out")]) == 0
    assert (copy / "imported" / "suite.toml").is_file()
    assert main(["audit", str(copy)]) == 0


def test_the_same_from_python(copy: Path, tmp_path: Path) -> None:
    run = Run.attach(copy)
    files = run.export_skills(tmp_path / "out")
    assert "text-sort/SKILL.md" in files
    assert import_skills(tmp_path / "out", tmp_path / "suite") == run.skills
    assert run.roll_back("g001") is not None
    with pytest.raises(UsageError, match="g001"):
        run.roll_back("g001")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rollback", "g001"], "--rollback"),
        (["--export", "out"], "--export"),
        (["RUN", "--rollback", "g099"], "g099"),
        (["RUN", "--export", "RUN"], "already"),
        (["new", "--import", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skills", *(str(run) if word == "RUN" else word for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_the_report_and_the_exported_tree_have_the_growth_column(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = next(iter(told(capsys, "skills", run)["growth"]["leaves"]))
    page = tmp_path / "report.html"
    assert main(["report", str(run), "--html", str(page)]) == 0
    capsys.readouterr()
    text = page.read_text(encoding="utf-8")
    assert "Growth of the skill tree, in no score" in text and leaf in text and "rolled back" not in text
    assert main(["export", str(run), "--skills"]) == 0
    assert leaf in json.loads(capsys.readouterr().out)["growth"]["leaves"]


def test_opened_levels_are_rolled_back_by_their_leaf(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = told(capsys, "skills", copy)["growth"]["opened"]
    path = next(iter(opened))
    assert main(["skills", str(copy), "--rollback", path]) == 0
    assert path not in told(capsys, "skills", copy)["growth"]["opened"], "later levels go with the first ones"
