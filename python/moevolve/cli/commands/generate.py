"""Lets a model complete prompts or, with --chat, answer them. Prompts come from the command line, from a file, or one a line
from stdin; what is typed streams in a terminal, what comes from a file is computed in batches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moevolve.cli import output
from moevolve.cli.interrupting import begun, interruptible
from moevolve.cli.prompts import Request, from_arguments, from_stdin, read_file, tools_of
from moevolve.errors import UsageError

if TYPE_CHECKING:
    from moevolve.models.chat import ChatStream, Conversation
    from moevolve.models.engine import Engine
    from moevolve.protocol.completion import Completion
    from moevolve.protocol.sampling import Constraint

BATCH = 64
"""Completions that are computed together."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="what to complete; - reads stdin (default: lines from stdin)",
    )
    parser.add_argument(
        "--file",
        type=Path,
        metavar="F",
        help='prompts, one a line; or one {"prompt": ...} or {"messages": [...], "tools": [...]} a line; of tasks for a '
        'program also "skill", and "task" with what its environment begins with',
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="folder of a checkpoint, a .gguf file, or a run, whose champion completes (default: the shipped seed)",
    )
    parser.add_argument(
        "--program",
        action="store_true",
        help="of a run: let the champion's program solve each prompt as a task of the run's suite (the default where the "
        "run's policy is a server's)",
    )
    parser.add_argument("--skill", metavar="SKILL", help="with --program: the skill that the tasks are of")
    parser.add_argument("--chat", action="store_true", help="answer, through the model's own chat template")
    parser.add_argument("--system", metavar="TEXT", help="what the chat's system message says")
    parser.add_argument("--tools", type=Path, metavar="FILE", help="tools the chat may call: a JSON list")
    parser.add_argument("-n", "--n", type=int, default=1, help="completions of each prompt (default: 1)")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="most tokens of a completion (default: 64; with --chat 1024, or what the context has room for)",
    )
    parser.add_argument(
        "--temperature", type=float, help="0 is greedy (default: 0 for one completion, else 1)"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus mass in (0, 1] (default: 1)")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--schema", type=Path, metavar="FILE", help="JSON schema that each text is an instance of"
    )
    forms.add_argument("--regex", metavar="R", help="regular expression that matches each text as a whole")
    forms.add_argument(
        "--choice", action="append", metavar="TEXT", help="each text is one of these; repeat it"
    )
    forms.add_argument("--grammar", type=Path, metavar="FILE", help="grammar of each text, in Lark's syntax")
    parser.add_argument("--seed", type=int, default=0, help="draws other samples (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:N for a card, or auto (default: cpu)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the engine (default: every core)")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="text as the model wrote it, special tokens and marks included, and no note about --chat",
    )
    parser.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show tokens as they come, one completion after the other (default: prompts given in a terminal)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "--json", action="store_true", help="print prompts, completions, tokens and log-probabilities"
    )
    shape.add_argument("--jsonl", action="store_true", help="the same, one line a completion, as they come")


def execute(options: argparse.Namespace) -> int:
    if not options.chat and (options.system is not None or options.tools is not None):
        raise UsageError("--system and --tools belong to a chat: add --chat")
    if options.n < 1:
        raise UsageError(f"-n {options.n}: at least 1 completion of each prompt")
    tools = tools_of(options.tools) if options.tools else None
    typed = bool(options.prompts) and options.file is None and "-" not in options.prompts
    requests = from_arguments(options.prompts, options.file)
    talks = False
    if not options.prompts and options.file is None:
        if not sys.stdin.isatty():
            requests = from_stdin()
        elif options.chat and sys.stdout.isatty() and not (options.json or options.jsonl):
            talks = True
        else:
            raise UsageError(
                "give a prompt, such as `moevolve generate rev:abcd=`, or pipe one a line into stdin"
            )
    from moevolve.cli import solving

    if solving.wanted(options):
        return solving.execute(options, requests, talks=talks)
    for request in requests:
        if request.messages and not options.chat:
            raise UsageError("the requests hold messages, which are for a chat: add --chat")

    from moevolve.models.checkpoint import seed_checkpoint
    from moevolve.models.engine import Engine

    engine = Engine.load(options.model or seed_checkpoint(), device=options.device, threads=options.threads)
    for note in engine.notes:
        output.say(f"moevolve: {note}")
    draw = _Draw(options, engine, tools)
    if talks:
        from moevolve.cli.talk import talk

        opening = () if options.system is None else ({"role": "system", "content": options.system},)
        return talk(lambda told, turns: draw.turn(Request(messages=told), (turns, 0)), opening)
    if not (options.chat or options.raw or options.json or options.jsonl) and engine.chat_template:
        output.say(
            "moevolve: this model has a chat template: --chat talks to it (--raw leaves this note out)"
        )
    if options.json or options.jsonl:
        _print_json(draw, requests, lines=options.jsonl)
    elif options.stream if options.stream is not None else typed and sys.stdout.isatty():
        draw.stream(requests)
    else:
        from moevolve.cli.telling import Teller

        for _, _, completion in draw.batches(requests):
            Teller().completion(completion)
    return 0


