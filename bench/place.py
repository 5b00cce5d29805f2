"""Where it is measured: a network namespace and a control group of our own, removed at the end; what is built for it.

Nothing is attached to anything else: traffic stays on the loopback of this namespace, in processes of this group.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from layergate.kernel.cgroups import Hierarchy
from layergate.kernel.netns import Namespace
from layergate.model import NotSupportedError
from tools import build_bpf

HERE = Path(__file__).parent
LOAD_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


class Place:
    """The stage. Use it as a context manager: leaving it removes everything."""

    def __init__(self) -> None:
        self._leave = ExitStack()

    def __enter__(self) -> Self:
        """Make everything. Raises NotSupportedError."""
        try:
            self._make()
        except BaseException:
            self._leave.close()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        """Remove everything."""
        self._leave.close()

    def _make(self) -> None:
        if os.geteuid():
            raise NotSupportedError("bench", "it loads BPF programs into a network namespace of its own", "run as root")
        built = Path(self._leave.enter_context(tempfile.TemporaryDirectory(prefix="lg-bench-")))
        self.load, self.noop = built / "load", built / "noop.bpf.o"
        self._build()
        self.name = f"lg-bench-{os.getpid()}"
        self._leave.callback(ip, "netns", "del", self.name, check=False)
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        self.namespace = Namespace(self.name)
        self._leave.callback(self.namespace.close)
        self.hierarchy = Hierarchy()
        self._leave.callback(self.hierarchy.close)
        here = self.hierarchy.own()
        self.cgroup = self.hierarchy.make(f"{here.rstrip('/')}/{self.name}")
        self._leave.callback(self.hierarchy.remove, self.cgroup, keep_in=here)
        self._leave.callback(os.close, self.cgroup.fd)
        # The load has the last processor for itself; whoever reads the ring, as we do, has the others.
        before = os.sched_getaffinity(0)
        *ours, last = sorted(before)
        self.load_cpus = {last}
        self._leave.callback(os.sched_setaffinity, 0, before)
        os.sched_setaffinity(0, ours or before)

    def _build(self) -> None:
        try:
            command = build_bpf.compile_command()
            build_bpf.require_toolchain(command)
        except build_bpf.CannotBuildError as error:
            raise NotSupportedError("bench", str(error), build_bpf.REMEDY) from error
        if not build_bpf.compile_one(command, HERE.parent, HERE / "noop.bpf.c", self.noop):
            raise NotSupportedError("bench", "clang refused bench/noop.bpf.c", "its messages are above")
        subprocess.run([command[0], *LOAD_FLAGS, "-o", self.load, HERE / "load.c"], check=True)


def ip(*words: str, check: bool = True) -> None:
    """Run `ip` with *words*. Raises NotSupportedError."""
    # In a session of its own: Ctrl-C is ours to hear, and cuts no removal short.
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, start_new_session=True)
    if check and done.returncode:
        raise NotSupportedError("bench", f"ip {' '.join(words)}: {done.stderr.strip()}", "run as root, with iproute2")
