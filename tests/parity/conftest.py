"""Before llama.cpp is loaded."""

from __future__ import annotations

import os

if "MOEVOLVE_PARITY" in os.environ:
    import amx

    amx.refuse()
