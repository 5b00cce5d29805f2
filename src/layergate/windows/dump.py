"""A dump: what one file of `netsh wfp` says, as a policy and what lies around it.

`load_file` and `read` give it. What a file itself lacks is taken from the state beside it, where there is one:
filters.xml has no sublayers, layers or callouts, netevents.xml no filters. A sublayer that neither of them lists
keeps its filters: the weights of the platform's own are known, any other is taken to be heard before them, and that
is a doubt.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from layergate.model import Filter, InputError, Layer, Policy, Problem, Sublayer
from layergate.model.catalogue_data import BUILTIN_SUBLAYERS
from layergate.windows.events import Events, NetEvent
from layergate.windows.filters import Filters
from layergate.windows.layers import Layers
from layergate.windows.names import SUBLAYER_PREFIX
from layergate.windows.notes import Notes, shown
from layergate.windows.objects import Connection, ListedSublayer, Objects, Session
from layergate.windows.reading import LIMITS, MISCOUNTED, UNKNOWN, Limits, Node, Record, records
from layergate.windows.values import Values

CHUNK_BYTES: Final = 64 << 10
UNKNOWN_SUBLAYER_WEIGHT: Final = 0xFFFF
"""A sublayer of unknown weight is another product's: nearly all of those are heavier than the platform's own."""


class Kind(enum.StrEnum):
    """Which command wrote the file."""

    STATE = "state"
    FILTERS = "filters"
    EVENTS = "net events"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Dump:
    """What a file of `netsh wfp` says.

    *time* is as printed, "" where the file has none. *policy* has the filters in the file's order; *layers* are those
    that it lists, else the state's, else the catalogue's. *not_understood* gives the reason by filter id: those
    filters hold a condition that nothing meets. *assumed_sublayers* are the keys of sublayers whose weight is not
    known. *state* names the file that gave what this one lacks. *unknown* is what nobody has a name for, *doubts*
    what is read in one of several ways.
    """

    place: str
    kind: Kind
    time: str = ""
    policy: Policy = field(default_factory=Policy)
    layers: tuple[Layer, ...] = ()
    sessions: tuple[Session, ...] = ()
    connections: tuple[Connection, ...] = ()
    events: tuple[NetEvent, ...] = ()
    not_understood: Mapping[int, str] = field(default_factory=dict)
    assumed_sublayers: frozenset[str] = frozenset()
    state: str = ""
    unknown: tuple[Problem, ...] = ()
    doubts: tuple[Problem, ...] = ()

    def layer_by_id(self, number: int) -> Layer | None:
        """Return the layer of run-time id *number*, None where there is none."""
        return next((layer for layer in self.layers if layer.id == number), None)


def load_file(path: str, state: Dump | None = None, limits: Limits = LIMITS) -> Dump:
    """Read the file *path*; *state* gives what it lacks. Raises InputError."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - any file name, also one that pathlib would tidy
            return read(iter(lambda: file.read(CHUNK_BYTES), b""), path, state, limits)
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", "a file of netsh wfp", place=path) from None


def read(chunks: Iterable[bytes], place: str, state: Dump | None = None, limits: Limits = LIMITS) -> Dump:
    """Read a file given as *chunks*; *place* is its name.

    Raises InputError. Cost: O(bytes) time; memory for the objects and one item.
    """
    return _Reader(place, state).read(records(chunks, place, limits))


