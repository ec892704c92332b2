"""Keys of the configurations of OpenEvolve and ShinkaEvolve: which are known, and which of them mean something here.

A key that neither the framework nor this table knows is refused by name, since nobody can say what its author wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from moevolve.config.files import read_text
from moevolve.errors import UsageError
from moevolve.journal.text import line

_MODEL = (
    "api_base api_key name provider init_client weight system_message temperature top_p max_tokens timeout retries "
    "retry_delay random_seed reasoning_effort max_budget_usd max_ai_credits allow_all_tools manual_mode"
)
OPENEVOLVE: dict[str, str] = {
    "": (
        "max_iterations checkpoint_interval log_level log_dir random_seed language file_suffix diff_based_evolution "
        "max_code_length diff_pattern early_stopping_patience convergence_threshold early_stopping_metric "
        "max_tasks_per_child full_rewrite_probability enforce_evolve_blocks checkpoint_on_improvement logger_prefix"
    ),
    "llm": f"{_MODEL} models evaluator_models primary_model primary_model_weight secondary_model secondary_model_weight",
    "prompt": (
        "template_dir system_message evaluator_system_message island_system_messages programs_as_changes_description "
        "system_message_changes_description initial_changes_description num_top_programs num_diverse_programs "
        "use_template_stochasticity template_variations use_meta_prompting meta_prompt_weight include_artifacts "
        "max_artifact_bytes artifact_security_filter suggest_simplification_after_chars include_changes_under_chars "
        "concise_implementation_max_lines comprehensive_implementation_min_lines diff_summary_max_line_len "
        "diff_summary_max_lines code_length_threshold"
    ),
    "database": (
        "db_path in_memory log_prompts population_size archive_size num_islands elite_selection_ratio exploration_ratio "
        "exploitation_ratio diversity_metric feature_dimensions feature_bins diversity_reference_size migration_interval "
        "migration_rate random_seed artifacts_base_path artifact_size_threshold cleanup_old_artifacts "
        "artifact_retention_days max_snapshot_artifacts novelty_llm embedding_model embedding_api_base similarity_threshold "
        "island_initial_programs"
    ),
    "evaluator": (
        "timeout evaluator_args max_retries memory_limit_mb cpu_limit cascade_evaluation cascade_thresholds "
        "parallel_evaluations distributed use_llm_feedback llm_feedback_weight enable_artifacts max_artifact_storage"
    ),
    "evolution_trace": "enabled format include_code include_prompts include_failures output_path buffer_size compress",
}
"""Section -> its keys; the top level is the section without a name."""
STALE = (
    "allow_full_rewrites",
    "parallel_evaluations",
    "algotune",
    "novelty",
    "max_program_length",
    "evolution",
)
"""Top-level keys that stand in many published folders, and that OpenEvolve itself passes over."""
SHINKA: dict[str, str] = {
    "": (
        "max_evaluation_jobs max_proposal_jobs max_db_workers verbose debug evo_config db_config job_config evo db job"
    ),
    "evo_config": (
        "task_sys_msg patch_types patch_type_probs num_generations max_patch_resamples max_patch_attempts job_type language "
        "llm_models llm_dynamic_selection llm_dynamic_selection_kwargs llm_kwargs meta_rec_interval meta_llm_models "
        "meta_llm_kwargs meta_max_recommendations sample_single_meta_rec embedding_model init_program_path results_dir "
        "enable_wandb_logging wandb_project wandb_entity wandb_group wandb_name wandb_mode wandb_tags wandb_notes wandb_dir "
        "wandb_run_id wandb_resume wandb_config max_novelty_attempts code_embed_sim_threshold novelty_llm_models "
        "novelty_llm_kwargs use_text_feedback max_api_costs inspiration_sort_order enable_controlled_oversubscription "
        "proposal_target_mode proposal_target_min_samples proposal_target_ratio_cap proposal_buffer_max "
        "proposal_target_hard_cap proposal_target_ewma_alpha evolve_prompts prompt_patch_types prompt_patch_type_probs "
        "prompt_evolution_interval prompt_archive_size prompt_llm_models prompt_llm_kwargs prompt_ucb_exploration_constant "
        "prompt_epsilon prompt_evo_top_k_programs prompt_percentile_recompute_interval"
    ),
    "db_config": (
        "db_path num_islands archive_size max_stdout_log_chars elite_selection_ratio num_archive_inspirations "
        "num_top_k_inspirations migration_interval migration_rate island_elitism enforce_island_separation "
        "island_selection_strategy enable_dynamic_islands stagnation_threshold island_spawn_strategy "
        "island_spawn_subtree_size parent_selection_strategy exploitation_alpha exploitation_ratio parent_selection_lambda "
        "num_beams archive_selection_strategy archive_criteria embedding_model"
    ),
    "job_config": (
        "eval_program_path extra_cmd_args eval_verbose numeric_threads_per_job time conda_env activate_script "
        "python_executable image image_tar_path docker_flags partition cpus gpus mem modules"
    ),
}
_ALIASES = {"evo": "evo_config", "db": "db_config", "job": "job_config"}


def load(file: Path) -> dict[str, Any]:
    """The table of a YAML file.

    Raises:
        UsageError: it cannot be read, or holds no table.
    """
    try:
        yaml: Any = import_module("yaml")
    except ModuleNotFoundError:
        raise UsageError(f"{file} is YAML: pip install 'moevolve[evaluators]' brings its reader") from None
    try:
        found = yaml.safe_load(read_text(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read: {line(str(error))}") from None
    except RecursionError:
        raise UsageError(f"{file} cannot be read: it is nested too deep") from None
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds no table of settings")
    return {str(key): value for key, value in found.items()}


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table by dotted keys, one level deep."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and (key in OPENEVOLVE or key in SHINKA or key in _ALIASES):
            section = _ALIASES.get(key, key)
            found |= {f"{section}.{name}": each for name, each in value.items()}
        else:
            found[key] = value
    return found


def openevolve(table: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The settings of OpenEvolve that mean something here, by dotted key.

    Raises:
        UsageError: a key that OpenEvolve does not know, or a value of another type.
    """
    _refuse_unknown(flat(table), OPENEVOLVE, STALE, "OpenEvolve", file)
    return _typed(
        flat(table),
        {
            "max_iterations": int,
            "random_seed": int | None,
            "prompt.system_message": str,
            "evaluator.timeout": float,
            "evaluator.evaluator_args": dict[str, Any] | None,
            "evaluator.cascade_evaluation": bool,
            "evaluator.cascade_thresholds": list[float],
            "database.feature_dimensions": list[str],
        },
        file,
    )


