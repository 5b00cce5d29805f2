"""The XML of `netsh wfp` as a stream: one record after another, each a small tree that is dropped when it was read.

A dump is a few lists, and a list is items: a filter, a sublayer, a net event. `records` gives the items with the path
of their list; what lies around them is checked and forgotten, so that memory depends on the largest item, not on the
file. The rules:

- A file has a root or two: `netsh wfp show state` writes two top-level elements, which is no well-formed XML.
- UTF-8 or UTF-16, with or without a byte order mark: the bytes tell, the declaration may lie (a redirection in
  PowerShell writes UTF-16 and leaves "UTF-8" in the text).
- No document type, no entities of its own: nothing that netsh writes has them, and they are how XML is made to explode.
- Everything has a limit (`Limits`), and whatever is wrong is an InputError that names the file and the line.
- Elements that nobody knows become records of their own kind (`UNKNOWN`); what they hold is passed over.

Worked example: of <wfpstate><providers numItems="1"><item><providerKey>{1…}</providerKey></item></providers></wfpstate>
comes one record, ("providers/item", Node("item", [Node("providerKey", "{1…}")])).

Source: files of five builds of Windows 10 and 11.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from layergate.model import InputError
from layergate.windows.encodings import as_utf8
from layergate.windows.layout import BASES, KNOWN, OPEN, RECORDS, ROOTS
from layergate.windows.notes import one_line

MIB: Final = 1 << 20
UNKNOWN: Final = "?"
"""The path of a record that is an element which nobody knows."""
MISCOUNTED: Final = "#"
"""The path of a record that is a list whose numItems is not the number of its items."""

_WRAPPER: Final = "netsh"
_DECLARATION: Final = re.compile(rb"<![A-Z]{1,16}")
_HEAD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may hold: within them no file takes more than 500 MB or half a minute.

    A dump of a busy workstation has 4 MB, 100,000 elements, 2,000 items and items of 1,000 elements.
    """

    file_bytes: int = 96 * MIB
    file_elements: int = 4_000_000
    item_count: int = 200_000
    item_elements: int = 250_000
    item_characters: int = 16 * MIB
    text_characters: int = MIB
    blank_characters: int = 64 << 10
    tag_bytes: int = MIB
    depth: int = 32


LIMITS: Final = Limits()


class Node:
    """An element: its tag, its text or its children, the line where it begins, and what its numItems says."""

    __slots__ = ("children", "count", "line", "tag", "text")

    def __init__(self, tag: str, line: int, count: str | None = None) -> None:
        self.tag, self.line, self.count = tag, line, count
        self.text = ""
        self.children: list[Node] | tuple[()] = ()

    def find(self, tag: str) -> Node | None:
        """Return the first child called *tag*."""
        return next((child for child in self.children if child.tag == tag), None)

    def text_of(self, tag: str) -> str:
        """Return the text of the first child called *tag*; the empty text where there is none."""
        child = self.find(tag)
        return child.text if child is not None else ""


@dataclass(frozen=True, slots=True)
class Record:
    """One item: the *path* of its list below the root, and its tree."""

    path: str
    node: Node


def records(chunks: Iterable[bytes], place: str, limits: Limits = LIMITS) -> Iterator[Record]:
    """Yield the records of a file, given as *chunks* of at most a few hundred kilobytes; *place* is its name.

    The first record's path is the root's name with a slash behind it. Raises InputError. Cost: O(bytes).
    """
    parser = _Parser(place, limits)
    for chunk in as_utf8(_bounded(chunks, place, limits), place):
        yield from parser.feed(chunk)
    yield from parser.close()


