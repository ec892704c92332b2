"""The engine as the loop's policy: rounds of requests answered as one batch, and every token counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.protocol.requests import GenerateRequest
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

    def answer(self, requests: Sequence[GenerateRequest]) -> list[list[str]]:
        """Answers a round: one list of `n` texts per request, in the order of the requests."""
        native = self.engine.native
        batch = [
            (
                self.prompts.ask(request.prompt),
                [key(request.key, sample) for sample in range(request.n)],
                request.max_tokens,
                request.temperature,
                request.top_p,
            )
            for request in requests
        ]
        texts = []
        for samples in native.generate(batch):
            self.generated += sum(len(tokens) + 1 for tokens, _, _ in samples)
            texts.append([self.prompts.read(tokens) for tokens, _, _ in samples])
        return texts

    def reload(self, file: Path, weights: str) -> None:
        """Takes the weights of `file`, whose content hash is `weights`."""
        self.engine.native.read_weights(str(file))
        self.weights = weights
