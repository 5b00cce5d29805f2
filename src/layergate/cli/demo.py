"""`layergate demo`: two hosts, a web server, curl and a policy; what the live kernel shows of their sessions.

The hosts are network namespaces with a veth pair between them; everything is made for the demo and removed at its end,
also after Ctrl-C. Each scene says in a line what it shows, and checks it: exit status 1 where the kernel showed
something else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from layergate.cli import output
from layergate.cli.telling import Signals, Teller, load
from layergate.kernel.cgroups import Cgroup, Hierarchy
from layergate.live.session import Scope, Session
from layergate.model import Action, Decided, NotSupportedError
from layergate.path import DATA, ESTABLISHMENT, NO_LISTENER, Call, Expected, Host, expected

NAME: Final = "demo"
HELP: Final = "show a real session between two hosts, layer by layer (root)"

EXAMPLES: Final = Path(__file__).parent / "examples"
CLIENT_ADDRESS, OTHER_ADDRESS, SERVER_ADDRESS = "10.9.0.1", "10.9.0.3", "10.9.0.2"
PORT, CLOSED_PORT = 8080, 8081
POLL_S: Final = 0.02
QUIET_S: Final = 0.25
SCENE_S: Final = 15.0
GIVE_UP: Final = "2"  # seconds after which curl gives up a connection that nobody answers
CONNECT_FAILED, TIMED_OUT = 7, 28  # curl's exit status


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no options: there is one demo."""
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace) -> int:
    """Show it."""
    del arguments
    _require()
    with Signals() as asked:
        try:
            with ExitStack() as leave:
                return Demo(leave, asked).play()
        except KeyboardInterrupt:
            sys.stdout.write("\nended; everything that was made for the demo is removed\n")
            raise


def _require() -> None:
    """Refuse where something is missing. Raises NotSupportedError."""
    if os.geteuid():
        raise NotSupportedError("root", "the demo makes network namespaces and loads BPF programs", "sudo make demo")
    for command, package in (("ip", "iproute2"), ("curl", "curl")):
        if shutil.which(command) is None:
            raise NotSupportedError(command, "it is not installed", f"apt-get install {package}")


