"""What Linux can't enforce as it stands: no hook, a field that the hook can't know, a block that would do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from layergate.analysis.finding import Found, Severity, found
from layergate.engine.matching import groups, matches
from layergate.model import Action, Condition, DataType, Filter, MatchType, Value
from layergate.model.limits import Limit
from layergate.model.lines import TOKENS

_TEXTS: Final = (DataType.BYTE_BLOB, DataType.SID, *TOKENS)
_TEXT_MATCHES: Final = (MatchType.EQUAL, MatchType.NOT_EQUAL)


class HookRow(Protocol):
    """What analysis needs to know of a layer's hook."""

    @property
    def layer(self) -> str:
        """The layer, without family."""

    @property
    def hook(self) -> str:
        """The kernel's hook."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it can know."""

    @property
    def blocked(self) -> str:
        """What a block does, "" where it does nothing."""

    @property
    def unknown(self) -> str:
        """Why it can't know the others, "" where there is nothing to add."""

    @property
    def refuses_block(self) -> bool:
        """Whether a block should do something there, and can't yet."""

    @property
    def protocols(self) -> tuple[int, ...]:
        """The IP protocols that it shows."""

    def limit_problem(self, limit: Limit) -> tuple[str, str] | None:
        """Return why it can't judge *limit*, or not answer as it says, and a remedy."""


def unenforced(item: Filter, rows: Mapping[str, HookRow]) -> Iterator[Found]:
    """Yield why Linux can't enforce *item*; *rows* are the hooks by layer."""
    base = item.layer.base
    row = rows.get(base)
    if row is None:
        yield found(
            item, "no-hook", Severity.ERROR, f"a filter at {base}", f"no hook of the kernel stands for {base}",
            f"one of {', '.join(rows)}",
        )  # fmt: skip
        return
    if item.action is Action.BLOCK and not row.blocked:
        severity = Severity.ERROR if row.refuses_block else Severity.WARNING
        why = "can't hold back what passes there yet" if row.refuses_block else "shows what has happened"
        yield found(
            item, "block-without-effect", severity, f"action block at {base}",
            f"{row.hook} {why}: a block would do nothing",
            f"block at another layer ({', '.join(name for name, other in rows.items() if other.blocked)}), or permit",
        )  # fmt: skip
    wanted = [run for name, run in groups(item.conditions) if name == "IP_PROTOCOL"]
    if wanted and not any(_meets_protocol(row, run) for run in wanted):
        yield found(
            item, "protocol-not-shown", Severity.WARNING, f"a test of IP_PROTOCOL at {base}",
            f"{row.hook} shows TCP only: this filter never decides, and other protocols pass untouched",
            'protocol = "tcp", or leave it out',
        )  # fmt: skip
    problem = row.limit_problem(item.limit) if item.limit is not None else None
    if problem is not None:
        yield found(item, "limit-unsupported", Severity.ERROR, f"a limit on {item.limit}", *problem)
    for name, run in groups(item.conditions):
        if name not in row.fields:
            why = f": {row.unknown}" if row.unknown else ""
            yield found(
                item, "field-unknown", Severity.ERROR, f"a test of {name}", f"{row.hook} can't know {name}{why}",
                f"test one of {', '.join(row.fields)}, or another layer",
            )  # fmt: skip
        field = item.layer.field(name)
        for condition in run:
            is_empty = condition.value.type is DataType.EMPTY
            if field and field.type in _TEXTS and not is_empty and condition.match not in _TEXT_MATCHES:
                yield found(
                    item, "match-unsupported", Severity.ERROR, f"{condition.match.name} on {name}",
                    f"the kernel compares {name} as a whole", "EQUAL, NOT_EQUAL or empty",
                )  # fmt: skip


def _meets_protocol(row: HookRow, run: tuple[Condition, ...]) -> bool:
    return any(matches(Value(DataType.UINT8, protocol), one) for protocol in row.protocols for one in run)
