"""JSON by the interpreter's C parts alone: the package `json` imports regular expressions, a third of a cold start."""

from _json import encode_basestring_ascii, make_encoder, make_scanner


class _Grammar:
    """The settings that the scanner reads."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = make_scanner(_Grammar)


def loads(data):
    """The value of a JSON text without blanks around it."""
    text = data if isinstance(data, str) else data.decode()
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value, at character {end}")
    return value


def dumps(value):
    """The JSON text of a value, ASCII only.

    Raises:
        TypeError: something in it is no JSON value.
        ValueError: a number that is not finite, or a value that holds itself.
    """
    encode = make_encoder({}, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
    return "".join(encode(value, 0))


def _refuse(value):
    raise TypeError(f"{type(value).__name__} is not a JSON value")
