"""Errors, split by who must act: the policy, the input, the machine, us. Facts are attributes; `str()` is one line."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: where it stands, what was found, what would be accepted."""

    file: str
    line: int | None
    object: str
    found: str
    accepted: str

    def __str__(self) -> str:
        """Return the problem as one line, in the form that editors jump to."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f" {self.object}:" if self.object else ""
        return f"{place}:{subject} {self.found}; {self.accepted}"


class LayergateError(Exception):
    """What every error of layergate is. Never raised itself."""


class PolicyError(LayergateError):
    """A policy can't be used: all its problems together, nothing applied."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Keep *problems* (at least one), in the order of the file."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class FwpError(enum.IntEnum):
    """FWP_E_*: what the filter engine refuses with. Source: Microsoft, "WFP Error Codes"."""

    CALLOUT_NOT_FOUND = 0x80320001
    CONDITION_NOT_FOUND = 0x80320002
    FILTER_NOT_FOUND = 0x80320003
    LAYER_NOT_FOUND = 0x80320004
    PROVIDER_NOT_FOUND = 0x80320005
    PROVIDER_CONTEXT_NOT_FOUND = 0x80320006
    SUBLAYER_NOT_FOUND = 0x80320007
    NOT_FOUND = 0x80320008
    ALREADY_EXISTS = 0x80320009
    IN_USE = 0x8032000A
    DYNAMIC_SESSION_IN_PROGRESS = 0x8032000B
    WRONG_SESSION = 0x8032000C
    NO_TXN_IN_PROGRESS = 0x8032000D
    TXN_IN_PROGRESS = 0x8032000E
    TXN_ABORTED = 0x8032000F
    SESSION_ABORTED = 0x80320010
    INCOMPATIBLE_TXN = 0x80320011
    TIMEOUT = 0x80320012
    NET_EVENTS_DISABLED = 0x80320013
    INCOMPATIBLE_LAYER = 0x80320014
    KM_CLIENTS_ONLY = 0x80320015
    LIFETIME_MISMATCH = 0x80320016
    BUILTIN_OBJECT = 0x80320017
    TOO_MANY_CALLOUTS = 0x80320018
    NOTIFICATION_DROPPED = 0x80320019
    TRAFFIC_MISMATCH = 0x8032001A
    INCOMPATIBLE_SA_STATE = 0x8032001B
    NULL_POINTER = 0x8032001C
    INVALID_ENUMERATOR = 0x8032001D
    INVALID_FLAGS = 0x8032001E
    INVALID_NET_MASK = 0x8032001F
    INVALID_RANGE = 0x80320020
    INVALID_INTERVAL = 0x80320021
    ZERO_LENGTH_ARRAY = 0x80320022
    NULL_DISPLAY_NAME = 0x80320023
    INVALID_ACTION_TYPE = 0x80320024
    INVALID_WEIGHT = 0x80320025
    MATCH_TYPE_MISMATCH = 0x80320026
    TYPE_MISMATCH = 0x80320027
    OUT_OF_BOUNDS = 0x80320028
    RESERVED = 0x80320029
    DUPLICATE_CONDITION = 0x8032002A
    DUPLICATE_KEYMOD = 0x8032002B
    ACTION_INCOMPATIBLE_WITH_LAYER = 0x8032002C
    ACTION_INCOMPATIBLE_WITH_SUBLAYER = 0x8032002D
    CONTEXT_INCOMPATIBLE_WITH_LAYER = 0x8032002E
    CONTEXT_INCOMPATIBLE_WITH_CALLOUT = 0x8032002F
    INCOMPATIBLE_AUTH_METHOD = 0x80320030
    INCOMPATIBLE_DH_GROUP = 0x80320031
    EM_NOT_SUPPORTED = 0x80320032
    NEVER_MATCH = 0x80320033
    PROVIDER_CONTEXT_MISMATCH = 0x80320034
    INVALID_PARAMETER = 0x80320035
    TOO_MANY_SUBLAYERS = 0x80320036
    CALLOUT_NOTIFICATION_FAILED = 0x80320037
    INVALID_AUTH_TRANSFORM = 0x80320038
    INVALID_CIPHER_TRANSFORM = 0x80320039


class RefusedError(LayergateError):
    """The filter engine refuses an operation: nothing of it was done.

    *code* is the platform's, *object* what it is about, *found* what is wrong, *remedy* what to do.
    """

    def __init__(self, code: FwpError, subject: str, found: str, remedy: str) -> None:
        """Keep the facts."""
        super().__init__(f"FWP_E_{code.name}: {subject}{': ' if subject else ''}{found}; {remedy}")
        self.code, self.object, self.found, self.remedy = code, subject, found, remedy


class InputError(LayergateError):
    """An input other than a policy can't be used (a record, an argument): place, finding and remedy."""

    def __init__(self, found: str, accepted: str, *, place: str = "", line: int | None = None) -> None:
        """Keep what was *found* at *place* and what would be *accepted*."""
        super().__init__(f"{place}{f':{line}' if line else ''}{': ' if place else ''}{found}; {accepted}")
        self.place, self.line, self.found, self.accepted = place, line, found, accepted


class NotSupportedError(LayergateError):
    """The machine can't: the hook that is missing, the cause, the remedy."""

    def __init__(self, hook: str, cause: str, remedy: str) -> None:
        """Keep the *hook* (or privilege) that is missing, the *cause* and the *remedy*."""
        super().__init__(f"{hook}: {cause}; {remedy}")
        self.hook, self.cause, self.remedy = hook, cause, remedy


class InternalError(LayergateError):
    """A mistake of layergate itself."""
