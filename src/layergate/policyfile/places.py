"""Where things stand in a policy file: the line of every table, key and list element.

The standard parsers tell no lines. This locator reads a text that they have already accepted, so it only follows the
structure: strings (all four kinds), comments, brackets. A place is a path of keys and indices: in

    [[filter]]            line 1:  ("filter", 0)
    name = "a"            line 2:  ("filter", 0, "name")
    when = { app = [      line 3:  ("filter", 0, "when"), ("filter", 0, "when", "app")
      "/bin/x",           line 4:  ("filter", 0, "when", "app", 0)

A path that the locator did not see has the line of the nearest path around it.
Source: TOML 1.0.0; RFC 8259.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

Path = tuple[str | int, ...]

_TOKEN: Final = re.compile(
    r'''(?P<comment>\#[^\n]*)
    |(?P<string>"""(?:[^"\\]|\\.|"(?!""))*+"""+|\'\'\'(?:[^']|'(?!\'\'))*+\'\'\'+|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')
    |(?P<newline>\n)
    |(?P<mark>[\[\]{}=,.:])
    |(?P<bare>[^\s\[\]{}=,.:"'\#]++)''',
    re.VERBOSE | re.DOTALL,
)


class Places:
    """Lines by path."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lines: dict[Path, int] = {}
        self.repeated: list[tuple[Path, int]] = []

    def note(self, path: Path, line: int) -> None:
        """Remember that *path* stands in *line*; the first place counts, others are *repeated*."""
        if path in self._lines:
            self.repeated.append((path, line))
        else:
            self._lines[path] = line

    def note_once(self, path: Path, line: int) -> None:
        """Remember that *path* stands in *line* where nothing is known of it yet."""
        self._lines.setdefault(path, line)

    def line(self, *path: str | int) -> int | None:
        """Return the line of *path*, or of the nearest path around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


class _Tokens:
    """The tokens of a text: (kind, text, line), comments left out, with one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._source = self._scan(text)
        self.line = 1
        self.ahead = next(self._source, None)

    @staticmethod
    def _scan(text: str) -> Iterator[tuple[str, str, int]]:
        line = 1
        for found in _TOKEN.finditer(text):
            kind, token = str(found.lastgroup), found.group()
            if kind != "comment":
                yield kind, token, line
            line += token.count("\n")

    def take(self) -> tuple[str, str] | None:
        """Return the next token, (kind, text), None at the end."""
        token = self.ahead
        if token is None:
            return None
        self.line = token[2]
        self.ahead = next(self._source, None)
        return token[0], token[1]

    def key(self, first: str, end: str) -> Path:
        """Return the dotted key that begins with the token *first* and runs to *end*, which is taken."""
        parts: list[str | int] = [_unquoted(first)]
        while (token := self.take()) is not None and token[1] != end:
            if token[0] in ("bare", "string"):
                parts.append(_unquoted(token[1]))
        return tuple(parts)


def _unquoted(token: str) -> str:
    if token.startswith('"'):
        try:
            return str(json.loads(token))
        except ValueError:
            return token.strip('"')
    return token.strip("'") if token.startswith("'") else token


def json_places(text: str) -> Places:
    """Return the places of *text*, valid JSON."""
    places = Places()
    tokens = _Tokens(text)
    _value(tokens, (), places, separator=":")
    return places


def toml_places(text: str) -> Places:
    """Return the places of *text*, valid TOML."""
    places = Places()
    tokens = _Tokens(text)
    counts: dict[Path, int] = {}
    table: Path = ()
    while (token := tokens.take()) is not None:
        kind, text_ = token
        line = tokens.line
        if text_ == "[" and kind == "mark":
            is_array = tokens.ahead is not None and tokens.ahead[1] == "["
            if is_array:
                tokens.take()
            first = tokens.take()
            key = tokens.key(first[1], "]") if first else ()
            table = _table(key, counts, is_array=is_array)
            places.note_once(table[:1], line)
            places.note_once(table, line)
        elif kind in ("bare", "string"):
            key = tokens.key(text_, "=")
            path = (*table, *key)
            for length in range(len(table) + 1, len(path)):
                places.note_once(path[:length], line)
            places.note(path, line)
            _value(tokens, path, places, separator="=")
    return places


def _table(key: Path, counts: dict[Path, int], *, is_array: bool) -> Path:
    """Return the path of the table that a header opens; [[key]] opens the next element of its array."""
    path: Path = ()
    for place, part in enumerate(key):
        path = (*path, part)
        is_last = place == len(key) - 1
        if is_last and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _value(tokens: _Tokens, path: Path, places: Places, *, separator: str) -> None:
    """Follow one value, noting what it holds; at its end the next token is the one behind it."""
    # A frame is its path and the index of its current element (None: a table). No recursion: depth is the input's.
    frames: list[tuple[Path, int | None]] = []
    current = path
    expects_key = False
    while tokens.ahead is not None:
        kind, text, _ = tokens.ahead
        if kind == "newline" and not frames and separator == "=":
            return
        tokens.take()
        if kind == "newline":
            continue
        if frames and frames[-1][1] is not None and text not in ("]", ","):
            places.note_once(current, tokens.line)
        if kind == "mark" and text in "[{":
            is_list = text == "["
            frames.append((current, 0 if is_list else None))
            current = (*current, 0) if is_list else current
            expects_key = not is_list
        elif kind == "mark" and text in "]}":
            current, _ = frames.pop() if frames else (path, None)
            expects_key = False
        elif kind == "mark" and text == ",":
            if not frames:
                continue
            base, index = frames.pop()
            frames.append((base, None if index is None else index + 1))
            current = base if index is None else (*base, index + 1)
            expects_key = index is None
        elif expects_key and kind in ("bare", "string"):
            line = tokens.line
            base = frames[-1][0]
            current = (*base, *tokens.key(text, separator))
            for length in range(len(base) + 1, len(current)):
                places.note_once(current[:length], line)
            places.note(current, line)
            expects_key = False
