"""The engine as the loop's policy: rounds of requests answered as one batch, and every token counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from moevolve.errors import UsageError
from moevolve.models.asking import Turn, asked
from moevolve.models.constraints import json_schema
from moevolve.models.constraints import turn as turn_form
from moevolve.models.engine import Engine
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.models.reply import ReplyFormat
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, Reply, Unanswered
from moevolve.protocol.sampling import TokenRequest
from moevolve.randomness import key

Complete = Callable[[Sequence[TokenRequest]], Sequence[Sequence[Completion]]]


class EnginePolicy:
    """One set of weights that answers prompts.

    Texts go through `prompts`; conversations, texts with tools, and unworded texts to a chat model go through the model's
    own template as they are.

    Args:
        engine: the decoder with these weights; it must carry a tokenizer.
        weights: content hash of the weights, the file's name under `weights/`.
        prompts: how a suite's texts become its tokens; None asks with the bare texts.
        complete: draws requests, one completion a key; None lets the engine do it.
    """

    def __init__(
        self,
        engine: Engine,
        weights: str,
        prompts: Prompts | None = None,
        complete: Complete | None = None,
    ) -> None:
        self.engine = engine
        self.weights = weights
        self.prompts = prompts or BarePrompts(engine)
        self._complete = complete or engine.complete
        self.generated = 0
        self._bare = isinstance(self.prompts, BarePrompts)

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        """Answers a round; see `Policy`. What this model cannot do is `rejected`, with the reason."""
        replies: list[Reply | None] = [None] * len(requests)
        batch: list[TokenRequest] = []
        turns: list[Turn | None] = []
        for index, request in enumerate(requests):
            try:
                tokens, turn = self._asked(request)
            except UsageError as error:
                replies[index] = Unanswered(failure="rejected", detail=str(error)[:500])
            else:
                batch.append(tokens)
                turns.append(turn)
        drawn = zip(self._drawn(batch), batch, turns, strict=True)
        return [reply if reply is not None else self._read(*next(drawn)) for reply in replies]

    def _drawn(self, batch: Sequence[TokenRequest]) -> list[Sequence[Completion] | Unanswered]:
        """The samples of each request; one that the engine refuses (empty, too long, odd numbers) is `rejected`, alone.

        A sample does not depend on its batch, so the refused ones are looked for by halves.
        """
        try:
            return list(self._complete(batch))
        except UsageError as error:
            if len(batch) == 1:
                return [Unanswered(failure="rejected", detail=str(error)[:500])]
        middle = len(batch) // 2
        return [*self._drawn(batch[:middle]), *self._drawn(batch[middle:])]

    def _asked(self, request: GenerateRequest) -> tuple[TokenRequest, Turn | None]:
        """The request in tokens, and the conversation where it is one.

        Raises:
            UsageError: this model cannot answer it.
        """
        keys = [key(request.key, sample) for sample in range(request.n)]
        ids, turn = asked(self.engine, self.prompts, request.prompt, request.tools, worded=request.worded)
        form = self.engine.chats.format_of(turn.conversation) if turn is not None else ReplyFormat()
        sampling = request.sampling
        if request.schema is not None:
            fits = turn_form(json_schema(request.schema), form, turn.prompt if turn is not None else "")
            sampling = msgspec.structs.replace(sampling, constraint=fits)
        return self.engine.ready(TokenRequest(ids, sampling, keys, form.marks)), turn

    def _read(
        self, samples: Sequence[Completion] | Unanswered, request: TokenRequest, turn: Turn | None
    ) -> Reply:
        if isinstance(samples, Unanswered):
            return samples
        self.generated += sum([completion.count for completion in samples])
        if turn is not None:
            reply = [self._turn(completion, turn) for completion in samples]
        elif self._bare:
            reply = list(samples)
        else:
            reply = [msgspec.structs.replace(each, text=self.prompts.read(each)) for each in samples]
        reply[0] = msgspec.structs.replace(reply[0], prompt_tokens=len(request.prompt))
        return reply

    def _turn(self, completion: Completion, turn: Turn) -> Completion:
        """The turn taken apart; a call that is torn or malformed stays in its text."""
        form = self.engine.chats.format_of(turn.conversation)
        reply, _ = form.read(completion.text, turn.prompt, turn.conversation.tools)
        return msgspec.structs.replace(
            completion,
            text=reply.content,
            finish="tool_calls" if reply.tool_calls else completion.finish,
            tool_calls=reply.tool_calls,
            reasoning=reply.reasoning,
        )
