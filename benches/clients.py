"""Client libraries against `moevolve serve`, each in a few lines as its documentation has them.

    python benches/clients.py --model SmolLM2.gguf --python CLIENTS/bin/python [--transformers PARITY/bin/python] [NAME ...]

The server runs with this interpreter, the clients with the other one, which has openai, pydantic-ai, langchain-openai,
instructor, smolagents, openai-agents, llm, outlines, inspect_ai and lm-eval. With `--transformers`, an interpreter that has
it, lm-eval is served the model as a folder in f32, and its log-likelihoods must be transformers' to 1e-3. Exit code 1 if one
of them fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moevolve.models.engine import Engine

HEAD = """
import json, os, sys
URL, NAME = os.environ["OPENAI_BASE_URL"], os.environ["MODEL_NAME"]
from pydantic import BaseModel
class City(BaseModel):
    name: str
    people: int
ASK = "Name a city and how many people live there."
"""

CLIENTS: dict[str, str] = {
    "openai parse": """
from openai import OpenAI
done = OpenAI().chat.completions.parse(
    model=NAME, messages=[{"role": "user", "content": ASK}], response_format=City, max_tokens=200, temperature=0)
assert isinstance(done.choices[0].message.parsed, City), done
""",
    "openai forced tool": """
from openai import OpenAI
tool = {"type": "function", "function": {"name": "save", "parameters": City.model_json_schema()}}
done = OpenAI().chat.completions.create(
    model=NAME, messages=[{"role": "user", "content": ASK}], tools=[tool], max_tokens=200, temperature=0,
    tool_choice={"type": "function", "function": {"name": "save"}})
[call] = done.choices[0].message.tool_calls
City.model_validate_json(call.function.arguments)
""",
    "openai responses": """
from openai import OpenAI
client = OpenAI()
first = client.responses.create(model=NAME, input="Say hello.", max_output_tokens=40, temperature=0)
assert first.output_text
with client.responses.stream(model=NAME, input="Again.", previous_response_id=first.id, max_output_tokens=40) as stream:
    for event in stream:
        pass
    assert stream.get_final_response().output_text
parsed = client.responses.parse(model=NAME, input=ASK, text_format=City, max_output_tokens=200, temperature=0)
assert isinstance(parsed.output_parsed, City)
assert len(client.embeddings.create(model=NAME, input="hello").data[0].embedding) > 8
""",
    "pydantic-ai": """
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
model = OpenAIChatModel(NAME, provider=OpenAIProvider(base_url=URL, api_key="none"))
for output in (City, ToolOutput(City), NativeOutput(City)):
    found = Agent(model, output_type=output, model_settings={"max_tokens": 200, "temperature": 0.0}).run_sync(ASK)
    assert isinstance(found.output, City), found
""",
    "langchain": """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model=NAME, base_url=URL, api_key="none", max_tokens=200, temperature=0)
for method in ("function_calling", "json_schema"):
    assert isinstance(model.with_structured_output(City, method=method).invoke(ASK), City), method
""",
    "instructor": """
import instructor
from openai import OpenAI
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(OpenAI(), mode=mode)
    found = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": ASK}], response_model=City, max_tokens=200, temperature=0)
    assert isinstance(found, City), mode
""",
    "smolagents": """
from smolagents import OpenAIServerModel, ToolCallingAgent, tool
@tool
def weather(city: str) -> str:
    '''Tells the weather.

    Args:
        city: where.
    '''
    return "sunny"
model = OpenAIServerModel(model_id=NAME, api_base=URL, api_key="none", temperature=0, max_tokens=120)
agent = ToolCallingAgent(tools=[weather], model=model, max_steps=2, verbosity_level=0)
steps = list(agent.run("What is the weather in Oslo?", stream=True))
assert any(getattr(step, "tool_calls", None) for step in steps), steps
""",
    "openai-agents": """
import asyncio
from agents import Agent, ModelSettings, Runner, set_tracing_disabled
set_tracing_disabled(True)
settings = ModelSettings(max_tokens=200, temperature=0.0)
agent = Agent(name="a", instructions="Answer.", model=NAME, output_type=City, model_settings=settings)
assert isinstance(Runner.run_sync(agent, ASK).final_output, City)
""",
    "llm schema": """
