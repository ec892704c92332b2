"""A program's requests from the sandbox to a real engine and back: messages, tools, long completions, stop texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from moevolve import _native
from moevolve.agents.host import ProgramHost
from moevolve.config import Config
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.tokenizer import BOS, EOS, VOCABULARY, character_tokenizer
from moevolve.protocol.messages import Message, Tool
from moevolve.protocol.requests import GenerateRequest, PublicTask, ToolRequest

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for message in messages %}{{ message['role'] }}: "
    "{{ message['content'] }}\n{% endfor %}assistant: "
)
PROGRAM = """
async def solve(task, agent):
    tools = await agent.tools()
    messages = [{"role": "system", "content": "You add."}, {"role": "user", "content": task.prompt}]
    long = await agent.generate(messages, tools=tools, max_tokens=512, temperature=0)
    stop = long.text[200:203]
    cut = await agent.generate(messages, tools=tools, max_tokens=512, temperature=0, stop=[stop])
    result = await agent.call("add", a=2, b=3)
    messages += [long.message(), {"role": "tool", "tool_call_id": "c1", "content": str(result)}]
    last = await agent.generate(messages, max_tokens=16, temperature=0)
    same = long.text.partition(stop)[0] == cut.text
    return "|".join([f"{long[0].tokens} {long.finish}", f"{same} {cut.finish}", last.finish])
"""


class Adder:
    tools = (Tool("add", "Adds.", {"type": "object"}),)

    def release(self, sessions: Iterable[int]) -> None:
        pass

    def call(self, requests: Sequence[ToolRequest]) -> Sequence[Any]:
        return [sum(request.arguments.values()) for request in requests]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> EnginePolicy:
    folder: Path = tmp_path_factory.mktemp("model")
    _native.Engine.create(json.dumps(SHAPE), character_tokenizer(), 5, 1).save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return EnginePolicy(Engine.load(folder, threads=1), "w")


def test_a_program_uses_messages_tools_long_completions_and_stop_texts(program, policy) -> None:
    config = Config.load("small", {"policy.max_tokens": 512, "roles.solver.prompt_chars": 8000})
    host = ProgramHost(config.limits(), config.sandbox, Adder())
    genome = type(program("return ''"))(files={"solve.py": PROGRAM})
    asked: list[GenerateRequest] = []

    def answer(requests: list[GenerateRequest]):
        asked.extend(requests)
        return policy.answer(requests)

    task = PublicTask(prompt="2 and 3?", skill="any")
    [outcome] = host.solve(genome, [task], answer, None, [1])
    assert (outcome.answer, outcome.failure) == ("512 length|True stop|length", None), outcome.detail
    assert outcome.requests == 5
    assert outcome.tokens == sum(completion.count for completion in outcome.completions) == policy.generated
    assert asked[0].tools == Adder.tools and asked[1].sampling.stop
    last = [message for message in asked[2].prompt if isinstance(message, Message)]
    assert [message.role for message in last] == ["system", "user", "assistant", "tool"]
    assert last[-1].content == "5"
