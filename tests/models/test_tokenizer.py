"""What the engine reads from tokenizer files beside the vocabulary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moevolve.errors import UsageError
from moevolve.models.engine import Engine

MODEL = Path(__file__).parents[1] / "fixtures" / "model" / "text" / "checkpoint"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    shutil.copytree(MODEL, tmp_path / "model")
    return tmp_path / "model"


def configured(checkpoint: Path, **settings: Any) -> Engine:
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return Engine.load(checkpoint)


def test_templates_by_name(checkpoint: Path) -> None:
    assert configured(checkpoint).chat_templates == {}
    assert configured(checkpoint, chat_template="a").chat_templates == {"default": "a"}
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    engine = configured(checkpoint, chat_template=named)
    assert engine.chat_templates == {"default": "d", "tool_use": "t"}
    assert engine.chat_template == "d"
    (checkpoint / "chat_template.jinja").write_text("file", encoding="utf-8")
    engine = configured(checkpoint, chat_template=named)
    assert engine.chat_template == "file" and engine.chat_templates == {"default": "file"}
    (checkpoint / "chat_template.jinja").unlink()
    assert configured(checkpoint, chat_template={"default": "a", "b": "c"}).chat_template == "a"


def test_settings_that_hold_no_template(checkpoint: Path) -> None:
    assert configured(checkpoint, chat_template=None).chat_template is None


def test_plain_text_begins_as_the_tokenizer_says_and_a_chat_as_the_template_says(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<unk>": {"id": "<unk>", "ids": [2], "tokens": ["<unk>"]}},
    }
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    engine = configured(checkpoint, chat_template="{{ messages[0].content }}")
    assert engine.encode("ab") == [2, *engine.encode("ab", whole=False)]
    assert engine.encode([5, 6]) == [5, 6]
    messages = [{"role": "user", "content": "ab"}]
    ((plain,),) = engine.generate([engine.encode("ab", whole=False)], max_tokens=5)
    assert engine.chat(messages, max_tokens=5).tokens == plain.tokens
    ((begun,),) = engine.generate(["ab"], max_tokens=5)
    assert begun == engine.generate([[2, *engine.encode("ab", whole=False)]], max_tokens=5)[0][0]


def test_a_text_without_marks_is_the_text_of_the_tokens_that_show() -> None:
    from moevolve.models.checkpoint import seed_checkpoint

    engine = Engine.load(seed_checkpoint(), threads=1)
    every = list(range(engine.vocab_size))
    shown = [token for token in every if engine.shows(token)]
    assert len(shown) < len(every)
    assert engine.text(every) == engine.decode(shown, special=True) == engine.text(shown, None)


def test_half_a_character_is_said_by_its_place(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="not Unicode: character 3"):
        configured(checkpoint).encode("ab\ud800")
