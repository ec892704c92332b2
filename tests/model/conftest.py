"""Golden checkpoints, and safetensors read without numpy."""

from __future__ import annotations

import json
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from moevolve import _native
from moevolve.protocol.training import Example, Rollout

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

FOLDER = Path(__file__).parents[1] / "fixtures" / "model"
GOLDEN = (
    "plain",
    "odd",
    "text",
    "qwen3_moe",
    "olmoe",
    "mixtral",
    "llama",
    "qwen3",
    "mistral",
    "qwen2",
    "gpt_oss",
    "qwen3_5_moe",
)


class Arrays(Mapping[str, list[float]]):
    """The float32 tensors of a safetensors file, flat; `shapes` and `dtypes` of all tensors by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        (size,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        self.header: dict[str, Any] = header
        self.body = data[8 + size :]
        self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.dtypes = {name: entry["dtype"] for name, entry in header.items()}

    def __getitem__(self, name: str) -> list[float]:
        start, end = self.header[name]["data_offsets"]
        assert self.header[name]["dtype"] == "F32", name
        return list(array("f", self.body[start:end]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.header)

    def __len__(self) -> int:
        return len(self.header)

    def group(self, prefix: str) -> dict[str, list[float]]:
        """Tensors whose name starts with `prefix`, which is cut off."""
        return {name.removeprefix(prefix): self[name] for name in self if name.startswith(prefix)}

    def write(self, changed: Callable[[dict[str, tuple[str, tuple[int, ...], bytes]]], None]) -> None:
        """Writes the file again after `changed` edited its tensors: name -> (dtype, shape, bytes)."""
        tensors = {}
        for name, entry in self.header.items():
            start, end = entry["data_offsets"]
            tensors[name] = (entry["dtype"], tuple(entry["shape"]), self.body[start:end])
        changed(tensors)
        header, body = {}, b""
        for name, (dtype, shape, data) in tensors.items():
            header[name] = {
                "dtype": dtype,
                "shape": shape,
                "data_offsets": [len(body), len(body) + len(data)],
            }
            body += data
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def examples(rows: list[Any]) -> list[Example]:
    """Rows of a fixture: tokens, where the answer starts, positions, weight."""
    return [
        Example(tokens=tokens, start=start, positions=positions, weight=weight)
        for tokens, start, positions, weight in rows
    ]


class Training:
    """What torch and PEFT computed in training one golden model."""

    def __init__(self, name: str) -> None:
        folder = FOLDER.parent / "training" / name
        self.adapter = folder / "adapter"
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        self.arrays = Arrays(folder / "expected.safetensors")

    @property
    def batch(self) -> list[Example]:
        return examples(self.expected["batch"])

    @property
    def rollouts(self) -> list[Rollout]:
        names = ("tokens", "start", "positions", "advantage", "logprobs", "reference", "age")
        return [Rollout(**dict(zip(names, row, strict=True))) for row in self.expected["rollouts"]]


class Golden:
    """One tiny checkpoint and what torch computed with it; see tests/parity/make_fixtures.py."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checkpoint = FOLDER / name / "checkpoint"
        self.expected: dict[str, Any] = json.loads((FOLDER / name / "expected.json").read_text())
        self.arrays = Arrays(FOLDER / name / "expected.safetensors")
        self.config: dict[str, Any] = json.loads((self.checkpoint / "config.json").read_text())

    def load(self, threads: int = 1) -> _native.Engine:
        return _native.Engine.load(str(self.checkpoint), threads)

    @property
    def batch(self) -> list[Example]:
        return examples(self.expected["batch"])

    def training(self) -> Training:
        """What torch computed in training it; see tests/parity/make_training_fixtures.py."""
        return Training(self.name)

    @property
    def experts(self) -> int:
        """Experts of a layer; a dense block counts as one."""
        return self.config.get("num_local_experts") or self.config.get("num_experts") or 1

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor in the checkpoint by its released name."""
        return {
            k: v for f in sorted(self.checkpoint.glob("*.safetensors")) for k, v in Arrays(f).shapes.items()
        }


@pytest.fixture(params=GOLDEN, scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


@pytest.fixture(scope="session")
def goldens() -> dict[str, Golden]:
    return {name: Golden(name) for name in GOLDEN}


@pytest.fixture(scope="session")
def fp8() -> Golden:
    """MiniMax-M2 in FP8 blocks: read, not trained."""
    return Golden("fp8")


@pytest.fixture(scope="session")
def mxfp4() -> Golden:
    """gpt-oss with experts in MXFP4: read, not trained."""
    return Golden("mxfp4")


@pytest.fixture(scope="session")
def read_arrays() -> Callable[[Path], Arrays]:
    return Arrays


@pytest.fixture(scope="session")
def flat() -> Callable[[Any], list[float]]:
    """The values of a native tensor in C order, through the buffer protocol."""

    def values(tensor: Any) -> list[float]:
        return list(array("f", memoryview(tensor).tobytes()))

    return values


@pytest.fixture(scope="session")
def far() -> Callable[[list[float], list[float]], float]:
    """Largest absolute difference; a NaN is infinitely far."""

    def distance(a: list[float], b: list[float]) -> float:
        assert len(a) == len(b)
        worst = 0.0
        for x, y in zip(a, b, strict=True):
            gap = abs(x - y)
            worst = gap if gap > worst else float("inf") if gap != gap else worst
        return worst

    return distance
