"""Folders of the two kinds, read and run as they lie there."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from moevolve.errors import UsageError
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.inside import contracts
from moevolve.tasks.evaluators.inside.contracts import LONGEST_ARTIFACT
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess
from moevolve.tasks.evaluators.verdict import Evaluation

FOLDERS = Path(__file__).parents[2] / "fixtures" / "evaluators"
LIMITS = EvaluatorLimits(seconds=20, memory_mb=512)
WALLS = pytest.mark.parametrize("walls", [True, False], ids=["walls", "no-namespaces"])


@WALLS
def test_stages_follow_their_thresholds_and_keep_artifacts(walls: bool) -> None:
    folder = folders.openevolve(FOLDERS / "valley")
    assert (folder.seconds, folder.iterations, folder.seed) == (20, 12, 5)
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        found = process.evaluate(folder.initial())
        assert found.failure is None and found.score is not None and 0.9 < found.score < 1
        assert found.artifacts["second"] == "measured twice" and "," in found.artifacts["first"]
        low = process.evaluate(folder.initial().replace("return x, y", "return float('nan'), y"))
        assert low.score == 0.0 and "second" not in low.artifacts, (
            "below the threshold no second stage is run"
        )


@WALLS
def test_an_evaluator_may_start_a_process_and_write_files_that_nobody_sees_afterwards(
    walls: bool, tmp_path: Path
) -> None:
    folder = folders.openevolve(FOLDERS / "packing")
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        found = process.evaluate(folder.initial())
        assert found.score == pytest.approx(9 * 0.08), found
        assert found.artifacts["radius"] == "nan" and found.artifacts["circles"].startswith("[(0.26")
        assert process.evaluate(folder.initial().replace("0.08", "0.5")).score == 0.0
    assert not (FOLDERS / "packing" / "last.json").exists()


def test_async_evaluators_nested_metrics_and_times_among_them() -> None:
    folder = folders.openevolve(FOLDERS / "modules")
    with EvaluatorProcess(folder, LIMITS) as process:
        assert process.evaluate(folder.initial()).score == 0.0
        better = process.evaluate(folder.initial().replace('"reader": 0', '"reader": 2'))
        assert (
            better.score == 0.25
            and better.metrics["right"] == 1
            and better.artifacts["choices"].startswith("[{")
        )
        broken = process.evaluate("def configure(): return 1 / 0")
        assert broken.score == 0.0 and broken.artifacts["error"] == "division by zero"


def test_without_a_combined_score_it_is_the_mean_of_the_numbers() -> None:
    folder = folders.openevolve(FOLDERS / "denoise")
    with EvaluatorProcess(folder, LIMITS) as process:
        found = process.evaluate(folder.initial())
    gain, smoothness = found.metrics["gain"], found.metrics["smoothness"]
    assert isinstance(gain, float) and isinstance(smoothness, float)
    assert found.metrics["valid"] is True
    assert found.score == pytest.approx((gain + smoothness + 1) / 3), "a truth is in it as 1, and no NaN"


@pytest.mark.parametrize(
    ("first", "features", "passes"),
    [
        ({"ok": 0.6, "error": 0.0}, (), True),
        ({"valid": True, "quality": 0.1}, (), True),
        ({"valid": False, "quality": 0.9}, (), False),
        ({"speed": 0.9, "quality": 0.2}, ("speed",), True),
        ({"combined_score": "n/a", "ok": 0.9}, (), True),
        ({"combined_score": 0.4, "ok": 0.9}, (), False),
        ({"error": 1.0}, (), False),
        ({"ok": float("nan")}, (), False),
        ({}, (), False),
    ],
)
def test_a_stages_threshold_is_openevolves(
    first: dict[str, object], features: tuple[str, ...], passes: bool
) -> None:
    """As `Evaluator._passes_threshold` has it: numbers and truths but `error`, features among them."""
    module = types.ModuleType("evaluator")
    module.evaluate_stage1 = lambda path: first  # type: ignore[attr-defined]
    module.evaluate_stage2 = lambda path: {"combined_score": 5.0}  # type: ignore[attr-defined]
    found = contracts.safely(lambda: contracts.openevolve(module, "", {"features": features}))
    assert (found["score"] == 5.0) == passes, found


@pytest.mark.parametrize(
    ("metrics", "features", "score"),
    [
        ({"speed": 0.9, "quality": 0.2}, ("speed",), 0.2),
        ({"speed": 0.9, "size": 0.1}, ("speed", "size"), 0.5),
        ({"quality": 0.5, "valid": True}, (), 0.75),
    ],
)
def test_a_score_without_a_combined_one_is_openevolves(
    metrics: dict[str, object], features: tuple[str, ...], score: float
) -> None:
    """As `get_fitness_score` has it: features count where there is nothing else."""
    module = types.ModuleType("evaluator")
    module.evaluate = lambda path: metrics  # type: ignore[attr-defined]
    found = contracts.openevolve(module, "", {"features": features})
    assert found["score"] == pytest.approx(score)


@WALLS
def test_shinkas_wrapper_and_validation(walls: bool) -> None:
    folder = folders.shinka(FOLDERS / "packing-shinka")
    with EvaluatorProcess(folder, LIMITS, walls=walls) as process:
        found = process.evaluate(folder.initial())
        assert found.score == pytest.approx(0.72) and found.metrics["circles"] == 9
        wrong = process.evaluate(folder.initial().replace("RADIUS = 0.08", "RADIUS = 0.3"))
        assert (wrong.score, wrong.failure, wrong.detail) == (None, "incorrect", "a circle leaves the square")
        raises = process.evaluate(folder.initial().replace("return circles", "return missing"))
        assert raises.failure == "incorrect" and "NameError" in raises.detail
        infinite = process.evaluate(folder.initial().replace("sum(radius", "1e999 + sum(radius"))
        assert infinite.failure == "infinite"


def test_shinkas_results_files_without_the_wrapper() -> None:
    folder = folders.shinka(FOLDERS / "sines-shinka")
    with EvaluatorProcess(folder, LIMITS) as process:
        found = process.evaluate(folder.initial())
        assert found.score is not None and found.artifacts["text_feedback"] == "close\ncloser"
        assert process.evaluate("def sine(x): return 1 / 0").failure == "error"
        assert process.evaluate("import os; os._exit(0)").failure == "crashed"


STAGES = """
def evaluate(path): return {}
def evaluate_stage1(path): return {"combined_score": 0.9, "error": "SAID"}
def evaluate_stage2(path):
    SECOND
