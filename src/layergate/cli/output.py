"""What a command prints: JSON Lines for programs, aligned and sparingly coloured lines for people.

Colour only where a person looks on: standard output is a terminal and NO_COLOR is not set (https://no-color.org).
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from layergate.model.errors import InputError, NotSupportedError, Problem

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def be_robust() -> None:
    """Let standard output and error print any text: what the encoding lacks is escaped; closed, they swallow it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_coloured() -> bool:
    """Whether standard output takes colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Return *text* in *colour* (bold, dim, red, green, yellow, cyan) where there is colour."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if is_coloured() else text


def json_line(line: Mapping[str, object]) -> None:
    """Print one JSON line."""
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


def columns(rows: Iterable[Sequence[str]], *, indent: int = 0) -> list[str]:
    """Return *rows* as lines with aligned columns; the last column is as wide as it likes."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return [
        " " * indent
        + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def harmless(text: str) -> str:
    """Return *text*, which somebody else wrote, as one line in which a terminal finds nothing to obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plural(count: int, word: str) -> str:
    """Return "1 filter", "2 filters"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def error_line(*, file: str, line: int | None, subject: str, found: str, accepted: str) -> dict[str, object]:
    """Return an `error` line."""
    return {"kind": "error", "file": file, "line": line, "object": subject, "found": found, "accepted": accepted}


def problem(item: Problem, *, is_json: bool) -> None:
    """Print one problem of a policy."""
    if is_json:
        json_line(
            error_line(file=item.file, line=item.line, subject=item.object, found=item.found, accepted=item.accepted)
        )
    else:
        sys.stderr.write(f"{item}\n")


def input_error(error: InputError, *, is_json: bool) -> None:
    """Print what is wrong with an input."""
    if is_json:
        json_line(error_line(file=error.place, line=error.line, subject="", found=error.found, accepted=error.accepted))
    else:
        sys.stderr.write(f"layergate: {error}\n")


def not_supported(error: NotSupportedError, *, is_json: bool) -> None:
    """Print what the machine can't."""
    if is_json:
        json_line(error_line(file="", line=None, subject=error.hook, found=error.cause, accepted=error.remedy))
    else:
        sys.stderr.write(f"layergate: {error}\n")
