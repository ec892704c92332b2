"""Ctrl-C while native work goes on beside the main thread."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

UNHEARD = """
import signal, sys, threading, time
from moevolve.cli.interrupting import interruptible

signal.signal(signal.SIGINT, signal.default_int_handler)

def work():
    time.sleep(0.2)  # the main thread waits by now, or soon
    # A signal that another thread gets leaves the main thread in its wait, as one does that comes just before the wait.
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait()

try:
    interruptible(work)
except KeyboardInterrupt:
    print("heard", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of one thread need POSIX")
def test_a_signal_that_does_not_end_the_wait_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", UNHEARD], capture_output=True, text=True, timeout=30)
    assert done.stdout == "heard\n", done.stderr
