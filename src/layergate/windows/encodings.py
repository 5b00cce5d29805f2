"""What bytes a dump is written in: UTF-8 or UTF-16, by its first bytes.

netsh writes UTF-8 with a byte order mark. A redirection (`file=- >`) in PowerShell decodes that and writes UTF-16
instead, mark and all, so that a second mark may stand behind the first, garbled or not; editors leave marks out. A
cabinet, which `netsh wfp capture` makes, is told apart by its magic.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from layergate.model import InputError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
# A mark once more, read as UTF-8, Windows-1252 and the consoles' code pages 437 and 850.
_GARBLED: Final = tuple(mark.encode() for mark in ("\ufeff", "ï»¿", "∩╗┐", "´╗┐"))
_CABINET: Final = b"MSCF"
_FIRST_BYTES: Final = 4


def as_utf8(chunks: Iterable[bytes], place: str) -> Iterator[bytes]:
    """Yield *chunks* as UTF-8 without a byte order mark, whatever they were. Raises InputError."""
    rest = iter(chunks)
    first = b""
    while len(first) < 4 * _FIRST_BYTES:
        chunk = next(rest, b"")
        if not chunk:
            break
        first += chunk
    if first.startswith(_CABINET):
        raise InputError(
            "a cabinet, as netsh wfp capture makes it",
            "the wfpdiag.xml inside: unpack it with cabextract, or record with `netsh wfp capture start cab=off`",
            place=place,
        )
    mark, encoding = next(((mark, name) for mark, name in _MARKS if first.startswith(mark)), (b"", "utf-8"))
    if encoding == "utf-32":
        raise InputError("UTF-32", "UTF-8 or UTF-16", place=place)
    first = first if b"<" in mark else first[len(mark) :]
    decoded = chain([first], rest) if encoding == "utf-8" else _decoded(chain([first], rest), encoding, place)
    yield from _without_mark(decoded)


def _decoded(chunks: Iterable[bytes], encoding: str, place: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            yield text.encode()
            line += text.count("\n")
        decoder.decode(b"", final=True)
    except UnicodeError:
        name = encoding.upper()
        raise InputError(
            f"bytes that are no {name}", f"{name} to the end, as it begins", place=place, line=line
        ) from None


def _without_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Take a mark off the first of *chunks* that holds anything."""
    rest = iter(chunks)
    for chunk in rest:
        if chunk:
            mark = next((mark for mark in _GARBLED if chunk.startswith(mark)), b"")
            yield chunk[len(mark) :]
            break
    yield from rest
