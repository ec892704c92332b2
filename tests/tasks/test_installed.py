"""Suites of installed packages are there by name: on the command line, in `mv.evolve`, in a file, in a resumed run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import moevolve as mv
from moevolve.cli.main import main
from moevolve.cli.suites import named
from moevolve.errors import UsageError
from moevolve.tasks.installed import installed, located

FILE = """
import moevolve as mv

@mv.skill("shop/double", summary="Double", levels=(1, 2))
def double(rng, level):
    n = rng.randrange(10**4)
    return mv.Task(prompt=f"dub:{n}=", answer=str(2 * n))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with suites of every kind."""
    site = tmp_path / "site"
    (site / "acme" / "mail").mkdir(parents=True)
    (site / "acme" / "__init__.py").write_text(
        "from pathlib import Path\n\ndef where():\n    return Path(__file__).parent / 'mail'\n\nNOTHING = 3\n"
    )
    (site / "acme" / "shop.py").write_text(FILE)
    (site / "acme" / "mail" / "__init__.py").write_text("")
    rows = [{"id": f"m{n}", "prompt": f"mail {n}", "answer": "billing"} for n in range(40)]
    (site / "acme" / "mail" / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = site / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[moevolve.suites]\nacme_shop = acme.shop\nacme_mail = acme.mail\nacme_where = acme:where\n"
        "acme_gone = acme.gone\nacme_odd = acme:NOTHING\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    return site


def test_packages_offer_suites_by_name(package: Path) -> None:
    assert {"acme_shop", "acme_mail", "acme_where"} <= set(installed())
    assert located("acme_shop") == package / "acme" / "shop.py"
    assert located("acme_mail") == located("acme_where") == package / "acme" / "mail"
    assert located("nobody's") is None
    assert list(named("acme_shop").skills) == ["shop/double"]


@pytest.mark.parametrize("name", ["acme_gone", "acme_odd"])
def test_an_entry_point_that_leads_nowhere_is_refused_by_name(package: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        named(name)


def test_a_path_comes_before_a_name(package: Path, tmp_path: Path) -> None:
    (tmp_path / "acme_shop").mkdir()
    (tmp_path / "acme_shop" / "own.py").write_text(FILE.replace("shop/double", "own/double"))
    assert list(named("acme_shop").skills) == ["own/double"]


def test_the_command_line_knows_them(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "acme_mail", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "mail"
    assert main(["tasks", "acme_shopp"]) == 2
    assert "acme_shop" in capsys.readouterr().err


def test_a_run_keeps_a_copy_and_goes_on_without_the_package(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"gate": {"min_n": 4, "max_n": 8, "batch": 4}, "attempts.tasks": 8, "evolve.screen": 4}
    mv.evolve("small", out=out, suite="acme_shop", cycles=1, arm="program", settings=settings).wait()
    assert (out / "suite").is_dir()
    command = "import sys; from moevolve.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "resume", str(out), "--cycles", "+1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(UsageError, match="acme_missing"):
        mv.evolve("small", out=tmp_path / "none", settings={"suite.name": "acme_missing"}, cycles=1).wait()
    mv.evolve(
        "small", out=tmp_path / "file", settings={"suite.name": "acme_mail", **settings}, cycles=0
    ).wait()
