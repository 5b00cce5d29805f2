"""A policy file's bytes as data, with the line of everything in it.

Anything that is no TOML (or JSON) gives one clear problem, in little time, whatever it holds: bytes that are no
text, a file without end, brackets without end. Nothing here knows what a policy is.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any, Final

from layergate.model import PolicyError, Problem
from layergate.policyfile.places import Places, json_places, toml_places

SIZE_BYTES_MAX: Final = 64 << 20
"""The size at which a file is no policy any more: a filter in words has some hundred bytes."""

KEY_PARTS_MAX: Final = 16
# The standard parser's time grows with the square of a dotted key's parts: such a key is refused before it.
_KEY_TOO_DEEP: Final = re.compile(
    r"(?:(?:(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++|\"[^\"\n]{0,64}+\"|'[^'\n]{0,64}+')[ \t]*+\.[ \t]*+)"
    rf"{{{KEY_PARTS_MAX}}}"
)
_TOML_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def is_json(file: str) -> bool:
    """Whether the file of this name is JSON; any other is TOML."""
    return PurePath(file).suffix.lower() == ".json"


def read_file(path: str) -> bytes:
    """Return what the file at *path* holds. Raises PolicyError where it can't be read, or is too big."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - *path* may be any file name, also one that pathlib would tidy
            data = file.read(SIZE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _error(path, None, f"can't be read: {reason}", "a policy file that can be read") from None
    return data


def parse(text: bytes | str, file: str) -> tuple[dict[str, Any], Callable[[], Places]]:
    """Return the data of *text*, and what finds the places of its parts (it takes as long as parsing).

    Raises:
        PolicyError: with one problem where the text is no data.
    """
    if len(text) > SIZE_BYTES_MAX:
        raise _error(file, None, f"more than {SIZE_BYTES_MAX >> 20} MiB", "a policy file of a sensible size")
    decoded = _decoded(text, file)
    return _json(decoded, file) if is_json(file) else _toml(decoded, file)


def _error(file: str, line: int | None, found: str, accepted: str) -> PolicyError:
    return PolicyError((Problem(file, line, "", found, accepted),))


def _decoded(text: bytes | str, file: str) -> str:
    form = "JSON" if is_json(file) else "TOML"
    if isinstance(text, bytes):
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            byte = error.object[error.start]
            raise _error(file, line, f"byte 0x{byte:02x} is no UTF-8", f"{form} in UTF-8") from None
    else:
        decoded = text
    place = decoded.find("\0")
    if place >= 0:
        raise _error(file, decoded.count("\n", 0, place) + 1, "a NUL byte: the file is binary", f"{form} in UTF-8")
    return decoded.removeprefix("\ufeff").replace("\r\n", "\n")


def _json(text: str, file: str) -> tuple[dict[str, Any], Callable[[], Places]]:
    repeated: list[str] = []

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            repeated.extend(result)
        return result

    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=table)
    except json.JSONDecodeError as error:
        raise _error(file, error.lineno, f"no JSON: {error.msg} (column {error.colno})", "JSON") from None
    except RecursionError:
        raise _error(file, None, "no policy: nested too deep", "tables of sublayers and filters") from None
    except ValueError as error:
        raise _error(file, None, f"no JSON: {_first_line(error)}", "JSON") from None
    if not isinstance(data, dict):
        raise _error(file, 1, "no JSON object", '{"sublayer": [...], "filter": [...]}')
    if repeated:
        places = json_places(text)
        raise PolicyError(
            tuple(
                Problem(file, line, ".".join(map(str, path)), f"the key '{path[-1]}' is there twice", "every key once")
                for path, line in places.repeated
            )
        )
    return data, partial(json_places, text)


def _no_constant(name: str) -> None:
    msg = f"{name} is no JSON"
    raise ValueError(msg)


def _toml(text: str, file: str) -> tuple[dict[str, Any], Callable[[], Places]]:
    deep = _KEY_TOO_DEEP.search(text)
    if deep:
        line = text.count("\n", 0, deep.start()) + 1
        raise _error(file, line, f"a key of more than {KEY_PARTS_MAX} parts", "TOML with the keys of a policy")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = _first_line(error)
        place = _TOML_PLACE.search(message)
        line = int(place[1]) if place and place[1] else text.count("\n") + 1
        column = f" (column {place[2]})" if place and place[2] else ""
        raise _error(file, line, f"no TOML: {_TOML_PLACE.sub('', message)}{column}", "TOML") from None
    except RecursionError:
        raise _error(file, None, "no policy: nested too deep", "tables of sublayers and filters") from None
    except ValueError as error:
        raise _error(file, None, f"no TOML: {_first_line(error)}", "TOML") from None
    return data, partial(toml_places, text)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["?"])[0][:200]
