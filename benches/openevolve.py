"""OpenEvolve with `moevolve serve` as its language model: a number of iterations, and every request answered.

OpenEvolve is no dependency of this project; give it an environment of its own:

    python -m venv /tmp/openevolve && /tmp/openevolve/bin/pip install openevolve
    python benches/openevolve.py --python /tmp/openevolve/bin/python --model MODEL

MODEL needs a chat template. What a small model proposes is mostly no program, and OpenEvolve says so; what counts here is
that no request fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

PROGRAM = '''\
# EVOLVE-BLOCK-START
def search(f, low, high):
    """Returns x in [low, high] with a small f(x)."""
    return min((low + (high - low) * i / 10 for i in range(11)), key=f)
# EVOLVE-BLOCK-END
'''

EVALUATOR = """\
import importlib.util

def evaluate(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = float(module.search(lambda x: (x - 0.37) ** 2, -2.0, 2.0))
    return {"combined_score": 1.0 / (1.0 + (x - 0.37) ** 2)}
"""

CONFIG = """\
max_iterations: {iterations}
checkpoint_interval: 1000
max_code_length: 4000
diff_based_evolution: false
random_seed: 1
llm:
  api_base: "{url}/v1"
  api_key: "none"
  models:
    - name: "{model}"
      weight: 1.0
  temperature: 0.7
  top_p: 0.95
  max_tokens: {tokens}
  timeout: 300
  retries: 0
prompt:
  system_message: "You improve a short Python program."
  num_top_programs: 1
  num_diverse_programs: 0
  include_artifacts: false
database:
  population_size: 20
  archive_size: 10
  num_islands: 1
evaluator:
  timeout: 20
  parallel_evaluations: {parallel}
  cascade_evaluation: false
"""

OURS = re.compile(
    r"Error code: \d+|APIConnectionError|Connection error|Timeout on attempt|APIError|attempts failed with"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, required=True, help="an interpreter that has openevolve")
    parser.add_argument("--model", required=True, help="what to serve; it needs a chat template")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--parallel", type=int, default=2)
    options = parser.parse_args()
    command = [sys.executable, "-m", "moevolve.cli.main", "serve", options.model, "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        told = json.loads(server.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            log = _evolve(options, told, Path(folder))
        with urllib.request.urlopen(f"{told['url']}/v1/usage") as answer:
            figures = json.load(answer)
    finally:
        server.terminate()
        server.wait(30)
    iterations = len(set(re.findall(r"Iteration (\d+)", log)))
    failed = [line for line in log.splitlines() if OURS.search(line)]
    print(f"iterations        {iterations}")
    print(
        f"requests          {figures['requests']}, finished {figures['finished']}, cut short {figures['cancelled']}"
    )
    print(f"tokens            {figures['prompt_tokens']} read, {figures['completion_tokens']} drawn")
    print(f"errors of serve   {len(failed)}")
    for line in failed[:10]:
        print(line)
    return 1 if failed or figures["finished"] < options.iterations else 0


def _evolve(options: argparse.Namespace, told: dict[str, str], folder: Path) -> str:
    """Runs OpenEvolve in `folder`; returns what it said."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "evaluator.py").write_text(EVALUATOR)
    (folder / "config.yaml").write_text(
        CONFIG.format(
            iterations=options.iterations,
            url=told["url"],
            model=told["model"],
            tokens=options.tokens,
            parallel=options.parallel,
        )
    )
    words = ["program.py", "evaluator.py", "--config", "config.yaml", "--iterations", str(options.iterations)]
    run = subprocess.run(
        [options.python, "-m", "openevolve.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(run.stdout[-4000:], file=sys.stderr)
    return run.stdout


if __name__ == "__main__":
    sys.exit(main())
