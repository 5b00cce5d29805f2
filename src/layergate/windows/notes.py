"""What a file held that nobody knows, and what is doubtful about it: counted, with the line where it began.

Two lists of `Problem`s. Unknown is what layergate has no name for and keeps as it stands; a doubt is something that it
reads in one of several ways. What is plainly wrong is neither, but an InputError (`Notes.wrong`). The same thing found
often is one problem with a number; there are at most `PROBLEMS_MAX` of a list.
"""

from __future__ import annotations

from typing import Final

from layergate.model import InputError, Problem

PROBLEMS_MAX: Final = 500
_SHOWN_MAX: Final = 80

_Found = dict[tuple[str, str], tuple[int, str, int]]


def shown(text: str) -> str:
    """Return *text* for a message, cut to a length that a line bears."""
    return repr(text) if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 3]!r}..."


class Notes:
    """What is noted while the file *place* is read."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._unknown: _Found = {}
        self._doubts: _Found = {}

    def wrong(self, line: int | None, found: str, accepted: str) -> InputError:
        """Return the error for something that stops the reading."""
        return InputError(found, accepted, place=self.place, line=line)

    def unknown(self, line: int | None, subject: str, found: str, kept: str) -> None:
        """Note that nobody knows what was *found*; *kept*: what became of it."""
        _note(self._unknown, line, subject, found, kept)

    def doubt(self, line: int | None, subject: str, found: str, taken: str) -> None:
        """Note that what was *found* could mean several things; *taken*: how it is read."""
        _note(self._doubts, line, subject, found, taken)

    @property
    def unknowns(self) -> tuple[Problem, ...]:
        """Return what nobody knows, in the order of the file."""
        return self._problems(self._unknown)

    @property
    def doubts(self) -> tuple[Problem, ...]:
        """Return the doubts, in the order of the file."""
        return self._problems(self._doubts)

    def _problems(self, found: _Found) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                file=self.place,
                line=line or None,
                object=subject,
                found=what if count == 1 else f"{what} ({count} times, here first)",
                accepted=how,
            )
            for (what, how), (line, subject, count) in found.items()
        )


def _note(found: _Found, line: int | None, subject: str, what: str, how: str) -> None:
    key = (what, how)
    if key not in found and len(found) >= PROBLEMS_MAX:
        key = ("more of the kind", "not listed one by one")
        subject = ""
    first, told, count = found.get(key, (line or 0, subject, 0))
    found[key] = (first, told, count + 1)
