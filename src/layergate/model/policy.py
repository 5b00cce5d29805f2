"""What a policy holds: providers, sublayers, callouts, filters and their conditions. Frozen.

Every object has a key: a GUID, the platform's name for it, or, in a policy file, its name. References are keys: a
filter names its sublayer, its callout, its provider so. Providers and contexts are labels: they say who installed a
filter and for which rule, and change no verdict.
Source: Microsoft, fwpmtypes.h.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass, field

from layergate.model.catalogue import Layer
from layergate.model.limits import Limit, Response
from layergate.model.values import EMPTY, MatchType, Value


class Action(enum.StrEnum):
    """What a filter says, what a callout answers, what arbitration decided (permit or block)."""

    PERMIT = "permit"
    BLOCK = "block"
    CALLOUT_TERMINATING = "callout-terminating"
    CALLOUT_INSPECTION = "callout-inspection"
    CALLOUT_UNKNOWN = "callout-unknown"
    CONTINUE = "continue"

    @property
    def is_callout(self) -> bool:
        """Whether the filter asks a callout."""
        return self in _CALLOUTS

    @property
    def number(self) -> int:
        """Return FWP_ACTION_TYPE's number: its flags say terminating, not terminating, callout."""
        return _ACTION_NUMBERS[self]


_CALLOUTS = frozenset((Action.CALLOUT_TERMINATING, Action.CALLOUT_INSPECTION, Action.CALLOUT_UNKNOWN))
_ACTION_NUMBERS = {
    Action.BLOCK: 0x1001,
    Action.PERMIT: 0x1002,
    Action.CALLOUT_TERMINATING: 0x5003,
    Action.CALLOUT_INSPECTION: 0x6004,
    Action.CALLOUT_UNKNOWN: 0x4005,
    Action.CONTINUE: 0x2006,
}


class FilterFlag(enum.IntFlag):
    """FWPM_FILTER_FLAG_*. DISABLED and INDEXED are set by the engine, never asked for."""

    NONE = 0
    PERSISTENT = 0x1
    BOOTTIME = 0x2
    HAS_PROVIDER_CONTEXT = 0x4
    CLEAR_ACTION_RIGHT = 0x8
    PERMIT_IF_CALLOUT_UNREGISTERED = 0x10
    DISABLED = 0x20
    INDEXED = 0x40
    HAS_SECURITY_REALM_PROVIDER_CONTEXT = 0x80
    SYSTEMOS_ONLY = 0x100
    GAMEOS_ONLY = 0x200
    SILENT_MODE = 0x400
    IPSEC_NO_ACQUIRE_INITIATE = 0x800


class CalloutFlag(enum.IntFlag):
    """FWPM_CALLOUT_FLAG_*. REGISTERED is the engine's word that somebody answers."""

    NONE = 0
    CONDITIONAL_ON_FLOW = 0x1
    ALLOW_OFFLOAD = 0x2
    ENABLE_COMMIT_ADD_NOTIFY = 0x4
    ALLOW_MID_STREAM_INSPECTION = 0x8
    ALLOW_RECLASSIFY = 0x10
    RESERVED1 = 0x20
    ALLOW_RSC = 0x40
    ALLOW_L2_BATCH_CLASSIFY = 0x80
    ALLOW_USO = 0x100
    ALLOW_URO = 0x200
    PERSISTENT = 0x10000
    USES_PROVIDER_CONTEXT = 0x20000
    REGISTERED = 0x40000


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field. Conditions on the same field that stand together are alternatives (OR)."""

    field: str
    match: MatchType
    value: Value


@dataclass(frozen=True, slots=True)
class Provider:
    """Who installs objects. *service* is the Windows service behind it, "" for none."""

    key: str
    name: str
    description: str = ""
    service: str = ""
    persistent: bool = False


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider attached to a filter. *text* is what a filter origin says: the rule that the filter is for."""

    key: str
    name: str
    type: str = ""
    text: str = ""
    provider: str = ""
    id: int = 0
    persistent: bool = False
    description: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Sublayer:
    """A group of filters that gives one result; the heavier sublayer speaks first. *weight* is a UINT16.

    *key* is what filters refer to; "" makes it the name.
    """

    name: str
    weight: int
    description: str = ""
    key: str = ""
    provider: str = ""
    persistent: bool = False

    def __post_init__(self) -> None:
        """Give it a key."""
        if not self.key:
            object.__setattr__(self, "key", self.name)


@dataclass(frozen=True, slots=True)
class Callout:
    """A function of a driver, at one layer, that filters can ask. *id* is its run-time id, 0 before it is added."""

    key: str
    name: str
    layer: Layer
    flags: CalloutFlag = CalloutFlag.NONE
    provider: str = ""
    id: int = 0
    description: str = field(default="", compare=False)

    @property
    def persistent(self) -> bool:
        """Whether it outlives the engine."""
        return CalloutFlag.PERSISTENT in self.flags


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter at one layer.

    *sublayer*, *callout*, *provider* and *context* are keys ("" for none; *callout* only with a callout action).
    *weight* is EMPTY (automatic), UINT8 0 to 15 (automatic within that range) or UINT64 (as is); *recorded_weight* is
    the effective weight that a dump records, None where it follows from *weight*. *id* is the run-time id, never 0
    once added. *error* is the errno that a blocked call returns (0: EPERM). *marks* are flags that the platform prints
    and for which no bit is known. *limit*: it matches only what is past it (`limits`), None for no limit. *line* is
    where a file defines it, 0 if nowhere; *description* is for people. Neither of the two is content: filters that
    differ in nothing else are equal.
    """

    id: int
    name: str
    layer: Layer
    sublayer: str
    action: Action
    conditions: tuple[Condition, ...] = ()
    weight: Value = EMPTY
    flags: FilterFlag = FilterFlag.NONE
    error: int = 0
    line: int = field(default=0, compare=False)
    description: str = field(default="", compare=False)
    key: str = ""
    callout: str = ""
    provider: str = ""
    context: str = ""
    recorded_weight: int | None = None
    marks: tuple[str, ...] = ()
    limit: Limit | None = None

    @property
    def refusal(self) -> int:
        """The errno of a call that it blocks, 0 for the default; ECONNREFUSED where its limit refuses."""
        refuses = self.limit is not None and self.limit.response is Response.REFUSE
        return self.error or (errno.ECONNREFUSED if refuses else 0)

    @property
    def hard(self) -> bool:
        """Whether only a veto changes what this filter says: a block always, a permit that clears the right.

        What a callout leaves of the right only its answer tells: False.
        """
        if self.action.is_callout:
            return False
        return self.action is Action.BLOCK or FilterFlag.CLEAR_ACTION_RIGHT in self.flags

    @property
    def persistent(self) -> bool:
        """Whether it outlives the engine."""
        return FilterFlag.PERSISTENT in self.flags


@dataclass(frozen=True, slots=True)
class Policy:
    """What is in force together.

    *version* counts from 1; *layer_versions* says, by layer id, in which version the layer's filters last changed
    (absent: never, version 1). *last_id* is the highest filter id ever used in this run: an id is never used twice.
    """

    sublayers: tuple[Sublayer, ...] = ()
    filters: tuple[Filter, ...] = ()
    version: int = 1
    layer_versions: dict[int, int] = field(default_factory=dict, compare=False)
    last_id: int = field(default=0, compare=False)
    callouts: tuple[Callout, ...] = ()
    providers: tuple[Provider, ...] = ()
    contexts: tuple[ProviderContext, ...] = ()
