"""What the store keeps of an object: since when, until when, how long it may live, and what it refers to.

An object is frozen. Its record says which version added it and which one removed it; a view is all records that hold in
one version, and never changes. An object may refer only to what lives at least as long as itself:

    dynamic     dies with the session that added it
    static      dies with the engine
    persistent  until somebody deletes it; boot-time filters too
    built-in    for ever

Source: Microsoft, "Object Management".
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from layergate.model import Callout, Filter, FilterFlag, FwpError, Provider, ProviderContext, Sublayer

Object = Provider | ProviderContext | Sublayer | Callout | Filter


class Kind(enum.StrEnum):
    """The kinds of objects, in an order in which nothing refers to a kind after its own."""

    PROVIDER = "provider"
    CONTEXT = "provider context"
    SUBLAYER = "sublayer"
    CALLOUT = "callout"
    FILTER = "filter"


KIND_OF: Final[Mapping[type, Kind]] = MappingProxyType(
    {
        Provider: Kind.PROVIDER,
        ProviderContext: Kind.CONTEXT,
        Sublayer: Kind.SUBLAYER,
        Callout: Kind.CALLOUT,
        Filter: Kind.FILTER,
    }
)
NOT_FOUND: Final[Mapping[Kind, FwpError]] = MappingProxyType(
    {
        Kind.PROVIDER: FwpError.PROVIDER_NOT_FOUND,
        Kind.CONTEXT: FwpError.PROVIDER_CONTEXT_NOT_FOUND,
        Kind.SUBLAYER: FwpError.SUBLAYER_NOT_FOUND,
        Kind.CALLOUT: FwpError.CALLOUT_NOT_FOUND,
        Kind.FILTER: FwpError.FILTER_NOT_FOUND,
    }
)


class Lifetime(enum.IntEnum):
    """How long an object lives, shortest first."""

    DYNAMIC = 0
    STATIC = 1
    PERSISTENT = 2
    BUILT_IN = 3

    @property
    def word(self) -> str:
        """Return the lifetime for a message."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Record:
    """An object with the version that *added* it, and the one that *removed* it (None: it is there).

    *session* is the dynamic session that it dies with, None for none.
    """

    object: Object
    lifetime: Lifetime
    added: int
    session: int | None = None
    removed: int | None = None

    @property
    def kind(self) -> Kind:
        """Return the object's kind."""
        return KIND_OF[type(self.object)]

    def holds_in(self, version: int) -> bool:
        """Whether the object is there in *version*."""
        return self.added <= version and (self.removed is None or version < self.removed)


def references(item: Object) -> Iterator[tuple[Kind, str]]:
    """Yield (kind, key) of all that *item* refers to."""
    if not isinstance(item, Provider) and item.provider:
        yield Kind.PROVIDER, item.provider
    if isinstance(item, Filter):
        yield Kind.SUBLAYER, item.sublayer
        if item.callout:
            yield Kind.CALLOUT, item.callout
        if item.context:
            yield Kind.CONTEXT, item.context


def is_persistent(item: Object) -> bool:
    """Whether *item* asks to outlive the engine."""
    return item.persistent or (isinstance(item, Filter) and FilterFlag.BOOTTIME in item.flags)


def named(item: Object) -> str:
    """Return what to call *item* in a message."""
    return f"{KIND_OF[type(item)]} '{item.name or item.key}'"


@dataclass(frozen=True, slots=True)
class View:
    """All that holds in one version, by kind and key; *layer_versions* says when a layer last changed."""

    version: int
    records: Mapping[Kind, Mapping[str, Record]]
    layer_versions: Mapping[int, int]

    def get(self, kind: Kind, key: str) -> Record | None:
        """Return the record of the object *key*, None where there is none."""
        return self.records[kind].get(key)

    def all(self, kind: Kind) -> Iterator[Record]:
        """Yield the records of *kind*, in the order in which they were added."""
        return iter(self.records[kind].values())

    def referring_to(self, kind: Kind, key: str) -> Iterator[Record]:
        """Yield what refers to the object *key*. Cost: O(objects)."""
        for records in self.records.values():
            for record in records.values():
                if (kind, key) in references(record.object):
                    yield record