class _Reader:
    """What has been read of one file so far."""

    def __init__(self, place: str, state: Dump | None) -> None:
        self._place, self._state = place, state
        self._notes = Notes(place)
        values = Values(self._notes)
        self._layers = Layers(self._notes, values, state.layers if state else ())
        self._objects = Objects(self._notes, values, self._layers)
        self._filters = Filters(self._notes, values, self._layers)
        self._events = Events(self._notes, values)
        self._time = ""
        self._change_count = 0
        self._paths: set[str] = set()
        self._root = ""

    def read(self, items: Iterator[Record]) -> Dump:
        """Take all *items*; return the dump."""
        objects = self._objects
        takers: dict[str, Callable[[Node], None]] = {
            "timeStamp": self._take_time,
            "sessions/item": objects.add_session,
            "layers/item/layer": self._layers.add,
            "layers/item/callouts/item": objects.add_callout,
            "layers/item/filters/item": self._filters.add,
            "filters/item": self._filters.add,
            "providers/item": objects.add_provider,
            "providerContexts/item": objects.add_context,
            "subLayers/item": objects.add_sublayer,
            "aleConnectedEndpoints/item": objects.add_connection,
            "netEvents/item": self._events.add,
            "events/netEvent": self._events.add,
            "events/filterChange": self._take_change,
            UNKNOWN: self._take_unknown,
            MISCOUNTED: self._take_miscounted,
        }
        for record in items:
            taker = takers.get(record.path)
            self._paths.add(record.path)
            if taker is not None:
                taker(record.node)
            else:
                self._root = record.path.rstrip("/")
        return self._dump()

    def _take_time(self, node: Node) -> None:
        self._time = node.text

    def _take_change(self, _: Node) -> None:
        self._change_count += 1

    def _take_unknown(self, node: Node) -> None:
        inside = f" in {node.text}" if node.text else ""
        self._notes.unknown(node.line, "", f"the element <{node.tag}>{inside}", "passed over, with all that it holds")

    def _take_miscounted(self, node: Node) -> None:
        found = f"<{node.tag}> should have {shown(node.count or '')} items and has {node.text}"
        self._notes.doubt(node.line, "", found, "what is there is read; the file may be damaged")

    @property
    def _kind(self) -> Kind:
        has_events = any(path.startswith(("netEvents/", "events/")) for path in self._paths)
        if self._root == "wfpstate":
            return Kind.STATE
        if "filters/item" in self._paths:
            return Kind.FILTERS
        if self._root == "netEvents" or (has_events and "netEvents/item" in self._paths):
            return Kind.EVENTS
        return Kind.RECORDING if has_events or "layers/item/layer" in self._paths else Kind.FILTERS

    def _dump(self) -> Dump:
        state = self._state
        lacking = state.policy if state else Policy()
        objects = self._objects
        filters = tuple(self._filters.by_id.values())
        uses_state = state is not None and not filters
        not_understood = dict(state.not_understood) if state and uses_state else self._filters.not_understood
        if uses_state:
            filters = lacking.filters
        sublayers, assumed = self._sublayers(filters, has_lines=not uses_state)
        if self._change_count:
            found = f"{self._change_count} changes of filters while the recording ran"
            self._notes.doubt(None, "", found, "verdicts are by the filters of its beginning")
        self._compare_with_state(filters)
        return Dump(
            place=self._place,
            kind=self._kind,
            time=self._time,
            policy=Policy(
                sublayers=sublayers,
                filters=filters,
                last_id=max((item.id for item in filters), default=0),
                callouts=tuple(objects.callouts.values()) or lacking.callouts,
                providers=tuple(objects.providers.values()) or lacking.providers,
                contexts=tuple(objects.contexts.values()) or lacking.contexts,
            ),
            layers=self._layers.all,
            sessions=tuple(objects.sessions),
            connections=tuple(objects.connections),
            events=tuple(self._events.all),
            not_understood=not_understood,
            assumed_sublayers=assumed,
            state=state.place if state else "",
            unknown=self._notes.unknowns,
            doubts=self._notes.doubts,
        )

    def _given(self) -> dict[str, Sublayer]:
        """Return the state's sublayers whose weight the state knows."""
        state = self._state
        return (
            {item.key: item for item in state.policy.sublayers if item.key not in state.assumed_sublayers}
            if state
            else {}
        )

    def _sublayers(
        self, filters: tuple[Filter, ...], *, has_lines: bool
    ) -> tuple[tuple[Sublayer, ...], frozenset[str]]:
        """Return the sublayers, each under a name of its own, and the keys of those whose weight is assumed."""
        listed = {item.key: item for item in self._objects.sublayers.values()}
        sublayers = dict(_named(listed.values())) if listed else self._given()
        assumed = {}
        for item in filters:
            key = item.sublayer
            if key in sublayers or key in assumed:
                continue
            if key in BUILTIN_SUBLAYERS:
                weight, description = BUILTIN_SUBLAYERS[key]
                sublayers[key] = Sublayer(key, weight, description)
                continue
            assumed[key] = Sublayer(key, UNKNOWN_SUBLAYER_WEIGHT, key=key)
            taken = (
                f"taken for {UNKNOWN_SUBLAYER_WEIGHT}: heard before the platform's own; a state beside it would tell"
            )
            self._notes.doubt(item.line if has_lines else None, "", f"the weight of sublayer {key} is unknown", taken)
        return (*assumed.values(), *sublayers.values()), frozenset(assumed)

    def _compare_with_state(self, filters: tuple[Filter, ...]) -> None:
        """Doubt a state that has few of the file's *filters*: it is of another machine, or of another time."""
        state = self._state
        if state is None or not filters or not state.policy.filters:
            return
        known = {item.key for item in state.policy.filters}
        count = sum(item.key in known for item in filters)
        if count * 2 < len(filters):
            found = f"only {count} of {len(filters)} filters are in {state.place}"
            self._notes.doubt(None, "", found, "its sublayers are used, but it may be of another machine")


def _named(items: Iterable[ListedSublayer]) -> Iterator[tuple[str, Sublayer]]:
    """Yield (key, sublayer), each with a name of its own.

    The platform's own are called by their key; others by their display name, with the key behind it where two share
    one.
    """
    items = list(items)
    counts = Counter(item.name for item in items)
    taken: set[str] = set()
    for item in items:
        is_own = item.key.startswith(SUBLAYER_PREFIX)
        name = item.key if is_own or not item.name else item.name
        if name != item.key and (counts[item.name] > 1 or name.startswith((SUBLAYER_PREFIX, "{"))):
            name = f"{name} {item.key}"
        while name in taken:
            name = f"{name} {item.key}"
        taken.add(name)
        description = item.description or (item.name if is_own else "")
        yield item.key, Sublayer(name, item.weight, description, item.key, item.provider, item.persistent)