class Demo:
    """The stage and the scenes."""

    def __init__(self, leave: ExitStack, asked: Signals) -> None:
        self._leave, self._asked = leave, asked
        self._failed = 0
        self._scene = 0
        self.teller = Teller(is_json=False)
        number = os.getpid()
        self.client, self.server = f"lg-demo-client-{number}", f"lg-demo-server-{number}"
        self._say("two hosts are made: network namespaces with a veth pair between them")
        for name in (self.client, self.server):
            self._ip("netns", "add", name)
            leave.callback(self._ip, "netns", "del", name, check=False)
            self._ip("-n", name, "link", "set", "lo", "up")
        self._ip(
            "link", "add", "veth0", "netns", self.client, "type", "veth", "peer", "name", "veth0", "netns", self.server
        )
        for name, address in (
            (self.client, CLIENT_ADDRESS),
            (self.client, OTHER_ADDRESS),
            (self.server, SERVER_ADDRESS),
        ):
            self._ip("-n", name, "address", "add", f"{address}/24", "dev", "veth0")
            self._ip("-n", name, "link", "set", "veth0", "up")
        self.hierarchy = Hierarchy()
        leave.callback(self.hierarchy.close)
        here = self.hierarchy.own()
        self.group: Cgroup = self.hierarchy.make(f"{here.rstrip('/')}/lg-demo-{number}")
        leave.callback(self.hierarchy.remove, self.group, keep_in=here)
        leave.callback(os.close, self.group.fd)
        scope = Scope(self.group.path, own_cgroup=True, namespaces=(self.client, self.server), everything=("veth0",))
        self._policy = EXAMPLES / "demo.toml"
        self.session = leave.enter_context(Session(self.hierarchy, scope, policy=load(str(self._policy))))
        self.session.attach()
        self._say(f"the policy is in force: {self._policy}")

    # --- scenes -----------------------------------------------------------------------------------------------------

    def play(self) -> int:
        """Play all scenes; return the exit status."""
        web = self._leave.enter_context(tempfile.TemporaryDirectory(prefix="lg-demo-"))
        Path(web, "index.html").write_text("hello from the other side\n", encoding="utf-8")
        url = f"http://{SERVER_ADDRESS}:{PORT}/"

        self._announce("an establishment, data and the close: curl gets a page; every layer of both hosts, in order")
        started = self._start(
            self.server, sys.executable, "-m", "http.server", str(PORT), "--bind", SERVER_ADDRESS, cwd=web
        )
        told = self._follow(lambda told: any(_is(one, "ALE_AUTH_LISTEN") for one in told))
        told += self._play(self.client, "curl", "--silent", "--show-error", url, want=0)
        self._compare("establishment", told, expected(ESTABLISHMENT), _is_opening)
        self._compare("data", told, expected(DATA), _from_first_data(told))
        self._check("both ends closed", sum(_is(one, "ALE_ENDPOINT_CLOSURE") for one in told) == len(Host))

        self._announce("a program that the policy blocks at ALE_AUTH_CONNECT: it fails at once, and no packet leaves")
        code = f"import socket; socket.create_connection(({SERVER_ADDRESS!r}, {PORT}))"
        told = self._play(self.client, sys.executable, "-c", code, want=1)
        self._check_blocked(told, "ALE_AUTH_CONNECT", "no other program connects")
        self._check("no packet left", not any("TRANSPORT" in one.indication.layer.base for one in told))

        self._announce(
            f"a client that the server's host blocks at ALE_AUTH_RECV_ACCEPT: {OTHER_ADDRESS}'s SYN is dropped"
        )
        command = ("curl", "--silent", "--interface", OTHER_ADDRESS, "--connect-timeout", GIVE_UP, url)
        told = self._play(self.client, *command, want=TIMED_OUT)
        self._check_blocked(told, "ALE_AUTH_RECV_ACCEPT", "10.9.0.3 is not served")

        closed = ("curl", "--silent", "--connect-timeout", GIVE_UP, f"http://{SERVER_ADDRESS}:{CLOSED_PORT}/")
        self._announce("a SYN to a port where nobody listens: INBOUND_TRANSPORT_DISCARD, and a RST goes back")
        told = self._play(self.client, *closed, want=CONNECT_FAILED)
        self._compare(
            "no listener", told, expected(NO_LISTENER, listens=False), lambda one: one.indication.host == Host.SERVER
        )

        self._announce(
            "the same in stealth mode: the policy is changed under way, the DISCARD layer blocks, no RST leaves"
        )
        self.session.reload(load(str(EXAMPLES / "demo-stealth.toml")))
        told = self._play(self.client, *closed, want=TIMED_OUT)
        self._check_blocked(told, "INBOUND_TRANSPORT_DISCARD", "stealth")
        self._check("no RST left", not any(one.indication.event == "RST" for one in told))

        started.terminate()
        started.wait()
        self._follow(lambda _: True, quiet=True)
        lost = self.session.programs.statistics()["lost"]
        self._say(
            f"{self.teller.counts['indications']} indications, {lost} lost; "
            "the namespaces, the control group and the programs are removed now"
        )
        if self._failed:
            self._say(output.paint(f"{self._failed} checks failed: this kernel showed something else", "red"))
        return 1 if self._failed else 0

    # --- stage ------------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def _announce(self, text: str) -> None:
        self._scene += 1
        self._say("\n" + output.paint(f"{self._scene}. {text}", "bold"))

    def _ip(self, *words: str, check: bool = True) -> None:
        # In a session of its own: Ctrl-C is ours to hear, and cuts no removal short.
        command = ("ip", *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
        if check and done.returncode:
            raise NotSupportedError(
                f"ip {' '.join(words)}", done.stderr.strip(), "network namespaces and veth are needed"
            )

    def _start(self, host: str, *command: str, cwd: str | None = None) -> subprocess.Popen[bytes]:
        self._say(output.paint(f"   {host}$ {' '.join(map(_quoted, command))}", "cyan"))
        process = subprocess.Popen(
            ("ip", "netns", "exec", host, *command),
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: self.hierarchy.join(self.group),  # noqa: PLW1509 (no threads here)
        )
        self._leave.callback(_end, process)
        return process

    def _play(self, host: str, *command: str, want: int) -> list[Decided]:
        process = self._start(host, *command)
        told = self._follow(lambda _: process.poll() is not None, quiet=True)
        self._check(f"the program ended with status {process.returncode}", process.returncode == want)
        return told

    def _follow(self, done: Callable[[list[Decided]], bool], *, quiet: bool = False) -> list[Decided]:
        """Show what happens until *done*, and with *quiet* until nothing more does."""
        seen: list[Decided] = []
        end = time.monotonic() + SCENE_S
        still_since = time.monotonic()
        while time.monotonic() < end:
            self._asked.check()
            for told in self.session.serve(POLL_S):
                self.teller.tell(told)
                still_since = time.monotonic()
                if isinstance(told, Decided):
                    seen.append(told)
            sys.stdout.flush()
            if done(seen) and time.monotonic() - still_since >= (QUIET_S if quiet else 0):
                break
        return seen

    def _check(self, what: str, holds: bool) -> None:  # noqa: FBT001 (a check is said and then held)
        self._failed += not holds
        mark = output.paint("   as it should be:", "green") if holds else output.paint("   NOT SO:", "red")
        self._say(f"{mark} {what}")

    def _check_blocked(self, told: Iterable[Decided], layer: str, name: str) -> None:
        blocks = [one for one in told if one.action is Action.BLOCK]
        holds = bool(blocks) and all(_is(one, layer) and one.filter and one.filter.name == name for one in blocks)
        self._check(f"blocked at {layer} by '{name}', by nothing else", holds)

    def _compare(
        self, what: str, told: list[Decided], steps: list[Expected], counts: Callable[[Decided], bool]
    ) -> None:
        shown = [_step(one) for one in told if counts(one)][: len(steps)]
        wanted = [(step.host, step.event, step.layer) for step in steps]
        right = sum(one == other for one, other in zip(shown, wanted, strict=False))
        self._check(f"{what}: {right} of {len(wanted)} steps as documented, in order", shown == wanted)


def _step(told: Decided) -> tuple[str | None, str, str]:
    return told.indication.host, told.indication.event, told.indication.layer.base


def _is(told: Decided, layer: str) -> bool:
    return told.indication.layer.base == layer


def _is_opening(told: Decided) -> bool:
    return told.indication.event in (Call.BIND, Call.LISTEN, Call.CONNECT, Call.ESTABLISHED, "SYN", "SYN-ACK", "ACK")


def _from_first_data(told: list[Decided]) -> Callable[[Decided], bool]:
    start = next((place for place, one in enumerate(told) if _is(one, "STREAM")), len(told))
    after = {id(one) for one in told[start:]}
    return lambda one: id(one) in after


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
