"""Values of a dump: <type>FWP_UINT32</type><uint32>192.168.1.0</uint32> as a `Value`.

netsh prints numbers as decimals, IPv4 addresses (uint32 of an address field) with dots, 16 bytes as an IPv6 address,
security descriptors as SDDL, bytes as hexadecimal digits with what is printable beside them. A type that nobody knows,
or that no filter can hold, gives `NotUnderstood` with the reason; data that its type can't hold is an InputError.

An application's id stays what it is in a dump: its device path in UTF-16LE, with a NUL at the end (`path_text`).
Source: Microsoft, fwptypes.h; 9,338 filters of 12 dumps; FWP_V4_ADDR_MASK from one public dump.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from layergate.model import AddressMask, DataType, Range, Value
from layergate.model.values import BITS, EMPTY, SIGNED_BITS
from layergate.windows.notes import Notes, shown
from layergate.windows.reading import Node

NUL: Final = "\0"
DECIMAL_DIGITS_MAX: Final = 20  # of 2^64 - 1

_TEXT_TAGS: Final = {
    DataType.SID: "sid",
    DataType.SECURITY_DESCRIPTOR: "sd",
    DataType.UNICODE_STRING: "unicodeString",
}


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A value, or a condition, that can't be used: why, in words that begin "a value of type …"."""

    reason: str


class Values:
    """Reads the values of one file; equal ones are one object, so that a thousand filters of svchost hold one path."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._known: dict[tuple[DataType, str], Value] = {}

    def value(self, node: Node, subject: str) -> Value | NotUnderstood:
        """Return the value that *node* holds, a <type> and its data. *subject* is what it belongs to, for errors."""
        printed = node.text_of("type")
        kind = DataType.__members__.get(printed.removeprefix("FWP_").removesuffix("_TYPE"))
        if not printed:
            raise self._notes.wrong(
                node.line, f"{subject}: a value without <type>", "<type>FWP_UINT8</type> and its data"
            )
        if kind is None:
            return NotUnderstood(f"a value of type {shown(printed)}")
        if kind is DataType.EMPTY:
            return EMPTY
        if kind is DataType.RANGE:
            return self._range(node, subject)
        read = _READERS.get(kind)
        if read is None:
            return NotUnderstood(f"a value of type {printed}")
        tag, parse = read
        data = node.find(tag)
        if data is None:
            raise self._notes.wrong(node.line, f"{subject}: a value of type {printed} without <{tag}>", f"<{tag}>")
        return self._parsed(kind, data, parse, subject)

    def _parsed(self, kind: DataType, data: Node, parse: Callable[[Node], Value], subject: str) -> Value:
        # Texts repeat, paths above all; masks are few.
        key = (kind, data.text_of("data") if kind is DataType.BYTE_BLOB else data.text)
        known = self._known.get(key) if key[1] else None
        if known is not None:
            return known
        try:
            value = parse(data)
        except ValueError:
            found = f"{subject}: {kind.name} = {shown(data.text or data.text_of('data') or 'nothing')}"
            raise self._notes.wrong(data.line, found, _ACCEPTED.get(kind, "what that type holds")) from None
        if key[1]:
            self._known[key] = value
        return value

    def _range(self, node: Node, subject: str) -> Value | NotUnderstood:
        data = node.find("rangeValue")
        ends = [data.find(tag) if data is not None else None for tag in ("valueLow", "valueHigh")]
        if ends[0] is None or ends[1] is None:
            accepted = "<rangeValue> with <valueLow> and <valueHigh>"
            raise self._notes.wrong(node.line, f"{subject}: a range without its ends", accepted)
        values = [self.value(end, subject) for end in ends if end is not None]
        low, high = values
        for value in (low, high):
            if isinstance(value, NotUnderstood):
                return value
        assert isinstance(low, Value)
        assert isinstance(high, Value)
        if isinstance(low.data, Range):
            return NotUnderstood("a range of ranges")
        if low.type is not high.type:
            found = f"{subject}: a range from {low.type.name} to {high.type.name}"
            raise self._notes.wrong(node.line, found, "two ends of one type")
        return Value(DataType.RANGE, Range(low, high))

    def blob(self, node: Node | None, subject: str) -> bytes:
        """Return the bytes of *node*, which has a <data>; none where it is empty or absent."""
        data = node.find("data") if node is not None else None
        if data is None:
            return b""
        try:
            return bytes.fromhex(data.text)
        except ValueError:
            found = f"{subject}: bytes {shown(data.text)}"
            raise self._notes.wrong(data.line, found, _ACCEPTED[DataType.BYTE_BLOB]) from None

    def address(self, node: Node, tag: str, subject: str) -> Value:
        """Return the address in the child *tag* of *node*: IPv4 is UINT32, IPv6 BYTE_ARRAY16."""
        child = node.find(tag)
        text = child.text if child is not None else ""
        key = (DataType.BYTE_ARRAY16 if ":" in text else DataType.UINT32, text)
        known = self._known.get(key)
        if known is None:
            try:
                known = Value(key[0], _address(text))
            except ValueError:
                line = child.line if child is not None else node.line
                raise self._notes.wrong(line, f"{subject}: {tag} {shown(text)}", "an IP address") from None
            self._known[key] = known
        return known

    def number(self, node: Node, tag: str, bits: int, subject: str) -> int:
        """Return the number in the child *tag* of *node*, of *bits* bits."""
        child = node.find(tag)
        if child is None:
            raise self._notes.wrong(node.line, f"{subject} without <{tag}>", f"<{tag}>, a number of {bits} bits")
        number = decimal(child.text)
        if number is None or number >= 1 << bits:
            raise self._notes.wrong(child.line, f"{subject}: {tag} {shown(child.text)}", f"a number of {bits} bits")
        return number


def _address(text: str) -> int | bytes:
    """Return an IPv4 address as a number, an IPv6 address (its zone is no part of it) as bytes. Raises ValueError."""
    if ":" in text:
        return ipaddress.IPv6Address(text.partition("%")[0]).packed
    return int(ipaddress.IPv4Address(text))


def decimal(text: str) -> int | None:
    """Return the number that *text* is in decimal digits, None where it is none."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= DECIMAL_DIGITS_MAX
    return int(text) if is_number else None


