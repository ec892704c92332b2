"""The engine as the loop's policy: rounds of requests answered as one batch, and every token counted."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from moevolve.errors import UsageError
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest
from moevolve.protocol.sampling import TokenRequest
from moevolve.randomness import key


class EnginePolicy:
    """One set of weights that answers prompts.

    Args:
        engine: the decoder with these weights; it must carry a tokenizer.
        weights: content hash of the weights, the file's name under `weights/`.
        prompts: how texts become its tokens; None asks with the bare texts.
    """

    def __init__(self, engine: Engine, weights: str, prompts: Prompts | None = None) -> None:
        self.engine = engine
        self.weights = weights
        self.prompts = prompts or BarePrompts(engine)
        self.generated = 0

    def answer(self, requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        """Answers a round: `n` completions per request, in the order of the requests."""
        batch = [
            TokenRequest(
                self.prompts.ask(_text(request)),
                request.sampling,
                [key(request.key, sample) for sample in range(request.n)],
            )
            for request in requests
        ]
        replies = []
        for samples in self.engine.complete(batch):
            self.generated += sum(len(completion.tokens) + 1 for completion in samples)
            replies.append(
                [replace(completion, text=self.prompts.read(completion)) for completion in samples]
            )
        return replies


def _text(request: GenerateRequest) -> str:
    if not isinstance(request.prompt, str):
        raise UsageError("this policy answers texts, not conversations")
    return request.prompt