def shinka(table: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The settings of ShinkaEvolve that mean something here; errors as of `openevolve`."""
    _refuse_unknown(flat(table), SHINKA, (), "ShinkaEvolve", file)
    return _typed(
        flat(table),
        {
            "evo_config.num_generations": int,
            "evo_config.task_sys_msg": str | None,
            "job_config.time": str | None,
            "job_config.extra_cmd_args": dict[str, Any],
        },
        file,
    )


def clock(text: str | None) -> float | None:
    """Seconds of `HH:MM:SS`.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        hours, minutes, seconds = map(int, text.split(":"))
    except ValueError:
        raise UsageError(f"job_config.time is {text!r}, not HH:MM:SS") from None
    return float(hours * 3600 + minutes * 60 + seconds)


def arguments(table: Mapping[str, Any]) -> list[str]:
    """ShinkaEvolve's further arguments of an evaluator, as words of a command line: a name and a value each, truths too."""
    return [word for key, value in table.items() for word in (f"--{key}", str(value))]


def _refuse_unknown(
    found: Mapping[str, Any], known: Mapping[str, str], stale: tuple[str, ...], framework: str, file: str
) -> None:
    names = [
        f"{section}.{key}" if section else key for section, text in known.items() for key in text.split()
    ] + list(stale)
    sections = [section for section in known if section]
    for key, value in found.items():
        if key in names or (key in sections and value is None):
            continue
        if key in sections:
            raise UsageError(f"{file}: {key} is a section of {framework}, and holds no table here")
        close = get_close_matches(key, names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(f"{file}: {framework} has no setting {key}{hint}; remove it or mend its name")


def _typed(found: Mapping[str, Any], types: Mapping[str, Any], file: str) -> dict[str, Any]:
    settings = {}
    for key, kind in types.items():
        if key in found:
            try:
                settings[key] = msgspec.convert(found[key], kind)
            except msgspec.ValidationError as error:
                raise UsageError(f"{file}: {key}: {error}") from None
    return settings
