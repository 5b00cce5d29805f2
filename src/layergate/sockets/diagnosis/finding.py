"""A finding: what is wrong, with whom, how that shows, why it mostly is so, and what to do.

The ids are stable: scripts rely on them. docs/connections.md lists them all, and a test holds the list to the rules.

Worked example: `close-wait-leak`, error, nginx[812], "37 connections in CLOSE_WAIT for 41 s at least", …
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from layergate.sockets.lines import Unit, no_unit, process_data
from layergate.sockets.owners import Facts


class Severity(enum.StrEnum):
    """ERROR: it fails now. WARNING: it will, or it costs. INFO: worth knowing; no reason to say no."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


IDS: Final = (
    "close-wait-leak", "fin-wait-2-stuck", "last-ack-stuck", "syn-sent-stuck", "dead-peer", "idle-unprobed",
    "accept-queue-full", "accept-queue-overflow", "syn-flood", "syn-queue-full",
    "ports-exhausted", "time-wait-limit", "short-connections",
    "retransmission", "reordering", "rtt-jumped",
    "zero-window", "receive-buffer-full", "memory-pressure", "orphans", "udp-drops",
    "listener-blocked",
)  # fmt: skip
"""Every id that there is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """*subject*: what it is about (an address, a port, "host"); *figures*: the numbers of the evidence, by name."""

    id: str
    severity: Severity
    subject: str
    evidence: str
    cause: str
    remedy: str
    process: Facts | None = None
    figures: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.id in IDS

    def line(self, unit: Unit = no_unit) -> dict[str, object]:
        """Return it as a JSON line."""
        return {
            "kind": "finding",
            "id": self.id,
            "severity": str(self.severity),
            "subject": self.subject,
            "process": process_data(self.process, unit),
            "name": self.process.name if self.process else None,
            "evidence": self.evidence,
            "cause": self.cause,
            "remedy": self.remedy,
            "figures": dict(self.figures),
        }

    @property
    def who(self) -> str:
        """The process, as people read it; "" where there is none."""
        return f"{self.process.name}[{self.process.pid}]" if self.process else ""
