"""What a question is put to: a policy file of this host, or a dump of a Windows host; what words stand for there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from layergate.analysis import outcomes
from layergate.cli.questions import Vocabulary
from layergate.engine import NO_CALLOUTS, NOTHING_ASSUMED, Assumed, Callouts, Ordered, in_order
from layergate.live.names import SystemResolver
from layergate.model import DataType, Field, Indication, InputError, Layer, Policy, Problem, Value, layers_named
from layergate.model.catalogue import PREFIX as LAYER_PREFIX
from layergate.model.lines import PATHS, TOKENS
from layergate.policyfile import load_file as load_policy
from layergate.policyfile import value_from_text
from layergate.policyfile.conditions import EMPTY_WORD
from layergate.windows import Dump, Judge, load_file
from layergate.windows.questions import app_id, sid, token

DUMP_SUFFIX: Final = ".xml"


@dataclass(frozen=True, slots=True)
class Source:
    """A policy in order, what words stand for, and who answers for callouts.

    *is_offline*: it is another host's: tokens can't be judged, and callouts can't be asked. *notes* is what a reader
    of its answers has to know.
    """

    policy: Policy
    ordered: Ordered
    vocabulary: Vocabulary
    callouts: Callouts = field(default_factory=lambda: NO_CALLOUTS)
    is_offline: bool = False
    notes: tuple[Problem, ...] = ()

    def assumed(self, indication: Indication) -> Assumed:
        """Return what has to be assumed of *indication*: of a dump, that no token is let in where none is given."""
        return outcomes.undecidable(self.ordered, indication) if self.is_offline else NOTHING_ASSUMED


class Here:
    """The words of a policy file on this host."""

    def __init__(self) -> None:
        self._resolver: Final = SystemResolver()

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Return the catalogue's layers called *name*."""
        return layers_named(name)

    def value(self, field: Field, text: str) -> Value | None:
        """Return *text* as a value of *field*. Raises InputError."""
        return value_from_text(field, text, self._resolver)


class There:
    """The words of a dump: the layers that it speaks of, applications and tokens of its host."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._here = Here()

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Return the dump's layers called *name*; the catalogue's where it lists none: no filter stands there."""
        bare = name.removeprefix(LAYER_PREFIX)
        listed = tuple(layer for layer in self._dump.layers if bare in (layer.short, layer.base))
        return tuple(layer for layer in listed if layer.short == bare) or listed or layers_named(name)

    def value(self, field: Field, text: str) -> Value | None:
        """Return *text* as a value of *field*. Raises InputError."""
        if text == EMPTY_WORD:
            return None
        if field.name in PATHS:
            return Value(field.type, app_id(text, self._dump.policy))
        if field.type in TOKENS:
            return Value(field.type, token(text).data)
        return sid(text) if field.type is DataType.SID else self._here.value(field, text)


def of_policy(path: str) -> Source:
    """Return the policy file *path*. Raises PolicyError."""
    policy = load_policy(path, SystemResolver()).policy
    return Source(policy, in_order(policy), Here())


def of_dump(path: str, state_path: str | None = None) -> Source:
    """Return the dump *path*, with the state beside it that gives what it lacks. Raises InputError."""
    dump = load_dump(path, state_path)
    judge = Judge(dump)
    if not dump.policy.filters:
        raise InputError(
            "no filters", "netsh wfp show state or filters; net events need a state beside them", place=path
        )
    return Source(dump.policy, judge.ordered, There(dump), judge.callouts, is_offline=True, notes=dump.doubts)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy from whatever file it stands in. *doubts*: what is odd about the file without being wrong."""

    policy: Policy
    doubts: tuple[Problem, ...]
    is_windows: bool


def load_any(path: str, state_path: str | None = None, *, is_dump: bool = False) -> Loaded:
    """Return the policy in *path*: a dump of Windows where its name ends in .xml, else a policy file.

    Raises PolicyError, InputError.
    """
    if is_dump or path.lower().endswith(DUMP_SUFFIX):
        dump = load_dump(path, state_path)
        return Loaded(dump.policy, dump.doubts, is_windows=True)
    loaded = load_policy(path, SystemResolver())
    return Loaded(loaded.policy, loaded.warnings, is_windows=False)


def load_dump(path: str, state_path: str | None = None) -> Dump:
    """Return the dump *path*, with the state beside it. Raises InputError."""
    state = load_file(state_path) if state_path else None
    if state is not None and not state.policy.filters:
        raise InputError("no filters", "a state with filters: netsh wfp show state", place=state.place)
    return load_file(path, state)
