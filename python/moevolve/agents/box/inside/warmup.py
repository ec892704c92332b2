"""What libraries load at their first request, loaded before attempts are forked.

Clients import their transports late, and build the classes of answers when the first one comes: more than a whole attempt
takes otherwise. The nursery's network leads nowhere, so a request fails at once, and another is answered on the spot.
"""

from __future__ import annotations

import sys
from typing import Any

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "policy",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
NOWHERE = "http://127.0.0.1:9/v1"


def warm_up() -> None:
    """Makes requests with the clients that are imported; what they come to is no matter."""
    openai: Any = sys.modules.get("openai")
    if openai is None:
        return
    for transport in (None, _answering()):
        try:
            more = (
                {} if transport is None else {"http_client": openai.DefaultHttpxClient(transport=transport)}
            )
            with openai.OpenAI(api_key="none", base_url=NOWHERE, max_retries=0, timeout=5, **more) as client:
                client.chat.completions.create(model="policy", messages=[{"role": "user", "content": "x"}])
        except Exception:  # noqa: BLE001  another version of the library: its first attempt is slower, and no worse
            continue


def _answering() -> Any:
    """A transport that answers by itself; None where the library has none."""
    library: Any = sys.modules.get("httpx2") or sys.modules.get("httpx")
    if library is None or not hasattr(library, "MockTransport"):
        return None
    return library.MockTransport(lambda request: library.Response(200, json=ANSWER))