def _bounded(chunks: Iterable[bytes], place: str, limits: Limits) -> Iterator[bytes]:
    """Pass *chunks* on, up to the limit of the file."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limits.file_bytes:
            raise InputError(
                f"more than {_size(limits.file_bytes)}",
                "a dump of at most that size: a shorter recording, or filters chosen by an option of netsh",
                place=place,
            )
        yield chunk


class _Parser:
    """Expat, and the state between its calls: where in the file it is, and the record that is being built."""

    def __init__(self, place: str, limits: Limits) -> None:
        self._place, self._limits = place, limits
        self._expat = expat.ParserCreate("UTF-8")
        self._expat.buffer_text = True
        self._expat.buffer_size = 64 << 10
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text
        self._head: bytes | None = b""
        self._tail = b""
        self._fed = 0
        self._tags: list[str] = []
        self._paths: list[str] = []
        self._lists: list[tuple[Node, int]] = []
        self._passing = 0
        self._nodes: list[Node] = []
        self._parts: list[str] = []
        self._run = 0
        self._is_blank = True
        self._characters = 0
        self._elements = 0
        self._all_elements = 0
        self._count = 0
        self._has_root = False
        self._ready: list[Record] = []

    def feed(self, chunk: bytes) -> list[Record]:
        """Take *chunk*; return the records that it completes."""
        if self._head is not None:
            self._head += chunk
            if len(self._head) < _HEAD_BYTES:
                return []
            chunk, self._head = self._opening(self._head), None
        self._parse(chunk)
        return self._taken()

    def close(self) -> list[Record]:
        """Take the end of the file; return the records that it completes."""
        if self._head is not None:
            opening, self._head = self._opening(self._head), None
            self._parse(opening)
        if len(self._tags) > 1:
            opened = "".join(f"<{tag}>" for tag in self._tags[1:])
            raise self._wrong(
                f"the file ends inside {opened}", f"</{self._tags[-1]}>: a whole file; make the dump anew"
            )
        self._parse(f"</{_WRAPPER}>".encode(), is_final=True)
        return self._taken()

    def _taken(self) -> list[Record]:
        ready, self._ready = self._ready, []
        return ready

    def _wrong(self, found: str, accepted: str, line: int | None = None) -> InputError:
        return InputError(
            one_line(found), one_line(accepted), place=self._place, line=line or self._expat.CurrentLineNumber
        )

    def _opening(self, head: bytes) -> bytes:
        """Return *head* with its XML declaration taken off and a root of our own put around: files have two roots."""
        text = head.lstrip(b" \t\r\n")
        blank = head[: len(head) - len(text)]
        if not text:
            found = "nothing but white space" if head else "an empty file"
            raise InputError(found, "what netsh wfp writes", place=self._place)
        if not text.startswith(b"<"):
            shown = text[:40].decode("utf-8", "replace")
            raise InputError(f"no XML: it begins with {shown!r}", "what netsh wfp writes", place=self._place, line=1)
        if text[:5] == b"<?xml" and text[5:6] in (b" ", b"\t", b"\r", b"\n"):
            declaration, end, rest = text.partition(b"?>")
            if not end:
                raise InputError("an XML declaration without end", "<?xml … ?>", place=self._place, line=1)
            blank, text = blank + b"\n" * declaration.count(b"\n"), rest
        return f"<{_WRAPPER}>".encode() + b"\n" * blank.count(b"\n") + text

    def _parse(self, chunk: bytes, *, is_final: bool = False) -> None:
        try:
            self._expat.Parse(chunk, is_final)
        except expat.ExpatError as error:
            raise self._malformed(error, chunk) from None
        self._fed += len(chunk)
        # What expat holds back is one tag or comment whose end it has not seen.
        if self._fed - max(0, self._expat.CurrentByteIndex) > self._limits.tag_bytes:
            raise self._wrong(f"a tag or comment of more than {self._limits.tag_bytes} bytes", "what netsh wfp writes")
        self._tail = (self._tail + chunk)[-64:]

    def _malformed(self, error: expat.ExpatError, chunk: bytes) -> InputError:
        """Return what expat's *error* says, in words that name what was expected."""
        seen = self._tail + chunk
        place = self._expat.ErrorByteIndex - self._fed + len(self._tail)
        declared = _DECLARATION.search(seen, max(0, place - 2), place + 24)
        if declared:
            return self._wrong(
                f"a declaration, {declared.group().decode()}", "XML without document type and entities", error.lineno
            )
        what = expat.ErrorString(error.code)
        if 0 <= place < len(seen) and seen[place] >= 0x80:
            what = "bytes that are no UTF-8"
        inside = self._tags[-1] if len(self._tags) > 1 else ""
        expected = f"text, an element or </{inside}>" if inside else f"an element: {_listed(ROOTS)}"
        return self._wrong(f"no well-formed XML: {what}", f"{expected}, as netsh wfp writes it", error.lineno)

    # --- what expat calls -------------------------------------------------------------------------------------------

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._tags.append(tag)
        if self._passing:
            self._passing += 1
        elif self._nodes:
            self._child(tag, attributes)
        elif len(self._tags) > 1:
            self._enter(tag, attributes)
        if len(self._tags) > self._limits.depth:
            raise self._wrong(f"elements nested {self._limits.depth} deep", "what netsh wfp writes: 15 at most")
        self._break()

    def _child(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element of the record."""
        if self._parts:
            raise self._beside(self._nodes[-1])
        node = Node(tag, self._expat.CurrentLineNumber, attributes.get("numItems") if attributes else None)
        parent = self._nodes[-1]
        if parent.children:
            parent.children.append(node)
        else:
            parent.children = [node]
        self._nodes.append(node)
        self._elements += 1
        if self._elements > self._limits.item_elements:
            raise self._wrong(f"an item of more than {self._limits.item_elements} elements", "smaller items")
        self._all_elements += 1
        if self._all_elements > self._limits.file_elements:
            raise self._wrong(f"more than {self._limits.file_elements} elements", "a smaller dump: a shorter recording")

    def _enter(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin an element outside of records: a root, a list, a record, or something that is passed over."""
        node = Node(tag, self._expat.CurrentLineNumber, attributes.get("numItems"))
        if len(self._tags) == 2:  # a root, below our own
            if not self._has_root:
                if tag not in ROOTS:
                    raise self._wrong(f"the root element <{tag}>", f"a root element {_listed(ROOTS)}")
                self._has_root = True
                self._ready.append(Record(f"{tag}/", node))
            path = BASES.get(tag, tag if tag in KNOWN else UNKNOWN)
        else:
            if self._lists:
                last, seen = self._lists[-1]
                self._lists[-1] = (last, seen + 1)
            path = f"{self._paths[-1]}/{tag}" if self._paths[-1] else tag
            path = BASES.get(path, path)
        if path in RECORDS:
            self._nodes.append(node)
            self._characters, self._elements = 0, 1
            self._count += 1
            if self._count > self._limits.item_count:
                raise self._wrong(f"more than {self._limits.item_count} items", "a smaller dump: a shorter recording")
        elif path in OPEN or not path:
            self._paths.append(path)
            self._lists.append((node, 0))
        else:
            self._passing = 1
            if path not in KNOWN:
                node.text = self._paths[-1] if self._paths else ""
                self._ready.append(Record(UNKNOWN, node))

    def _end(self, _: str) -> None:
        text = "".join(self._parts)
        self._break()
        self._tags.pop()
        if self._passing:
            self._passing -= 1
        elif self._nodes:
            self._finish(text)
        elif self._paths:
            self._paths.pop()
            node, seen = self._lists.pop()
            if node.count is not None and node.count != str(seen):
                node.text = str(seen)
                self._ready.append(Record(MISCOUNTED, node))

    def _finish(self, text: str) -> None:
        """End an element of the record, and the record with its last."""
        node = self._nodes.pop()
        stripped = text.strip()
        if stripped:
            if node.children:
                raise self._beside(node, stripped)
            node.text = stripped
        if not self._nodes:
            path = f"{self._paths[-1]}/{node.tag}" if self._paths[-1] else node.tag
            self._ready.append(Record(path, node))

    def _beside(self, node: Node, text: str = "") -> InputError:
        shown = (text or "".join(self._parts).strip())[:40]
        return self._wrong(f"text beside the elements of <{node.tag}>: {shown!r}", "elements only")

    def _text(self, text: str) -> None:
        self._run += len(text)
        if self._is_blank and not text.isspace():
            self._is_blank = False
        limits = self._limits
        if self._is_blank:
            if self._run > limits.blank_characters:
                raise self._wrong(f"more than {limits.blank_characters} characters of white space", "the next element")
            return
        if self._run > limits.text_characters:
            raise self._wrong(f"a text of more than {limits.text_characters} characters", "a shorter text")
        if self._nodes:
            self._characters += len(text)
            if self._characters > limits.item_characters:
                raise self._wrong(f"an item of more than {_size(limits.item_characters)} of text", "smaller items")
            self._parts.append(text)
        elif not self._passing:
            raise self._wrong(f"text between elements: {text.strip()[:40]!r}", "elements only")

    def _break(self) -> None:
        """Begin a new run of text."""
        self._run, self._is_blank = 0, True
        if self._parts:
            self._parts.clear()


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB else f"{count >> 10} KiB"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"<{name}>" for name in names)