import subprocess, tempfile, pathlib
home = pathlib.Path(tempfile.mkdtemp())
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: own\\n  model_name: {NAME}\\n  api_base: {URL}\\n  supports_schema: true\\n")
told = subprocess.run(
    [sys.executable, "-m", "llm", "-m", "own", "--no-stream", "-o", "max_tokens", "200", "-o", "temperature", "0",
     "--schema", "name str, people int", ASK],
    env={**os.environ, "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "none"}, capture_output=True, text=True)
assert told.returncode == 0, told.stderr
City.model_validate_json(told.stdout)
""",
    "outlines": """
import openai, outlines
made = outlines.from_openai(openai.OpenAI(), NAME)
City.model_validate_json(made(ASK, City, max_tokens=200, temperature=0.0))
import re
vllm = outlines.from_vllm(openai.OpenAI(), NAME)
assert re.fullmatch("[0-9]{3}", vllm("A number:", outlines.types.Regex("[0-9]{3}"), max_tokens=20))
City.model_validate_json(vllm(ASK, City, max_tokens=200, temperature=0.0))
""",
    "inspect_ai": """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
from inspect_ai.scorer import includes
from inspect_ai.util import json_schema
config = GenerateConfig(
    max_tokens=200, temperature=0.0, response_schema=ResponseSchema(name="city", json_schema=json_schema(City)))
model = get_model(f"openai-api/own/{NAME}", base_url=URL, api_key="none", config=config)
[log] = eval(Task(dataset=[Sample(input=ASK, target="name")], scorer=includes()), model=model, display="none")
assert log.status == "success", log.error
City.model_validate_json(log.samples[0].output.completion)
""",
    "lm-eval": """
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
model = LocalCompletionsAPI(
    base_url=URL + "/completions", model=NAME, tokenizer_backend=None, batch_size=1, num_concurrent=1, max_length=2048)
def tokens(text):
    import urllib.request
    asked = urllib.request.Request(
        URL.removesuffix("/v1") + "/tokenize", json.dumps({"prompt": text}).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(asked))["tokens"]
model.tokenizer, model.tokenized_requests = tokens, True  # the server's own tokens
model.tok_encode = lambda text, *a, **k: tokens(text)
items = [(f"Question: what is {a} plus {b}? Answer:", f" {a + b}") for a in range(10) for b in range(5)]
def scored():
    asked = [((c, t), tokens(c), tokens(c + t)[len(tokens(c)):]) for c, t in items]
    return model._loglikelihood_tokens(asked, disable_tqdm=True)
found = scored()
assert len(found) == 50 and all(logprob < 0 for logprob, _ in found), found
assert found == scored()
asked = [[tokens(c), tokens(c + t)[len(tokens(c)):], logprob] for (c, t), (logprob, _) in zip(items, found)]
json.dump(asked, open(os.environ["LOGLIKELIHOODS"], "w"))
""",
}

REFERENCE = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
folder, file = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
worst = 0.0
with torch.no_grad():
    for context, continuation, found in json.load(open(file)):
        rows = model(torch.tensor([context + continuation])).logits[0].log_softmax(-1)
        at = range(len(context) - 1, len(context) + len(continuation) - 1)
        told = sum(rows[i, token].item() for i, token in zip(at, continuation))
        worst = max(worst, abs(told - found))
print(f"{worst:.1e}")
sys.exit(worst > 1e-3)
"""
"""Log-likelihoods of transformers, of the same model in f32."""


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address of a server of the model."""
    command = [
        sys.executable,
        "-m",
        "moevolve.cli.main",
        "serve",
        str(model),
        "--name",
        "m",
        "--port",
        "0",
        "--json",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None, "it is a pipe"
    try:
        yield json.loads(child.stdout.readline())["url"]
    finally:
        child.terminate()
        child.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a chat model")
    parser.add_argument("--python", required=True, help="an interpreter that has the clients")
    parser.add_argument("--transformers", help="an interpreter that has torch and transformers")
    parser.add_argument("names", nargs="*", help="clients to try (default: all)")
    options = parser.parse_args()
    names = [name for name in CLIENTS if not options.names or name in options.names]
    exact = options.transformers is not None and "lm-eval" in names
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(options.model) as url:
            for client in names:
                if not (exact and client == "lm-eval"):
                    failed += not passes(client, options.python, url, folder)
        if exact:
            whole = folder / "whole"
            Engine.load(options.model, weights="trainable").save(whole, dtype="f32")
            with served(whole) as url:
                failed += not passes("lm-eval", options.python, url, folder)
            failed += not agrees(options.transformers, whole, folder)
    return failed > 0


def passes(client: str, python: str, url: str, folder: Path) -> bool:
    """Runs a client and says how it went."""
    own = {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "none",
        "MODEL_NAME": "m",
        "INSPECT_LOG_DIR": str(folder),
        "LOGLIKELIHOODS": str(folder / "loglikelihoods.json"),
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    script = folder / "client.py"
    script.write_text(HEAD + CLIENTS[client])
    return ran(client, [python, str(script)], environment, folder)


def agrees(python: str, model: Path, folder: Path) -> bool:
    """Whether lm-eval's numbers are those of transformers."""
    script = folder / "reference.py"
    script.write_text(REFERENCE)
    command = [python, str(script), str(model), str(folder / "loglikelihoods.json")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return ran("lm-eval, transformers", command, environment, folder)


def ran(what: str, command: list[str], environment: dict[str, str], folder: Path) -> bool:
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600
        )
        code, said = done.returncode, done.stderr + done.stdout
    except subprocess.TimeoutExpired:
        code, said = -1, "no end within 600 s"
    print(f"{what:22} {'FAILED' if code else 'ok'} {time.monotonic() - began:6.1f} s", flush=True)
    if code:
        print("  " + "\n  ".join(said.strip().splitlines()[-6:]), flush=True)
    return code == 0


if __name__ == "__main__":
    raise SystemExit(main())
