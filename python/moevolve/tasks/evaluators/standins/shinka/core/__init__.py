"""ShinkaEvolve's wrapper for evaluations."""

from .wrap_eval import run_shinka_eval, save_json_results

__all__ = ["run_shinka_eval", "save_json_results"]
