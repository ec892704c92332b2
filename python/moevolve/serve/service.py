"""What is served: one set of weights with its scheduler, replaced by a newer one while streams of the old one go on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import msgspec

from moevolve.errors import MoevolveError
from moevolve.models.engine import Engine
from moevolve.models.interruptible import Parts, advanced
from moevolve.randomness import key
from moevolve.serve.driver import Driver, RequestScheduler
from moevolve.serve.failures import RequestError, ending
from moevolve.serve.interactions import Interaction
from moevolve.serve.limits import Limits
from moevolve.serve.waiting import Left, Waiting

T = TypeVar("T")


class Counts(msgspec.Struct):
    """Sums since the server began."""

    requests: int = 0
    finished: int = 0
    cancelled: int = 0
    """Ended before their last token: left by their clients, or out of time."""
    refused: int = 0
    """Answered with 429."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    swaps: int = 0


Keep = Callable[[Interaction], None]


class Deployment:
    """Weights under traffic.

    Args:
        engine: the model.
        weights: what tells these weights from others.
        driver: draws from the model.
    """

    def __init__(self, engine: Engine, weights: str, driver: Driver) -> None:
        self.engine = engine
        self.weights = weights
        self.driver = driver
        self.users = 0
        self.retired = False
        self._reading = asyncio.Lock()

    async def read(self, waiting: Waiting, work: Parts[T]) -> T:
        """What the engine makes of one text, without drawing, in a thread. One text at a time; the engine is held for a part
        of it, and rounds of drawing come between two.

        Raises:
            Left: nobody waits for it any more.
        """
        async with self._reading:
            while True:
                waiting.check()
                if (done := await asyncio.to_thread(advanced, work)) is not None:
                    return done[0]


class Service:
    """The model behind the endpoints. All methods belong to the loop's thread.

    Args:
        name: the model's name in requests and answers.
        limits: bounds on the traffic.
        scheduler: makes the scheduler of an engine.
        seed: what samples without a seed of their own are drawn from; drawn itself when None.
        speculate: most tokens guessed from the prompt a step.
        absent: why there are no weights here, where a program answers through another server.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        scheduler: Callable[[Engine], RequestScheduler],
        *,
        seed: int | None = None,
        speculate: int = 0,
        absent: str | None = None,
    ) -> None:
        self.name = name
        self.absent = absent
        self.limits = limits
        self.speculate = speculate
        self.counts = Counts()
        self.ending = False
        self.ended = asyncio.Event()
        """What is under way has to end now."""
        self.keep: Keep | None = None
        """Takes finished interactions, where the server learns."""
        self._scheduler = scheduler
        self._seed = secrets.randbits(63) if seed is None else seed
        self._current: Deployment | None = None
        self._old: list[Deployment] = []
        self._places = 0
        self._stops: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Deployment:
        """What new requests go to."""
        if self.absent is not None:
            raise RequestError(404, self.absent, param="model", code="model_not_found")
        if self._current is None:
            raise RequestError(503, "no model is loaded yet", code="loading", headers={"retry-after": "1"})
        return self._current

    @property
    def slots(self) -> int:
        """Samples that are drawn at once."""
        return 0 if self._current is None else self._current.driver.slots

    @property
    def memory_limit(self) -> int:
        """Bytes of keys and values, at most."""
        return 0 if self._current is None else self._current.driver.scheduler.limit

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """What is in memory: the current weights, and those whose streams still go on."""
        return (*([self._current] if self._current else []), *self._old)

    def deploy(self, engine: Engine, weights: str) -> None:
        """Sends new requests to this engine; the one before ends with its last stream."""
        driver = Driver(self._scheduler(engine), asyncio.get_running_loop())
        before, self._current = self._current, Deployment(engine, weights, driver)
        if before is not None:
            self.counts.swaps += 1
            before.retired = True
            self._old.append(before)
            self._retire(before)

    @contextmanager
    def lease(self, deployment: Deployment | None = None) -> Iterator[Deployment]:
        """A deployment, the current one when None, kept in memory for as long as it is used."""
        deployment = deployment or self.current
        deployment.users += 1
        try:
            yield deployment
        finally:
            deployment.users -= 1
            self._retire(deployment)

    def leased(self) -> AbstractContextManager[Deployment | None]:
        """As `lease`; None where there are no weights here."""
        return self.lease() if self.absent is None else nullcontext()

    def check_model(self, name: str | None) -> None:
        """Refuses a request for another model than the one that is served.

        Raises:
            RequestError: 404.
        """
        if self.absent is not None:
            raise RequestError(404, self.absent, param="model", code="model_not_found")
        if name is None or name == self.name:
            return
        program = (
            "; `moevolve serve RUN --program` lets a program answer" if name.endswith("+program") else ""
        )
        raise RequestError(
            404,
            f"there is no model {name[:200]!r} here: {self.name!r} is served{program}",
            param="model",
            code="model_not_found",
        )

    def admit(self, samples: int) -> None:
        """Refuses what would wait too long.

        Raises:
            RequestError: 429, or 503 while the server ends.
        """
        if self.ending:
            raise ending()
        if self.absent is not None:
            return
        driver = self.current.driver
        room = driver.slots + self.limits.queue
        taken = driver.outstanding + self._places
        if taken + samples > room:
            self.counts.refused += 1
            raise RequestError(
                429,
                f"{taken} samples are drawn or wait, of {room} at most: try again later",
                code="queue_full",
                headers={"retry-after": "1"},
            )

    @contextmanager
    def places(self, samples: int) -> Iterator[None]:
        """Places of a request that is read, and not drawn yet or at all: they count as samples that wait.

        Raises:
            RequestError: as `admit`.
        """
        self.admit(samples)
        self._places += samples
        try:
            yield
        finally:
            self._places -= samples

    @contextmanager
    def abandoned(self) -> Iterator[None]:
        """Counts what is left by its client, or out of time, while it is read."""
        try:
            yield
        except (Left, RequestError) as error:
            if isinstance(error, Left) or error.status == 504:
                self.counts.cancelled += 1
            raise

    def fresh_seed(self) -> int:
        """A seed for a request that names none."""
        return key(self._seed, "serve", self.counts.requests)

    def end(self) -> None:
        """Ends what is under way: streams close with an error that says so."""
        self.ending = True
        self.ended.set()
        for deployment in self.deployments:
            deployment.driver.fail_all(ending())

    async def close(self) -> None:
        """Ends the engines' threads."""
        self.end()
        for deployment in self.deployments:
            await deployment.driver.stop()

    @property
    def failure(self) -> MoevolveError | None:
        """Why nothing can be answered, if that is so."""
        return self._current.driver.failure if self._current else None

    def _retire(self, deployment: Deployment) -> None:
        if deployment.retired and not deployment.users and deployment in self._old:
            self._old.remove(deployment)
            task = asyncio.get_running_loop().create_task(deployment.driver.stop())
            self._stops.add(task)
            task.add_done_callback(self._stops.discard)
