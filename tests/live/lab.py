"""A laboratory for live tests: network namespaces, a running `layergate trace`, and processes that it traces.

A `Tracer` is one `layergate trace` whose command only waits. Scripts then run in the command's control group and
network namespace, one after the other; each gives what it reported and the lines told meanwhile. So one trace, whose
programs take seconds to load, serves many tests; a test's policy is put in force by SIGHUP.

Where a script's lines end is found by a mark: the waiting command binds an address that no script uses, and closes.
Lines come in ring order, so whatever was told of the script stands before it.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import re
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from layergate.kernel.cgroups import Cgroup, Hierarchy
from layergate.kernel.libbpf import Attach, Command, bpf
from layergate.kernel.netns import Namespace

Line = dict[str, object]

HERE = Path(__file__).parent
LAYERGATE = str(Path(sys.executable).with_name("layergate"))
PYTHON = os.path.realpath(sys.executable)  # the application, as sockets report it
MARK = "127.255.255.254"
START_S_MAX = 60.0
STEP_S_MAX = 20.0
QUIET_S = 0.1
IN_FORCE = re.compile(r"(is|stays) in force")

# What the traced command does: a mark for every byte that comes, until there are no more.
_WAITS = f"""
import socket, sys
sys.stderr.write("ready\\n")
sys.stderr.flush()
while sys.stdin.buffer.read(1):
    with socket.socket() as mark:
        try:
            mark.bind(({MARK!r}, 0))
        except OSError:
            pass
"""


# --- namespaces -----------------------------------------------------------------------------------------------------


def ip(*words: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace with loopback up, `lg-NAME-PID`, removed in the end."""
    full = f"lg-{name}-{os.getpid()}"
    ip("netns", "add", full)
    try:
        ip("-n", full, "link", "set", "lo", "up")
        yield full
    finally:
        ip("netns", "del", full)


def inside(netns: str, *words: str) -> list[str]:
    """Return the command line that runs *words* in *netns*."""
    return ["ip", "netns", "exec", netns, *words]


@contextmanager
def neighbour(netns: str) -> Iterator[str]:
    """Another namespace behind *netns*' interface lg-here, at 10.78.0.2 and fd78::2; yields its name."""
    with namespace("there") as there:
        ip("-n", netns, "link", "add", "lg-here", "type", "veth", "peer", "name", "lg-there", "netns", there)
        for where, name, number in ((netns, "lg-here", 1), (there, "lg-there", 2)):
            ip("-n", where, "addr", "add", f"10.78.0.{number}/24", "dev", name)
            ip("-n", where, "addr", "add", f"fd78::{number}/64", "dev", name, "nodad")
            ip("-n", where, "link", "set", name, "up")
        yield there


def nft(netns: str, rules: str) -> None:
    """Load *rules* in *netns*, never elsewhere."""
    loaded = subprocess.run(inside(netns, "nft", "-f", "-"), input=rules, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr


def control_groups() -> set[str]:
    """Return the paths of the control groups that are called lg-…-PID and whose maker is gone: what somebody left."""
    hierarchy = Hierarchy()
    try:
        named = ((path, re.fullmatch(r"lg-.*-(\d+)", path.rpartition("/")[2])) for path in hierarchy.paths())
        return {path for path, name in named if name and not Path(f"/proc/{name[1]}").exists()}
    finally:
        hierarchy.close()


@contextmanager
def control_group(name: str) -> Iterator[Cgroup]:
    """A control group `/lg-NAME-PID`, removed in the end."""
    hierarchy = Hierarchy()
    try:
        group = hierarchy.make(f"/lg-{name}-{os.getpid()}")
        try:
            yield group
        finally:
            hierarchy.remove(group, keep_in="/")
            os.close(group.fd)
    finally:
        hierarchy.close()


def join(group: Cgroup) -> None:
    """Move the calling process into *group*."""
    fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group.fd)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


WITH_ENDS = {
    **os.environ,
    "PYTHONPATH": str(HERE),
    "PYTHONHOME": sys.base_prefix,  # for copies of the interpreter, which would not find its library
}


def says(script: str, python: str = sys.executable) -> list[str]:
    """Return the command line of *script*, which ends.py gives its vocabulary."""
    return [python, "-B", "-c", f"from ends import *\n{textwrap.dedent(script)}"]


