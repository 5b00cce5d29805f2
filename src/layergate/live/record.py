"""What a running `layergate run` tells of itself to other commands: whose policy is in force, and its filters' names.

A file a process, in a directory of ours: written anew when the policy changes, whole or not at all; removed at the end.
One that was left behind, by a process that was killed, is told from a living one's by when the process began. Example:

    /run/layergate/runs/812.json
    {"pid": 812, "began": 40120, "policy": "/etc/layergate/web.toml", "cgroup": "/", "version": 2,
     "owners": [71, 72], "filters": {"1": "80 is served", "2": "80 is served"}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from layergate.model import Policy

PLACE: Final = Path("/run/layergate/runs")
_BEGAN_AT: Final = 19  # of /proc/PID/stat behind the command's name: in ticks since the machine's start


@dataclass(frozen=True, slots=True)
class Record:
    """A run. *policy*: the file's path, whole; *version*: how often it changed; *filters*: names by run-time id.

    *owners*: the kernel's numbers of its maps of owners. Ids are a run's own: one found in a map is its run's.
    """

    pid: int
    began: int
    policy: str
    cgroup: str
    owners: tuple[int, ...] = ()
    version: int = 1
    filters: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def own(cls, policy_file: str, cgroup: str, owners: tuple[int, ...] = ()) -> Self:
        """Return this process' record."""
        return cls(os.getpid(), began(os.getpid()) or 0, str(Path(policy_file).absolute()), cgroup, owners)

    def of(self, policy: Policy) -> Self:
        """Return the record with what *policy* has."""
        return replace(self, version=policy.version, filters={item.id: item.name for item in policy.filters})


def began(pid: int) -> int | None:
    """Return when the process *pid* began, None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[_BEGAN_AT])


def write(record: Record, place: Path = PLACE) -> None:
    """Write *record*, in place of what was. Raises OSError."""
    place.mkdir(parents=True, exist_ok=True, mode=0o755)
    new = place / f".{record.pid}.new"
    new.write_text(json.dumps(asdict(record)), encoding="utf-8")
    new.replace(place / f"{record.pid}.json")


def remove(pid: int, place: Path = PLACE) -> None:
    """Remove the record of *pid*, where there is one."""
    with suppress(FileNotFoundError):
        (place / f"{pid}.json").unlink()


@contextmanager
def recorded(record: Record, place: Path = PLACE) -> Iterator[None]:
    """Have *record* there for the time of a `with` block."""
    write(record, place)
    for path in place.glob("[0-9]*.json"):
        if path.stem.isdigit() and began(int(path.stem)) is None:
            path.unlink(missing_ok=True)
    try:
        yield
    finally:
        remove(record.pid, place)


def read_all(place: Path = PLACE) -> list[Record]:
    """Return the records of the processes that run. What can't be read is passed over: it is another's business."""
    found = []
    for path in sorted(place.glob("[0-9]*.json")) if place.is_dir() else ():
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
            data = json.loads(path.read_text(encoding="utf-8"))
            filters = {int(number): str(name) for number, name in data.pop("filters").items()}
            owners = tuple(int(number) for number in data.pop("owners"))
            record = Record(**data, owners=owners, filters=filters)
            if began(record.pid) == record.began:
                found.append(record)
    return found
