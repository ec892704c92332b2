"""What `import moevolve` costs and pulls in, measured in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = """
import json, resource, sys
def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
before = spent()
import moevolve
print(json.dumps({"cpu": spent() - before, "modules": sorted(sys.modules)}))
"""
HEAVY = (
    "torch",
    "textual",
    "openai",
    "starlette",
    "uvicorn",
    "httpx2",
    "numpy",
    "transformers",
    "jinja2",
    "rich",
    "lmdb",
    "moevolve_tui",
)


def probe(program: str = PROBE) -> dict:
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_import_costs_less_than_150_ms_of_cpu():
    assert min(probe()["cpu"] for _ in range(5)) < 0.150


def test_import_pulls_in_nothing_heavy():
    modules = probe()["modules"]
    assert not [name for name in modules if name.partition(".")[0] in HEAVY]


def test_every_public_name_is_there_and_still_nothing_foreign():
    program = PROBE.replace(
        "import moevolve\n", "import moevolve\nfor n in moevolve.__all__: getattr(moevolve, n)\n"
    )
    modules = {name.partition(".")[0] for name in probe(program)["modules"]}
    assert not modules & {"torch", "textual", "openai", "numpy", "transformers", "lmdb", "moevolve_tui"}