def wide_text(data: bytes) -> str:
    """Return *data* as the UTF-16LE text that it is, up to its NUL; "" where it is none."""
    try:
        text = data.decode("utf-16-le")
    except UnicodeDecodeError:
        return ""
    text = text.partition(NUL)[0]
    return text if text.isprintable() else ""


def path_text(data: bytes) -> str:
    """Return the path that an application's id holds; its bytes in hexadecimal where it holds none."""
    return wide_text(data) or f"0x{data.hex()}"


def _integer(kind: DataType) -> Callable[[Node], Value]:
    def read(node: Node) -> Value:
        text = node.text
        if kind is DataType.UINT32 and "." in text:
            return Value(kind, int(ipaddress.IPv4Address(text)))
        digits = text.removeprefix("-") if kind in SIGNED_BITS else text
        number = decimal(digits)
        if number is None:
            raise ValueError
        return Value(kind, -number if text.startswith("-") else number)

    return read


def _text(kind: DataType) -> Callable[[Node], Value]:
    def read(node: Node) -> Value:
        if node.children or (kind is not DataType.UNICODE_STRING and not node.text):
            raise ValueError
        return Value(kind, node.text)

    return read


def _blob(node: Node) -> Value:
    if node.text or (node.children and node.find("data") is None):
        raise ValueError
    return Value(DataType.BYTE_BLOB, bytes.fromhex(node.text_of("data")))


def _sixteen(node: Node) -> Value:
    """Read 16 bytes: an IPv6 address, or a GUID where the field is one."""
    text = node.text
    if ":" in text:
        return Value(DataType.BYTE_ARRAY16, _address(text))
    return Value(DataType.BYTE_ARRAY16, uuid.UUID(text).bytes)


def _six(node: Node) -> Value:
    return Value(DataType.BYTE_ARRAY6, bytes.fromhex(node.text.replace("-", " ").replace(":", " ")))


def _v4_mask(node: Node) -> Value:
    address, mask = (int(ipaddress.IPv4Address(_dotted(node.text_of(tag)))) for tag in ("addr", "mask"))
    return Value(DataType.V4_ADDR_MASK, AddressMask(address, mask))


def _dotted(text: str) -> str | int:
    number = decimal(text)
    return text if number is None else number


def _v6_mask(node: Node) -> Value:
    length = decimal(node.text_of("prefixLength"))
    if length is None or length > 128:
        raise ValueError
    address = int(ipaddress.IPv6Address(node.text_of("addr").partition("%")[0]))
    return Value(DataType.V6_ADDR_MASK, AddressMask(address, ((1 << length) - 1) << (128 - length)))


_READERS: Final[dict[DataType, tuple[str, Callable[[Node], Value]]]] = {
    **{kind: (kind.name.lower(), _integer(kind)) for kind in (*BITS, *SIGNED_BITS)},
    **{kind: (tag, _text(kind)) for kind, tag in _TEXT_TAGS.items()},
    DataType.BYTE_BLOB: ("byteBlob", _blob),
    DataType.BYTE_ARRAY16: ("byteArray16", _sixteen),
    DataType.BYTE_ARRAY6: ("byteArray6", _six),
    DataType.V4_ADDR_MASK: ("v4AddrMask", _v4_mask),
    DataType.V6_ADDR_MASK: ("v6AddrMask", _v6_mask),
}
_ACCEPTED: Final = {
    **{kind: f"a number of {bits} bits" for kind, bits in (BITS | SIGNED_BITS).items()},
    DataType.UINT32: "a number of 32 bits, or an IPv4 address",
    DataType.BYTE_BLOB: "<data> with two hexadecimal digits a byte",
    DataType.BYTE_ARRAY16: "an IPv6 address or a GUID",
    DataType.BYTE_ARRAY6: "six bytes in hexadecimal digits",
    DataType.V4_ADDR_MASK: "<addr> and <mask>, two IPv4 addresses",
    DataType.V6_ADDR_MASK: "<addr>, an IPv6 address, and <prefixLength>, 0 to 128",
}
