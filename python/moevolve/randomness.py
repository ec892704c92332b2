"""One source of randomness: every draw is a function of (run seed, cycle, stage, index).

Nothing in Moevolve keeps a generator alive across stages; a stage derives its keys from names and numbers, so that
a resumed or replayed run draws exactly what the undisturbed run drew.
"""

import hashlib
import random


def key(*parts: int | str) -> int:
    """A 64-bit key for a path of names and numbers, such as `key(seed, cycle, "gate", index)`.

    Parts are length-prefixed before hashing (BLAKE2b), so `("ab", "c")` and `("a", "bc")` differ.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(len(text).to_bytes(4, "little"))
        digest.update(text)
    return int.from_bytes(digest.digest(), "little")


def rng(*parts: int | str) -> random.Random:
    """A generator of its own for a path of names and numbers; see `key`."""
    return random.Random(key(*parts))
