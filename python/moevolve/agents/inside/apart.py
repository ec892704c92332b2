"""Attempts that share no memory: each one is a fork of this warm interpreter, and this process carries their rounds.

A child's words are read here as strictly as the host reads ours: an attempt speaks for itself alone, and one that hangs,
dies or talks nonsense ends without its siblings.
"""

import gc
import posix
import select
from fcntl import F_SETFL, fcntl

from codec import dumps, loads

LIVE = 256
"""Attempts that are forked at one time."""

MOST = 4 << 20
"""Bytes of one message of a child."""


class Child:
    """A forked attempt, seen from the process that carries its rounds."""

    def __init__(self, index, input, output):
        self.index = index
        self.input = input
        self.output = output
        self.bytes = b""

    def read(self):
        """Takes what has come: (requests, done) once the message is whole, None before.

        Raises:
            ValueError: it is no message, or the child is gone.
        """
        part = posix.read(self.input, 1 << 16)
        if not part:
            raise ValueError("its process ended")
        self.bytes += part
        length = int.from_bytes(self.bytes[:4], "little")
        if len(self.bytes) >= 4 and length > MOST:
            raise ValueError(f"a message of {length} bytes")
        if len(self.bytes) < 4 + length or len(self.bytes) < 4:
            return None
        body, self.bytes = self.bytes[4:], b""
        requests, done = loads(body)
        # Written anew: a text that is not one JSON value would speak for others.
        requests = [(_text(kind), self.index, dumps(loads(text))) for kind, text in requests]
        return requests, [(self.index, _text(a), _text(f), _text(d)) for _, a, f, d in done]

    def write(self, replies, patience):
        """Sends the replies; a child that does not take them within `patience` milliseconds is closed by `read`."""
        data = memoryview(_frame(dumps(replies)))
        room = select.poll()
        room.register(self.output, select.POLLOUT)
        while data and room.poll(patience):
            try:
                data = data[posix.write(self.output, data) :]
            except OSError:
                return

    def close(self):
        """Lets the child go: what it reads is at its end."""
        posix.close(self.input)
        posix.close(self.output)


def _text(value):
    if value is None or isinstance(value, str):
        return value
    raise ValueError("no text")


def _frame(text):
    body = text.encode()
    return len(body).to_bytes(4, "little") + body


def run(start, exchange, play, read):
    """Runs the attempts of `start`.

    Args:
        start: the host's first message.
        exchange: sends a round (requests, done) to the host and returns its replies.
        play: runs a start with an exchange, in this very process.
        read: reads one message from a descriptor.
    """
    count = len(start["seeds"])
    patience = int(1000 * (2 * start["limits"]["step_seconds"] + 1))
    done = []
    # What is alive now stays: a collection would only copy its pages into every child.
    gc.freeze()
    for first in range(0, count, LIVE):
        children = {
            index: _fork(index, start, play, read) for index in range(first, min(count, first + LIVE))
        }
        done = _carry(children, exchange, patience, done)
    exchange([], done)


def _fork(index, start, play, read):
    """Starts the attempt; in the child, runs it and ends."""
    up, down = posix.pipe(), posix.pipe()
    if posix.fork():
        posix.close(up[1])
        posix.close(down[0])
        fcntl(down[1], F_SETFL, posix.O_NONBLOCK)
        return Child(index, up[0], down[1])
    code = 1
    try:
        _keep(up[1], down[0])
        own = start | {"tasks": start["tasks"][index : index + 1], "seeds": start["seeds"][index : index + 1]}

        def exchange(requests, done):
            data = memoryview(_frame(dumps([[(kind, text) for kind, _, text in requests], done])))
            while data:
                data = data[posix.write(up[1], data) :]
            return read(down[0])

        play(own, exchange)
        code = 0
    finally:
        posix._exit(code)


def _keep(*descriptors):
    """Closes everything but stderr, its copy as stdout, and these."""
    begin = 3
    for descriptor in sorted(descriptors):
        posix.closerange(begin, descriptor)
        begin = descriptor + 1
    posix.closerange(begin, 4 * LIVE)


def _carry(children, exchange, patience, done):
    """Gathers the children's rounds into the host's until all have ended; returns what the host was not told yet, since a
    round asks for something."""
    while children:
        requests, asking = [], []
        waiting = {child.input: child for child in children.values()}
        ready = select.poll()
        for descriptor in waiting:
            ready.register(descriptor, select.POLLIN)
        messages = {}
        while waiting:
            events = ready.poll(patience)
            if not events:
                for child in waiting.values():
                    messages[child.index] = [], [(child.index, None, "timeout", "no request in time")]
                break
            for descriptor, _ in events:
                child = waiting[descriptor]
                try:
                    message = child.read()
                except (ValueError, TypeError, OSError, RecursionError) as error:
                    message = [], [(child.index, None, "malformed", str(error)[:300])]
                if message is not None:
                    messages[child.index] = message
                    ready.unregister(descriptor)
                    del waiting[descriptor]
        for index in sorted(messages):
            wanted, ended = messages[index]
            if wanted:
                requests += wanted
                asking.append((children[index], len(wanted)))
            else:
                children.pop(index).close()
                done += ended[:1] or [(index, None, "malformed", "it neither asked nor ended")]
        if not requests:
            continue
        replies = iter(exchange(requests, done))
        done = []
        for child, number in asking:
            child.write([next(replies) for _ in range(number)], patience)
    return done
