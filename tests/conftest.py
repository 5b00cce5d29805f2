"""What every test may count on: the `live` marker, the reference material, and repeatable property tests."""

import ctypes
import functools
import os
import platform
import struct
import subprocess
from pathlib import Path

import hypothesis
import pytest

REQUIRE_LIVE = "LAYERGATE_REQUIRE_LIVE"
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}  # __NR_bpf in asm/unistd.h
BPF_MAP_CREATE = 0  # enum bpf_cmd in linux/bpf.h
BPF_MAP_TYPE_ARRAY = 2  # enum bpf_map_type in linux/bpf.h

# The same commit gives the same examples everywhere; `HYPOTHESIS_PROFILE=explore` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a live test, with the reason, where it can't run; fail it where live tests are required."""
    if item.get_closest_marker("live") is None:
        return
    reason = why_not_live()
    if reason is None:
        return
    if os.environ.get(REQUIRE_LIVE) == "1":
        pytest.fail(f"live tests are required here ({REQUIRE_LIVE}=1), but {reason}", pytrace=False)
    pytest.skip(reason)


@functools.cache
def why_not_live() -> str | None:
    """Say why this machine can't run live tests, None if it can; asked once a run, and tried rather than guessed."""
    if os.geteuid() != 0:
        return "not root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
    if "nodev\tcgroup2" not in Path("/proc/filesystems").read_text(encoding="ascii").splitlines():
        return "the kernel has no cgroup2"  # where it is mounted doesn't matter: tests mount it privately
    refusal = bpf_refusal()
    if refusal is not None:
        return f"bpf() is refused: {refusal}"
    unshare = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    if unshare.returncode != 0:
        return f"no new network namespace: {unshare.stderr.strip()}"
    return None


def bpf_refusal() -> str | None:
    """Create the smallest map there is, and return the kernel's refusal if it has one."""
    number = BPF_SYSCALL.get(platform.machine())
    if number is None:
        return f"unknown machine {platform.machine()}"
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack("=5I", BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0)  # type, key bytes, value bytes, entries, flags
    descriptor = libc.syscall(number, BPF_MAP_CREATE, attributes, len(attributes))
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference material (specifications as data, real dumps), where it is kept beside the clone."""
    directory = Path(__file__).parents[2] / "shared"
    if not directory.is_dir():
        pytest.skip("no reference material (a directory `shared`) beside the clone")
    return directory


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --golden: write the reviewed outputs anew, instead of comparing with them."""
    parser.addoption("--golden", action="store_true", help="write tests/golden anew; review what changed")