def evaluate_stage3(path): return {"combined_score": 5.0}
"""


class TestStages:
    def evaluated(self, path: Path, second: str, said: str = "") -> Evaluation:
        (path / "initial_program.py").write_text("X = 1\n")
        (path / "evaluator.py").write_text(STAGES.replace("SECOND", second).replace("SAID", said))
        with EvaluatorProcess(folders.openevolve(path), LIMITS) as process:
            return process.evaluate("X = 1\n")

    @pytest.mark.parametrize(
        ("second", "said"),
        [
            ("raise ValueError('no')", "ValueError: no"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("return 'good'", "returned str"),
        ],
    )
    def test_one_that_raises_ends_the_cascade_with_what_came_before(
        self, tmp_path: Path, second: str, said: str
    ) -> None:
        found = self.evaluated(tmp_path, second)
        assert found.score == 0.9 and found.metrics["stage2_passed"] == 0.0
        assert said in found.artifacts["stage2_error"]

    def test_one_that_takes_too_much_memory_is_a_failure(self, tmp_path: Path) -> None:
        assert self.evaluated(tmp_path, "raise MemoryError").failure == "memory"

    def test_what_one_says_beside_its_numbers_ends_with_it(self, tmp_path: Path) -> None:
        found = self.evaluated(
            tmp_path, "return {'combined_score': 0.95, 'error': 0.0}", "slow, but it works"
        )
        assert (found.score, found.failure) == (5.0, None)


def test_generators_without_a_seed_start_from_the_key(tmp_path: Path) -> None:
    (tmp_path / "initial_program.py").write_text("import random\nVALUE = random.random()\n")
    (tmp_path / "evaluator.py").write_text(
        "import runpy\ndef evaluate(path): return {'combined_score': runpy.run_path(path)['VALUE']}\n"
    )
    folder = folders.openevolve(tmp_path)
    with EvaluatorProcess(folder, LIMITS) as process:
        scores = [process.evaluate(folder.initial(), key).score for key in (1, 2, 1)]
    assert scores[0] == scores[2] != scores[1]


class TestConfigurations:
    def write(self, path: Path, text: str) -> Path:
        (path / "initial_program.py").write_text("X = 1\n")
        (path / "evaluator.py").write_text("def evaluate(path): return {'combined_score': 1.0}\n")
        (path / "config.yaml").write_text(text)
        return path

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("max_iteration: 3\n", "no setting max_iteration .did you mean max_iterations"),
            ("evaluator: {time_out: 3}\n", "no setting evaluator.time_out .did you mean evaluator.timeout"),
            ("evaluator: {timeout: soon}\n", "evaluator.timeout: Expected `float`"),
            ("database: 3\n", "database is a section"),
            ("- a list\n", "holds no table"),
            ("a: [\n", "cannot be read"),
        ],
    )
    def test_what_nobody_knows_is_refused_by_name(self, tmp_path: Path, text: str, named: str) -> None:
        with pytest.raises(UsageError, match=named):
            folders.openevolve(self.write(tmp_path, text))

    def test_what_is_known_and_means_nothing_here_is_named(self, tmp_path: Path) -> None:
        text = "parallel_evaluations: 4\nllm: {primary_model: some}\nevaluator: {timeout: 7}\nprompt:\n"
        folder = folders.openevolve(self.write(tmp_path, text))
        assert folder.seconds == 7 and folder.without_effect == (
            "llm.primary_model",
            "parallel_evaluations",
            "prompt",
        )

    @pytest.mark.parametrize(
        "key",
        [
            "prompt.island_system_messages",
            "database.embedding_api_base",
            "database.island_initial_programs",
            "llm.max_ai_credits",
            "llm.allow_all_tools",
            "evolution_trace.include_failures",
        ],
    )
    def test_settings_of_newer_versions_are_known(self, tmp_path: Path, key: str) -> None:
        section, _, name = key.partition(".")
        folder = folders.openevolve(self.write(tmp_path, f"{section}: {{{name}: null}}\n"))
        assert folder.without_effect == (key,)

    def test_arguments_of_an_evaluator_reach_it(self, tmp_path: Path) -> None:
        self.write(tmp_path, "evaluator: {evaluator_args: {scale: 3, name: deep}}\n")
        (tmp_path / "evaluator.py").write_text(
            "def evaluate(path, scale=1, **more): return {'combined_score': scale * len(more['name'])}\n"
        )
        folder = folders.openevolve(tmp_path)
        assert folder.without_effect == ()
        with EvaluatorProcess(folder, LIMITS) as process:
            assert process.evaluate("X = 1\n").score == 12

    def test_arguments_that_an_evaluator_does_not_take_are_refused_at_once(self, tmp_path: Path) -> None:
        self.write(tmp_path, "evaluator: {evaluator_args: {scale: 3}}\n")
        with pytest.raises(UsageError, match="evaluator_args: .* unexpected keyword argument 'scale'"):
            EvaluatorProcess(folders.openevolve(tmp_path), LIMITS).start()

    def test_shinkas_arguments_are_names_and_values(self, tmp_path: Path) -> None:
        config = tmp_path / "run.yaml"
        config.write_text("job: {extra_cmd_args: {points: 20, fast: true, plain: false}}\n")
        folder = folders.shinka(FOLDERS / "sines-shinka", config)
        assert folder.settings["arguments"] == [
            *("--points", "20"),
            *("--fast", "True"),
            *("--plain", "False"),
        ]

    def test_shinkas_feedback_is_cut(self, tmp_path: Path) -> None:
        (tmp_path / "initial.py").write_text("# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n")
        (tmp_path / "evaluate.py").write_text(
            "import json, sys\nresults = sys.argv[sys.argv.index('--results_dir') + 1]\n"
            "told = {'combined_score': 1.0, 'text_feedback': ['x' * 20000] * 50}\n"
            "json.dump(told, open(results + '/metrics.json', 'w'))\n"
            "json.dump({'correct': True}, open(results + '/correct.json', 'w'))\n"
        )
        folder = folders.shinka(tmp_path)
        with EvaluatorProcess(folder, LIMITS) as process:
            found = process.evaluate(folder.initial())
        assert found.score == 1.0 and len(found.artifacts["text_feedback"]) == LONGEST_ARTIFACT

    @pytest.mark.parametrize(
        ("shown", "correct", "failure"),
        [
            ("'public': {'error': 'max abs error 1e-3'}", True, None),
            ("'public': {'timeout': True}, 'private': {'error': 'x'}", True, None),
            ("'public': {'combined_score': 7}", True, None),
            ("'public': {'error': 'max abs error 1e-3'}", False, "incorrect"),
        ],
    )
    def test_shinkas_correct_json_alone_says_what_failed(
        self, tmp_path: Path, shown: str, correct: bool, failure: str | None
    ) -> None:
        (tmp_path / "initial.py").write_text("# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n")
        (tmp_path / "evaluate.py").write_text(
            "import json, sys\nresults = sys.argv[sys.argv.index('--results_dir') + 1]\n"
            f"json.dump({{'combined_score': 1.5, {shown}}}, open(results + '/metrics.json', 'w'))\n"
            f"json.dump({{'correct': {correct}}}, open(results + '/correct.json', 'w'))\n"
        )
        folder = folders.shinka(tmp_path)
        with EvaluatorProcess(folder, LIMITS) as process:
            found = process.evaluate(folder.initial())
        assert (found.score, found.failure) == (None if failure else 1.5, failure)

    def test_shinkas_sections_by_either_name(self, tmp_path: Path) -> None:
        config = tmp_path / "run.yaml"
        config.write_text(
            "evo: {num_generations: 9}\njob_config: {time: '00:03:00', extra_cmd_args: {points: 20}}\n"
        )
        folder = folders.shinka(FOLDERS / "sines-shinka", config)
        assert (folder.iterations, folder.seconds) == (9, 180)
        with EvaluatorProcess(folder, LIMITS) as process:
            assert process.evaluate(folder.initial()).metrics["points"] == 20
        config.write_text("evo_config: {num_generation: 9}\n")
        with pytest.raises(UsageError, match="no setting evo_config.num_generation"):
            folders.shinka(FOLDERS / "sines-shinka", config)

    def test_a_shinka_program_without_marks_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "initial.py").write_text("x = 1\n")
        (tmp_path / "evaluate.py").write_text("")
        with pytest.raises(UsageError, match="EVOLVE-BLOCK-START"):
            folders.shinka(tmp_path)

    def test_programs_are_of_one_size_and_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "evaluator.py").write_text("def evaluate(path): return {'combined_score': 1.0}\n")
        program = tmp_path / "initial_program.py"
        program.write_text("#" * 70_000)
        assert len(folders.openevolve(tmp_path).initial()) == 70_000
        program.write_text("#" * 300_000)
        with pytest.raises(UsageError, match="is larger than 256 KiB"):
            folders.openevolve(tmp_path)
        program.write_bytes("# -*- coding: latin-1 -*-\nN = 'caf\xe9'\n".encode("latin-1"))
        with pytest.raises(UsageError, match=r"initial_program.py is no UTF-8, byte 35"):
            folders.openevolve(tmp_path)

    def test_keys_of_published_folders_that_openevolve_passes_over(self, tmp_path: Path) -> None:
        self.write(tmp_path, "max_program_length: 55000\nnovelty:\n  enabled: true\n")
        assert folders.openevolve(tmp_path).without_effect == ("max_program_length", "novelty")

    @pytest.mark.parametrize("name", ["a,b:c", "with\\back", "lowerdir=x", "ein Ordner"])
    def test_a_folder_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        (path := tmp_path / name).mkdir()
        (path / "initial_program.py").write_text("A = 1\n")
        (path / "evaluator.py").write_text(
            "import os\n"
            "def evaluate(path):\n"
            "    before = len(os.listdir())\n"
            "    open('beside', 'w').close()\n"
            "    return {'combined_score': float(before), 'after': len(os.listdir(os.path.dirname(__file__)))}\n"
        )
        with EvaluatorProcess(folders.openevolve(path), LIMITS) as process:
            found = [process.evaluate("A = 1\n") for _ in range(2)]
        assert [(each.score, each.metrics.get("after")) for each in found] == [(2.0, 3.0)] * 2, found

    def test_missing_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no initial program"):
            folders.openevolve(tmp_path)
        (tmp_path / "initial_program.rs").write_text("fn main() {}\n")
        with pytest.raises(UsageError, match="no evaluator"):
            folders.openevolve(tmp_path)


def test_an_evaluator_that_cannot_be_imported_is_the_users_business(tmp_path: Path) -> None:
    (tmp_path / "initial_program.py").write_text("x = 1\n")
    (tmp_path / "evaluator.py").write_text("import json\nimport no_such_module\n")
    with pytest.raises(UsageError, match="No module named 'no_such_module'"):
        EvaluatorProcess(folders.openevolve(tmp_path), LIMITS).start()


def test_an_evaluators_annotations_are_its_own(tmp_path: Path) -> None:
    """It is compiled without what our modules import from the future, which dataclasses and their like would see."""
    (tmp_path / "initial_program.py").write_text("X = 1\n")
    (tmp_path / "evaluator.py").write_text(
        "def evaluate(path: str):\n    return {'combined_score': float(evaluate.__annotations__ == {'path': str})}\n"
    )
    with EvaluatorProcess(folders.openevolve(tmp_path), LIMITS) as process:
        assert process.evaluate("X = 1\n").score == 1.0