def _form(options: argparse.Namespace) -> dict[str, Any]:
    """The form that the texts are held to, as a setting of `generate`."""
    from moevolve.models.parameters import read_json

    if options.schema is not None:
        try:
            return {"schema": read_json(read_file(options.schema))}
        except ValueError as error:
            raise UsageError(f"{options.schema} is no JSON: {error}") from error
    if options.grammar is not None:
        return {"grammar": read_file(options.grammar)}
    asked = {"regex": options.regex, "choice": options.choice}
    return {name: value for name, value in asked.items() if value is not None}


def _print_json(draw: _Draw, requests: list[Request], *, lines: bool) -> None:
    from msgspec import to_builtins

    told: list[dict[str, Any]] = []
    for index, sample, completion in draw.batches(requests):
        asked = draw.asked(requests[index])
        if lines:
            output.line({"index": index, "sample": sample, **asked, **to_builtins(completion)})
        elif sample == 0:
            told.append({**asked, "completions": [completion]})
        else:
            told[-1]["completions"].append(completion)
    if not lines:
        output.data(told)


class _Draw:
    """One model under one set of options."""

    def __init__(
        self, options: argparse.Namespace, engine: Engine, tools: tuple[dict[str, Any], ...] | None
    ) -> None:
        self._options = options
        self._engine = engine
        self._tools = tools
        self._temperature = options.temperature
        if options.temperature is None:
            self._temperature = 0.0 if options.n == 1 else 1.0
        self._form = _form(options)
        self._most = 64 if options.max_tokens is None else options.max_tokens
        if options.chat:
            _ = engine.chats  # a model that cannot chat says so before anything else

    def asked(self, request: Request) -> dict[str, Any]:
        """The request as the output names it."""
        if request.prompt is not None and not self._options.chat:
            return {"prompt": request.prompt}
        return {"messages": request.conversation(self._options.system)}

    def batches(self, requests: list[Request]) -> Iterator[tuple[int, int, Completion]]:
        """Place, sample and completion of each, in order."""
        size = max(1, BATCH // max(1, self._options.n))
        for first in range(0, len(requests), size):
            part = requests[first : first + size]
            answers = interruptible(partial(self._batch, part, first))
            for index, samples in enumerate(answers, first):
                for sample, completion in enumerate(samples):
                    yield index, sample, completion

    def stream(self, requests: list[Request]) -> None:
        """Shows each completion as it is drawn."""
        from moevolve.cli.telling import Teller

        for index, request in enumerate(requests):
            for sample in range(self._options.n):
                place = (index, sample)
                if self._options.chat and not self._options.raw:
                    Teller().turn(self.turn(request, place))
                else:
                    Teller().text(begun(self._pieces(request, place)))

    def turn(self, request: Request, place: tuple[int, int]) -> ChatStream:
        """The model's turn under way."""
        return self._engine.chats.stream(
            self._conversation(request),
            max_tokens=self._options.max_tokens,
            temperature=self._temperature,
            top_p=self._options.top_p,
            seed=self._options.seed,
            index=place[0],
            sample=place[1],
            constraint=self._constraint,
        )

    @property
    def _constraint(self) -> Constraint | None:
        from moevolve.models.sampling import form_of

        return form_of(**self._form)

    def _conversation(self, request: Request) -> Conversation:
        from moevolve.models.chat import conversation

        tools = self._tools if request.tools is None else request.tools
        return conversation(request.conversation(self._options.system), tools)

    def _batch(self, requests: list[Request], first: int) -> list[tuple[Completion, ...]]:
        options = self._options
        if options.chat:
            answers: list[tuple[Completion, ...]] = list(
                self._engine.chats.complete(
                    [self._conversation(request) for request in requests],
                    max_tokens=options.max_tokens,
                    n=options.n,
                    temperature=self._temperature,
                    top_p=options.top_p,
                    seed=options.seed,
                    offset=first,
                    constraint=self._constraint,
                )
            )
        else:
            answers = list(
                self._engine.generate(
                    [request.prompt or "" for request in requests],
                    max_tokens=self._most,
                    n=options.n,
                    temperature=self._temperature,
                    top_p=options.top_p,
                    seed=options.seed,
                    offset=first,
                    **self._form,
                )
            )
        if options.raw:
            return [tuple(self._raw(sample) for sample in samples) for samples in answers]
        return answers

    def _raw(self, sample: Completion) -> Completion:
        from moevolve.protocol.completion import Completion

        return Completion(
            text=self._engine.text(sample.tokens, None),
            tokens=sample.tokens,
            logprobs=sample.logprobs,
            finish=sample.finish,
        )

    def _pieces(self, request: Request, place: tuple[int, int]) -> Iterator[str]:
        options = self._options
        prompt: str | list[int] = request.prompt or ""
        most = self._most
        if options.chat:
            prompt, most = self._engine.chats.ids(self._conversation(request), options.max_tokens)
        stream = self._engine.stream(
            prompt,
            max_tokens=most,
            temperature=self._temperature,
            top_p=options.top_p,
            seed=options.seed,
            index=place[0],
            sample=place[1],
            marks=None if options.raw else (),
            **self._form,
        )
        return (piece.text for piece in stream)
