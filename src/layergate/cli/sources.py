"""What a question is put to: a policy file of this host, with what its words stand for here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from layergate.cli.questions import Vocabulary
from layergate.engine import NO_CALLOUTS, NOTHING_ASSUMED, Assumed, Callouts, Ordered, in_order
from layergate.live.names import SystemResolver
from layergate.model import Field, Indication, Layer, Policy, Value, layers_named
from layergate.policyfile import load_file, value_from_text


@dataclass(frozen=True, slots=True)
class Source:
    """A policy in order, what words stand for, and who answers for callouts.

    *is_offline*: it is another host's: tokens can't be judged, and callouts can't be asked.
    """

    policy: Policy
    ordered: Ordered
    vocabulary: Vocabulary
    callouts: Callouts = field(default_factory=lambda: NO_CALLOUTS)
    is_offline: bool = False

    def assumed(self, indication: Indication) -> Assumed:
        """Return what has to be assumed of *indication*."""
        del indication
        return NOTHING_ASSUMED


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


def of_policy(path: str) -> Source:
    """Return the policy file *path*. Raises PolicyError."""
    policy = load_file(path, SystemResolver()).policy
    return Source(policy, in_order(policy), Here())
