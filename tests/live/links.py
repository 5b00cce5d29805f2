"""Links of our own between two namespaces (relay.py): how long packets take, and whether they arrive, a test says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.live.lab import namespace

RELAY = Path(__file__).with_name("relay.py")
HERE, THERE = "10.79.0.1", "10.79.0.2"


@dataclass
class Link:
    """A link from the namespace *here* (10.79.0.1) to *there* (10.79.0.2)."""

    here: str
    there: str
    relay: subprocess.Popen[str]

    def tell(self, command: str) -> None:
        """Change it: `delay 50`, `lose 100`, `reorder 10`."""
        assert self.relay.stdin is not None
        assert self.relay.stdout is not None
        self.relay.stdin.write(f"{command}\n")
        self.relay.stdin.flush()
        assert self.relay.stdout.readline() == "done\n"


@contextmanager
def link(name: str, delay_ms: float) -> Iterator[Link]:
    """Two namespaces with a link between them, all removed in the end."""
    with namespace(f"{name}-a") as here, namespace(f"{name}-b") as there:
        relay = subprocess.Popen(
            [sys.executable, str(RELAY), here, there, str(delay_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert relay.stdout is not None
            assert relay.stdout.readline() == "ready\n"
            yield Link(here, there, relay)
        finally:
            relay.communicate("", timeout=10)