def start_in(netns: str, group: Cgroup | None, script: str) -> subprocess.Popen[str]:
    """Start *script* in *netns* and, where it is given, in *group*."""

    def prepare() -> None:
        if group:
            join(group)

    return subprocess.Popen(
        inside(netns, *says(script)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=WITH_ENDS,
        preexec_fn=prepare,  # noqa: PLW1509 - between fork and exec it only writes to a file
    )


def run_in(netns: str, group: Cgroup | None, script: str, seconds: float = STEP_S_MAX) -> object:
    """Run *script* to its end in *netns* and, where it is given, in *group*; return what it reported."""
    with start_in(netns, group, script) as process:
        output, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    return json.loads(output) if output.strip() else None


# --- what is told ---------------------------------------------------------------------------------------------------


def parse(lines: Iterable[str]) -> list[Line]:
    """Return *lines* as objects."""
    return [json.loads(line) for line in lines]


def layer(line: Line) -> str:
    """Return the layer without FWPM_LAYER_."""
    return str(line["layer"]).removeprefix("FWPM_LAYER_")


def step(line: Line) -> str:
    """Return a line as one step: event and layer, with what is special about it."""
    if line["kind"] == "drop":
        return f"{line['event']} dropped"
    again = " again" if line["reauthorize"] else ""
    blocked = " blocked" if line["action"] == "block" else ""
    return f"{line['event']} {layer(line)}{again}{blocked}"


@dataclass
class Told:
    """What a script reported (JSON on its standard output), its standard error, and the lines told of it."""

    report: object
    errors: str
    lines: list[Line]
    before: list[Line] = field(default_factory=list)

    @property
    def indications(self) -> list[Line]:
        """The indications."""
        return [line for line in self.lines if line["kind"] == "indication"]

    @property
    def drops(self) -> list[Line]:
        """The drops."""
        return [line for line in self.lines if line["kind"] == "drop"]

    @property
    def flows(self) -> list[int]:
        """The numbers of the flows, in order of appearance."""
        return list(dict.fromkeys(line["flow"] for line in self.indications if isinstance(line["flow"], int)))

    def steps(self, host: str | None, *, flow: int | None = None, kind: str = "indication") -> list[str]:
        """Return the steps of *host*; of one *flow* and of what has none, if it is given."""
        return [
            step(line)
            for line in self.lines
            if line["kind"] == kind and line["host"] == host and (flow is None or line["flow"] in (flow, None))
        ]

    def at(self, name: str) -> list[Line]:
        """Return the indications at the layer *name*, of either family unless it names one."""
        return [line for line in self.indications if layer(line) in (name, f"{name}_V4", f"{name}_V6")]


def table(text: str, version: int) -> dict[str, list[str]]:
    """Return the steps of each host from a table of rows `host event LAYER`, for IP *version*.

    A family stands before _DISCARD, as in WFP's names.
    """
    result: dict[str, list[str]] = {}
    for row in text.split("\n"):
        if not row.strip():
            continue
        host, event, name = row.split()
        base, discard, _ = name.partition("_DISCARD")
        result.setdefault(host, []).append(f"{event} {base}_V{version}{discard}")
    return result


# --- a running trace ------------------------------------------------------------------------------------------------


def finished(
    netns: str, *words: str, command: Sequence[str], seconds: float = START_S_MAX, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `layergate trace WORDS --json -- COMMAND` in *netns* to its end."""
    return subprocess.run(
        inside(netns, LAYERGATE, "trace", *words, "--json", "--", *command),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=cwd,
        env=WITH_ENDS,
    )


@dataclass
class Tracer:
    """A running `layergate trace`. Use it as a context manager."""

    netns: str
    directory: Path
    options: tuple[str, ...] = ()
    lines: list[Line] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start it, and wait until its command runs."""
        self.policy_file = self.directory / f"policy-{self.netns}.toml"
        if not self.policy_file.exists():
            self.policy_file.write_text("")
        self._told: queue.Queue[Line | None] = queue.Queue()
        self._said: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            inside(
                self.netns, LAYERGATE, "trace", "--policy", str(self.policy_file), *self.options, "--json",
                "--", sys.executable, "-c", _WAITS,
            ),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self._readers = [
            threading.Thread(target=self._read, args=(stream, put), daemon=True)
            for stream, put in ((self.process.stdout, self._take_line), (self.process.stderr, self._take_error))
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._until_said(re.compile("^ready$"), START_S_MAX)
            self.command_pid = self._child()
            self._hierarchy = Hierarchy()
            self.cgroup = self._hierarchy.open(self._cgroup_of(self.command_pid))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        """End it."""
        os.close(self.cgroup.fd)
        self._hierarchy.close()
        self._end()

    def _end(self) -> None:
        self.stop()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(STEP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STEP_S_MAX)
            raise
        finally:
            for reader in self._readers:
                reader.join(STEP_S_MAX)

    @staticmethod
    def _read(stream: IO[bytes], put: Callable[[bytes], None]) -> None:
        with stream:
            for text in stream:
                put(text)

    def _take_line(self, text: bytes) -> None:
        line = json.loads(text)
        self.lines.append(line)
        self._told.put(line)

    def _take_error(self, text: bytes) -> None:
        self.errors.append(text.decode(errors="replace").rstrip())
        self._said.put(self.errors[-1])

    def _until_said(self, pattern: re.Pattern[str], seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(queue.Empty):
                said = self._said.get(timeout=0.1)
                if said is not None and pattern.search(said):
                    return said
            if self.process.poll() is not None:
                break
        raise AssertionError(f"trace did not say '{pattern.pattern}', but: {self.errors}, {self.lines[:3]}")

    def _child(self) -> int:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return int(text.split()[0])

    @staticmethod
    def _cgroup_of(pid: int) -> str:
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
            if line.startswith("0::"):
                return line[3:]
        raise AssertionError("no cgroup2")

    # --- what tests do with it --------------------------------------------------------------------------------------

    def try_reload(self, policy: str) -> str:
        """Let *policy* (TOML) be read again; return what was said of it."""
        self.policy_file.write_text(textwrap.dedent(policy))
        self.process.send_signal(signal.SIGHUP)
        return self._until_said(IN_FORCE, STEP_S_MAX)

    def reload(self, policy: str) -> int:
        """Put *policy* (TOML) in force; return its version."""
        said = self.try_reload(policy)
        refused = [line for line in self.lines if line["kind"] == "error"]
        assert " is in force" in said, f"the policy was refused: {self.errors[-5:]} {refused[-5:]}"
        return int(said.rpartition("version ")[2])

    def make_group(self, path: str) -> Cgroup:
        """Make the control group *path*."""
        return self._hierarchy.make(path)

    def remove_group(self, group: Cgroup) -> None:
        """Remove *group*; what still runs there moves to the trace's."""
        self._hierarchy.remove(group, keep_in=self.cgroup.path)
        os.close(group.fd)

    def start(
        self,
        script: str,
        *,
        traced: bool = True,
        python: str = sys.executable,
        group: Cgroup | None = None,
        netns: str | None = None,
    ) -> subprocess.Popen[str]:
        """Start *script* (see ends.py for its vocabulary), in the trace's control group if it is *traced*."""

        def prepare() -> None:
            if traced:
                join(group or self.cgroup)

        process = subprocess.Popen(
            inside(netns or self.netns, *says(script, python)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,  # noqa: PLW1509 - between fork and exec it only writes to a file
            env=WITH_ENDS,
        )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """End what was started and still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self._started.clear()

    def told(self) -> list[Line]:
        """Return the lines since the last call, up to a mark that is made now."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"m")
        end = time.monotonic() + STEP_S_MAX
        lines: list[Line] = []
        while True:
            with suppress(queue.Empty):
                line = self._told.get(timeout=0.1)
                if line is None or not str(line.get("local")).startswith(MARK):
                    lines.append(line)
                elif line["event"] == "release" or line["action"] == "block":
                    break
            assert time.monotonic() < end, f"no mark in the trace: {self.errors[-5:]}, {lines[-3:]}"
        # What the kernel does a moment later (a socket that is destroyed), and a mark's own discard twin.
        with suppress(queue.Empty):
            while True:
                lines.append(self._told.get(timeout=QUIET_S))
        return [line for line in lines if not str(line.get("local")).startswith(MARK)]

    def run(self, script: str, *meanwhile: Callable[[], object], **options: object) -> Told:
        """Run *script* to its end; return what it reported and what was told of it.

        At each `pause()` of the script the next of *meanwhile* is called; what was told before the last is apart.
        """
        self.told()
        process = self.start(script, **options)  # type: ignore[arg-type]
        before: list[Line] = []
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            for call in meanwhile:
                assert process.stdout.readline() == "\n", process.stderr and process.stderr.read()
                before += self.told()
                call()
                process.stdin.write("\n")
                process.stdin.flush()
            output, errors = process.communicate(timeout=STEP_S_MAX)
        finally:
            self.stop()
        assert process.returncode == 0, errors
        return Told(json.loads(output) if output.strip() else None, errors, self.told(), before)

    def ended(self) -> tuple[int, Line]:
        """End the trace; return its status and its summary."""
        self._end()
        return self.process.returncode, self.lines[-1]


# --- the machine as it was ------------------------------------------------------------------------------------------


def attached_programs(netns: str) -> int:
    """Return how many programs are attached to the loopback of *netns*, at both hooks of tcx."""
    count_at, loopback = 24, 1
    found = 0
    entered = Namespace(netns)
    with entered.entered():
        for hook in (Attach.TCX_INGRESS, Attach.TCX_EGRESS):
            answer = ctypes.create_string_buffer(struct.pack("=IIII", loopback, hook, 0, 0), 144)
            bpf(Command.PROG_QUERY, answer)
            found += struct.unpack_from("=I", answer, count_at)[0]
    entered.close()
    return found
