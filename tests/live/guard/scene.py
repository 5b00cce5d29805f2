"""A host under attack, in namespaces: a server with a policy in force, and a neighbour with thousands of addresses.

The server's namespace has 10.78.0.1; the neighbour 10.78.0.2 for the client that behaves, and all of 10.79.0.0/16 by a
local route, so that any of its addresses can be a source. Loads are bounded in count and time.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from layergate.kernel.cgroups import Cgroup
from layergate.kernel.maps import loaded
from tests.live.lab import LAYERGATE, WITH_ENDS, control_group, inside, ip, namespace, neighbour, says, start_in

PORT = 8080
SERVER = "10.78.0.1"
START_S_MAX = 60.0
UNDER_WAY_S = 1.5  # until an attack has filled what it fills

# A server that answers every line with "ok"; a thread a connection, as many as there is room for.
SERVE = f"""
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"ok\\n")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = {{backlog}}
    def handle_error(self, *_):  # of a client that reset: nobody reads what would be told, and telling it would block
        pass
with Server(("0.0.0.0", {PORT}), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""

# The client that behaves: one request a connection. Reports how many of them were answered, and the median time.
BEHAVES = """
import socket, statistics, time
times, failed = [], 0
for _ in range({count}):
    began = time.perf_counter()
    try:
        with socket.create_connection(("10.78.0.1", 8080), timeout=1, source_address=("10.78.0.2", 0)) as client:
            client.settimeout(1)
            client.sendall(b"?\\n")
            assert client.recv(8)
        times.append(time.perf_counter() - began)
    except (OSError, AssertionError):
        failed += 1
report(len(times), failed, statistics.median(times) if times else None)
"""


@dataclass
class Guard:
    """A running `layergate run --json`, or nothing; `lines` is what it has told by now."""

    lines: list[dict[str, object]] = field(default_factory=list)

    def limits(self, event: str | None = None) -> list[dict[str, object]]:
        """Return what was told of limits."""
        return [line for line in self.lines if line["kind"] == "limit" and event in (None, line["event"])]

    def until(self, event: str, seconds: float = 5.0) -> dict[str, object]:
        """Wait until *event* of a limit was told; return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.limits(event)
            if found:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"no '{event}' was told, but {self.lines[-5:]}")


@dataclass
class Scene:
    """The namespaces, and the control group of the server."""

    here: str
    there: str
    group: Cgroup
    directory: Path

    @contextmanager
    def serving(self, backlog: int = 128, script: str | None = None) -> Iterator[None]:
        """A server that runs."""
        with start_in(self.here, self.group, script or SERVE.format(backlog=backlog)) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield
            finally:
                process.kill()

    @contextmanager
    def guarded(self, policy: str, *options: str) -> Iterator[Guard]:
        """*policy* in force for the server's group."""
        file = self.directory / "guard.toml"
        file.write_text(policy, encoding="utf-8")
        words = (LAYERGATE, "run", "--policy", str(file), "--cgroup", self.group.path, "--json", *options)
        guard = Guard()
        process = subprocess.Popen(inside(self.here, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stderr is not None
        reader: Thread | None = None
        try:
            said = ""
            for line in process.stderr:
                said += line
                if "in force" in line:
                    break
            else:
                raise AssertionError(said)
            stdout = process.stdout
            reader = Thread(target=lambda: guard.lines.extend(map(json.loads, stdout)), daemon=True)
            reader.start()
            yield guard
        finally:
            process.terminate()
            process.wait(timeout=START_S_MAX)
            if reader is not None:
                reader.join()
            process.stdout.close()
            process.stderr.close()

    def run(self, script: str, seconds: float = 40.0) -> object:
        """Run *script* at the neighbour's to its end; return what it reported."""
        done = subprocess.run(
            inside(self.there, *says(script)), capture_output=True, text=True, timeout=seconds, check=False,
            env=WITH_ENDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    @contextmanager
    def attacked(self, script: str) -> Iterator[subprocess.Popen[str]]:
        """*script* runs at the neighbour's until the block is left."""
        with start_in(self.there, None, script) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "attacking\n"
                time.sleep(UNDER_WAY_S)
                yield process
            finally:
                process.kill()


def newest(name: str, key_bytes: int, value_bytes: int) -> list[tuple[bytes, bytes]]:
    """Return what the map *name* of the newest run holds."""
    found = list(loaded(name, key_bytes, value_bytes))
    try:
        return list(found[-1].items())
    finally:
        for one in found:
            os.close(one.fd)


@contextmanager
def scene(name: str, directory: Path) -> Iterator[Scene]:
    """Make the namespaces, with the attackers' addresses routed, and remove them in the end."""
    with namespace(name) as here, neighbour(here) as there, control_group(name) as group:
        ip("-n", here, "route", "add", "10.79.0.0/16", "via", "10.78.0.2")
        ip("-n", there, "route", "add", "local", "10.79.0.0/16", "dev", "lo")
        yield Scene(here, there, group, directory)
