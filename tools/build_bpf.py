"""Compile the BPF programs: kernel/bpf/NAME.bpf.c → kernel/objects/NAME.bpf.o, where a source is newer than its object.

Run by the package build (hatch_build.py) and by every `make setup`; nothing is compiled when layergate runs. Rules: the
standard library alone; an object appears whole or not at all; one line a user can act on when the machine lacks
something. An object is CO-RE bytecode, little-endian like both supported machines; the machine it was built on shows
only through __TARGET_ARCH_*, which nothing but kprobe arguments reads, so one pure-Python wheel serves both.

Exit status: 0 all objects are up to date; 1 clang refused a source; 3 this machine can't build (no clang, no headers).
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path("src/layergate/kernel/bpf")
OBJECTS = Path("src/layergate/kernel/objects")
TARGET_ARCH = {"x86_64": "x86", "aarch64": "arm64"}  # platform.machine() → libbpf's name for it (bpf_tracing.h)
REMEDY = "apt-get install clang libbpf-dev"
PROBE = "#include <linux/types.h>\n#include <bpf/bpf_helpers.h>\n"


class CannotBuildError(Exception):
    """The machine lacks something; str() names it and the remedy, in a line."""


def main() -> int:
    """Bring every object up to date and say what was built; see the module for the exit status."""
    try:
        refused = build(ROOT)
    except CannotBuildError as error:
        print(f"build_bpf: {error}", file=sys.stderr)
        return 3
    if refused:
        print(f"build_bpf: clang refused {', '.join(refused)}; its messages are above", file=sys.stderr)
        return 1
    return 0


def build(root: Path) -> list[str]:
    """Compile the stale sources of the tree at *root*, in parallel; return the names of those that clang refused.

    Objects whose source is gone are removed.

    Raises:
        CannotBuildError: there is something to compile and no way to do it here.
    """
    objects = {object_of(source): source for source in sorted((root / SOURCES).glob("*.bpf.c"))}
    for leftover in set((root / OBJECTS).glob("*.bpf.o")) - {root / path for path in objects}:
        leftover.unlink()
    shared = [*(root / SOURCES).rglob("*.h"), Path(__file__)]
    newest_shared_ns = max(path.stat().st_mtime_ns for path in shared)
    stale = [
        (source, root / path) for path, source in objects.items() if is_stale(root / path, source, newest_shared_ns)
    ]
    if not stale:
        return []
    command = compile_command()
    require_toolchain(command)
    (root / OBJECTS).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        done = pool.map(lambda pair: compile_one(command, root, *pair), stale)
        return [source.name for (source, _), built in zip(stale, done, strict=True) if not built]


def object_of(source: Path) -> Path:
    """Where, seen from the root, the object of *source* goes: bpf/connect.bpf.c → objects/connect.bpf.o."""
    return OBJECTS / source.with_suffix(".o").name


def is_stale(target: Path, source: Path, newest_shared_ns: int) -> bool:
    """Whether *target* is absent or older than its source or than what every source shares (headers, this script)."""
    if not target.exists():
        return True
    return target.stat().st_mtime_ns < max(source.stat().st_mtime_ns, newest_shared_ns)


def compile_command() -> list[str]:
    """Return clang's command line without input and output; paths in it are relative to the root."""
    machine = platform.machine()
    if machine not in TARGET_ARCH:
        message = f"no BPF build for {machine}: use one of {', '.join(TARGET_ARCH)}"
        raise CannotBuildError(message)
    clang = shutil.which(os.environ.get("CLANG", "clang"))
    if clang is None:
        message = f"clang is missing: {REMEDY}"
        raise CannotBuildError(message)
    # Debian keeps <asm/types.h>, which the kernel's headers include, in a directory that `-target bpf` doesn't search.
    multiarch = Path("/usr/include") / f"{machine}-linux-gnu"
    return [
        *(clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-D__TARGET_ARCH_{TARGET_ARCH[machine]}"),
        *("-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"),
        # BPF_PROG has parameters that not every program uses; a header serves several objects.
        *("-Wno-unused-parameter", "-Wno-unused-function"),
        *(("-isystem", str(multiarch)) if multiarch.is_dir() else ()),
    ]


def require_toolchain(command: Sequence[str]) -> None:
    """Refuse a machine whose clang can't target BPF or that lacks the headers of the kernel or of libbpf."""
    probe = subprocess.run(
        [*command, "-fsyntax-only", "-x", "c", "-"], input=PROBE, capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        reason = next((line for line in probe.stderr.splitlines() if "error:" in line), "no reason given")
        cause = "<bpf/bpf_helpers.h> is missing" if "bpf_helpers.h' file not found" in reason else reason.strip()
        message = f"{cause}: {REMEDY}"
        raise CannotBuildError(message)


def compile_one(command: Sequence[str], root: Path, source: Path, target: Path) -> bool:
    """Compile *source* to *target* and say so; pass on clang's messages and return False if it refuses."""
    started_ns = time.time_ns()
    with temporary_beside(target) as output:
        # The root doesn't show in the debug information: the same sources give the same object anywhere.
        clang = subprocess.run(
            [*command, f"-fdebug-prefix-map={root}=.", "-c", str(source.relative_to(root)), "-o", str(output)],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stderr.write(clang.stderr)
        if clang.returncode != 0:
            return False
        # Dated when the work began: a source that is saved meanwhile is newer than its object.
        os.utime(output, ns=(started_ns, started_ns))
        output.replace(target)
    print(f"build_bpf: {target.name}")
    return True


@contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """Yield a path on *target*'s file system, which is gone afterwards unless it was renamed."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as directory:
        yield Path(directory) / target.name


if __name__ == "__main__":
    sys.exit(main())
