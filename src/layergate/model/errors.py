"""Errors, split by who must act: the policy, the input, the machine, us. Facts are attributes; `str()` is one line."""

from __future__ import annotations

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
