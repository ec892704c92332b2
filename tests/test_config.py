"""A run's configuration: what is refused and how it is said, and that what is written reads back."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.config import ARMS, Config, parse_settings, presets
from moevolve.config.schema import AttemptsSection
from moevolve.config.source import limits
from moevolve.errors import ConfigError, UsageError
from moevolve.records import Recipe


def load(folder: Path, text: str) -> Config:
    file = folder / "some.toml"
    file.write_text(text, encoding="utf-8")
    return Config.load(file)


@pytest.mark.parametrize("name", ["quickstart", "real", "small"])
def test_a_preset_loads_and_is_called_by_its_name(name: str) -> None:
    assert name in presets()
    config = Config.load(name)
    assert config.name == name
    assert config.cycles or config.minutes


@given(
    tasks=st.integers(1, 10**6),
    share=st.floats(0.0, 1.0),
    growth=st.floats(0.0, 0.5),
    direct=st.none() | st.integers(1, 10**6),
)
def test_the_train_tasks_of_a_cycle_are_shared_out_whole(
    tasks: int, share: float, growth: float, direct: int | None
) -> None:
    section = AttemptsSection(tasks=tasks, direct=direct)
    (bare, through), (grown_bare, grown_through) = section.shared(share, growth)
    assert min(bare, through, grown_bare, grown_through) >= 0
    assert bare + grown_bare == (tasks - through - grown_through if direct is None else direct)
    assert through + grown_through == pytest.approx(tasks * share, abs=2)
    assert section.shared(None, growth) == ((0, tasks - round(tasks * growth)), (0, round(tasks * growth))), (
        "an arm that learns nothing puts every task through the program"
    )


def test_quickstart_ends_within_ten_minutes() -> None:
    minutes = Config.load("quickstart").minutes
    assert minutes is not None and minutes <= 10


def test_the_preset_for_a_real_model_ends_within_an_hour() -> None:
    config = Config.load("real")
    assert config.minutes is not None and config.minutes < 60
    assert len(config.suite.skills) == 3


def test_a_skill_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skills must each be named once"):
        load(tmp_path, "cycles = 1\n[suite]\nskills = ['text/sort', 'text/sort']\n")


def test_a_learning_stage_grants_what_its_bounds_allow(tmp_path: Path) -> None:
    learn = load(tmp_path, "cycles = 1\n[learn]\nsteps = 9\nbatch = 4\nlearning_rate = [1e-4, 1e-3]\n").learn
    most = learn.bounded(Recipe(learning_rate=0.5, steps=300, batch=96))
    assert (most.learning_rate, most.steps, most.batch) == (1e-3, 9, 4)
    least = learn.bounded(Recipe(learning_rate=1e-6, steps=3, batch=2))
    assert (least.learning_rate, least.steps, least.batch) == (1e-4, 3, 2)


def test_the_bounds_of_a_learning_rate_are_in_order(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learning_rate must be \[lowest, highest\]"):
        load(tmp_path, "cycles = 1\n[learn]\nlearning_rate = [1e-3, 1e-4]\n")


def test_a_file_needs_only_an_end(tmp_path: Path) -> None:
    config = load(tmp_path, "cycles = 3\n")
    assert (config.name, config.cycles, config.minutes, config.arm) == ("some", 3, None, "full")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cycels = 3", "unknown key `cycels` (did you mean `cycles`?)"),
        ("cycles = 3\n[gate]\nalfa = 0.1", "unknown key `gate.alfa` (did you mean `alpha`?)"),
        ("cycles = 3\nalpha = 0.1", "unknown key `alpha` (it belongs in [gate])"),
        ("cycles = 3\n[suite]\nzzz = 1", "unknown key `suite.zzz` (known in [suite]: name, path,"),
        ("cycles = 'many'", "`cycles`: expected `int | null`, not 'many'"),
        ("cycles = true", "`cycles`: expected `int | null`, not True"),
        ("cycles = -1", "`cycles`: expected `int` >= 0, not -1"),
        ("minutes = nan", "`minutes` must be a finite number, not nan"),
        ("cycles = 1\n[gate]\nalpha = 1.5", "`gate.alpha`: expected `float` < 1.0, not 1.5"),
        ("cycles = 1\n[gate]\nmin_n = 9\nmax_n = 3", "`gate`: min_n must be at most max_n, but 9 > 3"),
        ("cycles = 1\n[suite]\nlevels = [5, 2]", "levels must be [lowest, highest], not [5, 2]"),
        ("cycles = 1\n[suite]\nlevels = [0, 2]", "`suite.levels[0]`: expected `int` >= 1"),
        ("cycles = 1\ngate = 3", "`gate`: expected `object`, not 3"),
        ("cycles = 1\narm = 'wieghts'", "unknown arm `wieghts` (did you mean `weights`?)"),
        ("cycles = 1\narm = 'sft'\n[learn]\nloss = 'cispo'", "`learn.loss` must be sft there"),
        ("", "a run needs an end: give `cycles`, `minutes` or both"),
        ("cycles = ", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "some.toml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_unknown_key_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`gate\.alfa`.*`sandbox\.strikt`"):
        load(tmp_path, "cycles = 1\n[gate]\nalfa = 0.1\n[sandbox]\nstrikt = true")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(b"cycles = 1 # \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Config.load(file)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffcycles = 3\n").cycles == 3


def test_an_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(
        UsageError, match=r"`quikstart` \(did you mean `quickstart`\?\).*quickstart, real, real-excel, small"
    ):
        Config.load("quikstart")


def test_a_missing_file_is_told_from_an_unknown_preset() -> None:
    with pytest.raises(UsageError, match="there is no file"):
        Config.load("configurations/none.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as a configuration"):
        Config.load(tmp_path)


def test_a_relative_checkpoint_is_taken_from_the_files_folder(tmp_path: Path) -> None:
    config = load(tmp_path, "cycles = 1\n[policy]\ncheckpoint = 'models/mine'\n")
    assert config.policy.checkpoint == str(tmp_path / "models" / "mine")


class TestOverride:
    def test_cycles_alone_take_the_time_limit_away(self) -> None:
        config = Config.load("quickstart").override(cycles=3)
        assert (config.cycles, config.minutes) == (3, None)

    def test_minutes_alone_take_the_cycles_away(self) -> None:
        config = Config.load("quickstart").override(minutes=2.5)
        assert (config.cycles, config.minutes) == (None, 2.5)

    def test_nothing_given_changes_nothing(self) -> None:
        config = Config.load("quickstart")
        assert config.override() == config

    def test_seed_and_arm(self) -> None:
        config = Config.load("quickstart").override(seed=12, arm="weights")
        assert (config.seed, config.arm, config.cycles) == (12, "weights", Config.load("quickstart").cycles)

    @pytest.mark.parametrize("change", [{"seed": -1}, {"cycles": -2}, {"minutes": 0.0}, {"arm": "none"}])
    def test_what_cannot_be_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            Config.load("quickstart").override(**change)

    def test_a_file_needs_no_end_where_the_options_give_one(self, tmp_path: Path) -> None:
        file = tmp_path / "endless.toml"
        file.write_text("[gate]\nalpha = 0.01\n")
        with pytest.raises(ConfigError, match="needs an end"):
            Config.load(file)
        config = Config.load(file, limits(3, None)).override(cycles=3)
        assert (config.cycles, config.minutes, config.gate.alpha) == (3, None, 0.01)


class TestSettings:
    def test_values_are_toml_or_plain_words(self) -> None:
        found = parse_settings(
            ["gate.alpha=0.05", "suite.levels=[1, 4]", "arm=weights", "sandbox.strict=true"]
        )
        assert found == {
            "gate.alpha": 0.05,
            "suite.levels": [1, 4],
            "arm": "weights",
            "sandbox.strict": True,
        }

    def test_they_win_over_the_file(self) -> None:
        config = Config.load("small", {"gate.alpha": 0.2, "policy.threads": 1})
        assert (config.gate.alpha, config.policy.threads) == (0.2, 1)

    def test_an_unknown_one_is_refused_like_an_unknown_key(self) -> None:
        with pytest.raises(ConfigError, match=r"`gate\.alfa` \(did you mean `alpha`"):
            Config.load("small", {"gate.alfa": 0.2})

    @pytest.mark.parametrize("setting", ["gate.alpha", "=3"])
    def test_one_without_key_or_value_is_refused(self, setting: str) -> None:
        with pytest.raises(UsageError, match="KEY=VALUE"):
            parse_settings([setting])

    def test_a_value_is_no_table(self) -> None:
        with pytest.raises(ConfigError, match="`cycles` is not a table"):
            Config.load("small", {"cycles.more": 1})


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
configs = st.builds(
    lambda name, seed, arm, cycles, minutes, checkpoint, alpha, levels, strict: Config.load(
        "small",
        {
            "name": name,
            "seed": seed,
            "arm": arm,
            "minutes": minutes,
            "cycles": cycles,
            "policy.checkpoint": "/" + checkpoint,
            "gate.alpha": alpha,
            "suite.levels": sorted(levels),
            "sandbox.strict": strict,
        },
    ),
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=20),
    st.integers(0, 2**63 - 1),
    st.sampled_from(ARMS),
    st.integers(0, 10**9),
    st.floats(1e-300, 1e300),
    texts,
    st.floats(1e-12, 0.999),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.booleans(),
)


@given(configs, st.booleans())
def test_what_is_written_reads_back_as_the_same(config: Config, comments: bool) -> None:
    import tomllib

    assert msgspec.convert(tomllib.loads(config.toml(comments=comments)), Config) == config


@given(configs)
def test_the_canonical_form_reads_back_as_the_same(config: Config) -> None:
    assert Config.from_canonical(config.canonical()) == config


def test_a_stored_configuration_of_another_version_is_refused() -> None:
    with pytest.raises(ConfigError, match="stored configuration: unknown key `later`"):
        Config.from_canonical('{"cycles": 1, "later": 2}')
    with pytest.raises(ConfigError, match="not JSON"):
        Config.from_canonical("{")


def test_the_run_name_is_shared_by_equal_configurations_only() -> None:
    config = Config.load("quickstart")
    assert config.run_name() == Config.load("quickstart").run_name()
    assert config.run_name().startswith("quickstart-0-")
    assert config.run_name() != config.override(arm="weights").run_name()


def test_every_key_says_what_it_means() -> None:
    text = Config.load("quickstart").toml(comments=True)
    keys = [line for line in text.splitlines() if "=" in line]
    comments = [line for line in text.splitlines() if line.startswith("# ") and line.endswith(".")]
    assert len(comments) == len(keys)


def test_presets_keep_answers_of_other_suites_and_agents_as_long_as_they_are() -> None:
    served = {"policy.endpoint": "http://127.0.0.1:1/v1", "policy.model": "m"}
    assert Config.load("endpoint", served).policy.max_tokens == 32
    for own in ("suite.path", "agent.path", "suite.name"):
        assert Config.load("endpoint", served | {own: "mine"}).policy.max_tokens == 1024
        assert Config.load("endpoint", served | {own: "mine"}).limits().solver.longest == 1024
        assert Config.load("real", {"policy.checkpoint": "model", own: "mine"}).policy.max_tokens == 256
    assert Config.load("endpoint", served | {"suite.name": "primer"}).policy.max_tokens == 32
    set_here = served | {"suite.path": "mine", "policy.max_tokens": 20}
    assert Config.load("endpoint", set_here).policy.max_tokens == 20, "what is set is in force"


def test_a_presets_skills_are_those_of_its_own_suite() -> None:
    for settings in ({"suite.path": "mail"}, {"suite.name": "office"}):
        assert Config.load("real", settings).suite.skills == ()
        assert Config.load("real", settings | {"suite.skills": ["a/b"]}).suite.skills == ("a/b",)
    for same in ({}, {"suite.name": "primer"}, {"suite.path": None}):
        assert Config.load("real", same).suite.skills == Config.load("real").suite.skills != ()


def test_a_file_and_the_shipped_seed_mean_the_length_that_they_say(tmp_path: Path) -> None:
    text = 'cycles = 1\n[policy]\nmax_tokens = 20\ncheckpoint = "model"\n[suite]\npath = "mine"\n'
    assert load(tmp_path, text).policy.max_tokens == 20
    small = Config.load("small")
    assert Config.load("small", {"suite.path": "mine"}).policy.max_tokens == small.policy.max_tokens
