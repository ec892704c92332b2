"""Figures in Prometheus' text format, under the names that vLLM's dashboards read."""

from __future__ import annotations

from moevolve.serve.service import Service

KIND = "text/plain; version=0.0.4; charset=utf-8"


def exposition(service: Service) -> str:
    """All figures of now."""
    counts = service.counts
    schedulers = [deployment.driver.scheduler for deployment in service.deployments]
    used = sum(scheduler.memory for scheduler in schedulers) / max(1, service.memory_limit)
    running = sum(scheduler.busy for scheduler in schedulers)
    waiting = sum(scheduler.waiting for scheduler in schedulers)
    name = service.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    label = f'model_name="{name}"'
    ended = [("stop", counts.finished), ("abort", counts.cancelled)]
    rows = [
        _row("num_requests_running", "gauge", "Samples that are drawn.", label, running),
        _row("num_requests_waiting", "gauge", "Samples that wait for a slot.", label, waiting),
        _row("kv_cache_usage_perc", "gauge", "Share of the key-value memory in use.", label, used),
        _row("prompt_tokens_total", "counter", "Tokens of prompts.", label, counts.prompt_tokens),
        _row("generation_tokens_total", "counter", "Tokens drawn.", label, counts.completion_tokens),
        _head("request_success_total", "counter", "Requests that ended, by why.")
        + "".join(f'vllm:request_success_total{{finished_reason="{why}",{label}}} {n}\n' for why, n in ended),
        _row("requests_total", "counter", "Requests taken in.", label, counts.requests),
        _row("requests_refused_total", "counter", "Requests answered with 429.", label, counts.refused),
    ]
    return "".join(rows)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP vllm:{name} {text}\n# TYPE vllm:{name} {kind}\n"


def _row(name: str, kind: str, text: str, label: str, value: float) -> str:
    return f"{_head(name, kind, text)}vllm:{name}{{{label}}} {value:g}\n"
