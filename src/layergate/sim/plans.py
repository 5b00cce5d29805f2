"""What a scenario is, once it is read: hosts, links and programs, and statements one after another. Values, no more.

`script` makes them of a text, `running` plays them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from layergate.sim.link import LinkConfig
from layergate.tcp import Flag

ALL: Final = -1
"""Of `receive`: everything up to the end."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a program does. *verb* and its arguments; *outcome*: the error that it is to end by, None for none."""

    line: int
    text: str
    program: str
    verb: str
    name: str
    port: int = 0
    local_port: int = 0
    host: str = ""
    byte_count: int = 0
    listener: str = ""
    backlog: int = 128
    within_s: float | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Forge:
    """A segment that no socket of this world sends, put on the wire at *host*."""

    line: int
    host: str
    flags: Flag
    source: str
    source_port: int
    destination: str
    destination_port: int
    sequence: int = 0
    acknowledgment: int = 0


@dataclass(frozen=True, slots=True)
class Happens:
    """What happens to the world: *verb* wait, cut, join, crash, expect or note; and a policy that is changed."""

    line: int
    verb: str
    names: tuple[str, ...] = ()
    seconds: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Statements that are repeated, *count* times, *every_s* apart; or run *beside* the rest; or are *measured*."""

    line: int
    repeats: bool
    beside: bool
    count: int
    every_s: float
    measured: str
    body: tuple[tuple[int, str], ...]
    script: Script


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A host that a scenario has."""

    name: str
    addresses: tuple[str, ...]
    forwards: bool = False
    forgets_s: float | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """A link that a scenario has."""

    ends: tuple[str, str]
    config: LinkConfig


@dataclass(frozen=True, slots=True)
class ProgramPlan:
    """A program that a scenario has."""

    name: str
    host: str
    app: str
    user: int = 0
    unit: str | None = None


Statement = Call | Forge | Happens | Block


@dataclass(slots=True)
class Script:
    """A scenario, read. *policies* and *options* (of TCP) by host."""

    file: str
    title: str = ""
    about: str = ""
    hosts: dict[str, HostPlan] = field(default_factory=dict)
    links: list[LinkPlan] = field(default_factory=list)
    programs: dict[str, ProgramPlan] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
