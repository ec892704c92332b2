"""The compiler of the kernels for cards: cubins for sm_80 and sm_90a and PTX for later ones, one file a source.

Run as ``python rust/kernels-cuda/compile.py --out FOLDER`` by an interpreter whose environment has the pinned packages of
``requirements.txt``. Prints each kernel's registers and shared memory, and fails on spills, on more registers than a kernel
may have, and on remarks that ptxas serialised what was meant to overlap (C75xx).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
ARCHITECTURES = [
    "-gencode=arch=compute_80,code=sm_80",
    "-gencode=arch=compute_90a,code=sm_90a",
    # What a driver compiles for cards that are not listed.
    "-gencode=arch=compute_80,code=compute_80",
]
MOST_REGISTERS = 128
ENTRY = re.compile(r"Compiling entry function '(?P<kernel>\w+)' for '(?P<card>\w+)'")
USED = re.compile(r"Used (?P<registers>\d+) registers")
SPILLS = re.compile(r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads")


class Refused(Exception):
    """A kernel that compiled to something that may not ship."""


def toolkit() -> Path:
    """The folder of the compiler's packages in this interpreter's environment."""
    folder = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13"
    if not (folder / "bin" / "nvcc").is_file():
        sys.exit(f"{folder} has no nvcc: install {HERE / 'requirements.txt'} into this environment")
    return folder


def command(source: Path, out: Path) -> list[str]:
    """The compiler's command line for one source."""
    home = toolkit()
    flags = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v", "-fatbin", *ARCHITECTURES]
    return [str(home / "bin" / "nvcc"), *flags, "-o", str(out), str(source)]


def digest(source: Path) -> str:
    """A hash of everything that a source's cubins depend on."""
    state = hashlib.sha256()
    for path in [source, *sorted((HERE / "cuda").glob("*.cuh")), Path(__file__), HERE / "requirements.txt"]:
        state.update(path.read_bytes())
    return state.hexdigest()


def sources_digest() -> str:
    """64-bit FNV-1a in hex over the kernels' sources in the order of their names, by which an engine knows its kernels."""
    state = 0xCBF29CE484222325
    for path in sorted(path for path in (HERE / "cuda").iterdir() if path.is_file()):
        for byte in path.read_bytes():
            state = (state ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{state:016x}"


def twin(library: Path) -> None:
    """A driver's library that runs the kernels on the processor, by the C++ compiler: for tests."""
    sources = [
        *sorted((HERE / "cuda").glob("*.cu")),
        HERE / "cuda/host/launch.cc",
        HERE / "cuda/host/driver.cc",
    ]
    stamp = library.with_suffix(".stamp")
    state = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in (HERE / "cuda").rglob("*") if path.is_file()):
        state.update(path.read_bytes())
    if library.is_file() and stamp.is_file() and stamp.read_text() == state.hexdigest():
        return
    compiler = os.environ.get("CXX", "c++")
    flags = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-fno-strict-aliasing",
        "-fno-gnu-unique",
        "-w",
        "-I",
        str(HERE / "cuda"),
    ]
    with TemporaryDirectory() as scratch:

        def build(source: Path) -> str:
            out = Path(scratch) / f"{source.stem}.o"
            subprocess.run([compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(out)], check=True)
            return str(out)

        with ThreadPoolExecutor(max_workers=2) as pool:
            objects = list(pool.map(build, sources))
        whole = Path(scratch) / library.name
        subprocess.run([compiler, "-shared", "-Wl,-Bsymbolic", "-o", str(whole), *objects], check=True)
        shutil.copy(whole, library.with_suffix(".new"))
        library.with_suffix(".new").replace(library)
    stamp.write_text(state.hexdigest())


def rows_of(log: str) -> list[str]:
    """One line a kernel and card; raises :class:`Refused` for what may not ship."""
    if serialised := re.search(r".*C75\d\d.*", log):
        raise Refused(serialised.group())
    rows, kernel, card = [], "", ""
    for line in log.splitlines():
        if entry := ENTRY.search(line):
            kernel, card = entry["kernel"], entry["card"]
        elif spills := SPILLS.search(line):
            if int(spills["stores"]) + int(spills["loads"]):
                raise Refused(f"{kernel} on {card} spills: {line.strip()}")
        elif used := USED.search(line):
            registers = int(used["registers"])
            if registers > MOST_REGISTERS:
                raise Refused(f"{kernel} on {card} takes {registers} registers of {MOST_REGISTERS}")
            rows.append(f"{kernel:<24}{card:<8}{registers:>4} registers, no spills")
    return rows


def build(source: Path, out: Path) -> list[str]:
    """The rows of one source, compiled again only if something changed."""
    binary, log = out / f"{source.stem}.fatbin", out / f"{source.stem}.log"
    stamp = f"{digest(source)}\n"
    if binary.is_file() and log.is_file() and log.read_text().startswith(stamp):
        return rows_of(log.read_text())
    home = toolkit()
    environment = {**os.environ, "CUDA_HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    run = subprocess.run(command(source, binary), env=environment, capture_output=True, text=True)
    if run.returncode:
        raise Refused(f"{source.name} does not compile:\n{run.stdout}{run.stderr}")
    rows = rows_of(run.stderr + run.stdout)
    log.write_text(stamp + run.stderr + run.stdout)
    return rows


def main() -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the compiled kernels")
    parser.add_argument(
        "--twin",
        action="store_true",
        help="make a driver's library that runs them on the processor instead: for tests",
    )
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "sources.txt").write_text(sources_digest() + "\n")
    if options.twin:
        twin(out / "libcuda.so.1")
        (out / "twin.fatbin").write_text("found by name in the library")
        return 0
    sources = sorted((HERE / "cuda").glob("*.cu"))
    try:
        with ThreadPoolExecutor(max_workers=2) as pool:
            for rows in pool.map(lambda source: build(source, out), sources):
                print("\n".join(rows))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in out.glob("*.fatbin"))
    print(f"{len(sources)} sources, {size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
