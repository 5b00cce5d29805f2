"""Values and how they are compared: FWP_DATA_TYPE and FWP_MATCH_TYPE.

A `Value` is a type and Python data: integers for every integer type and for IPv4 addresses (UINT32, host order),
`bytes` for BYTE_ARRAY16 (an IPv6 address), BYTE_ARRAY6 and BYTE_BLOB (an application's path: UTF-8 on Linux, UTF-16LE
with a NUL at its end in a dump of Windows), `str` for SID, SECURITY_DESCRIPTOR (SDDL) and UNICODE_STRING, `AddressMask`
and `Range` for those, None for EMPTY. The token of ALE_USER_ID is the numeric user id on Linux, a `Token` on Windows.

Source: Microsoft, fwptypes.h (FWP_DATA_TYPE, FWP_MATCH_TYPE).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class DataType(enum.IntEnum):
    """FWP_DATA_TYPE, by its numbers."""

    EMPTY = 0
    UINT8 = 1
    UINT16 = 2
    UINT32 = 3
    UINT64 = 4
    INT8 = 5
    INT16 = 6
    INT32 = 7
    INT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BYTE_ARRAY16 = 11
    BYTE_BLOB = 12
    SID = 13
    SECURITY_DESCRIPTOR = 14
    TOKEN_INFORMATION = 15
    TOKEN_ACCESS_INFORMATION = 16
    UNICODE_STRING = 17
    BYTE_ARRAY6 = 18
    BITMAP_INDEX = 19
    BITMAP_ARRAY64 = 20
    V4_ADDR_MASK = 0x100
    V6_ADDR_MASK = 0x101
    RANGE = 0x102


class MatchType(enum.IntEnum):
    """FWP_MATCH_TYPE, by its numbers. PREFIX and NOT_PREFIX are misnamed by the platform: they test the value's end."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    GREATER_OR_EQUAL = 3
    LESS_OR_EQUAL = 4
    RANGE = 5
    FLAGS_ALL_SET = 6
    FLAGS_ANY_SET = 7
    FLAGS_NONE_SET = 8
    EQUAL_CASE_INSENSITIVE = 9
    NOT_EQUAL = 10
    PREFIX = 11
    NOT_PREFIX = 12


BITS: Final = {DataType.UINT8: 8, DataType.UINT16: 16, DataType.UINT32: 32, DataType.UINT64: 64}
SIGNED_BITS: Final = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
SIZES: Final = {DataType.BYTE_ARRAY16: 16, DataType.BYTE_ARRAY6: 6}
TEXTS: Final = frozenset({DataType.SID, DataType.SECURITY_DESCRIPTOR, DataType.UNICODE_STRING})
SORTABLE: Final = (
    frozenset(BITS)
    | frozenset(SIGNED_BITS)
    | {
        DataType.BYTE_ARRAY16,
        DataType.BYTE_BLOB,
        DataType.UNICODE_STRING,
    }
)


@dataclass(frozen=True, slots=True)
class AddressMask:
    """An address and the mask of the bits that count, both as integers (32 bits for v4, 128 for v6)."""

    address: int
    mask: int


@dataclass(frozen=True, slots=True)
class Token:
    """An access token: the SIDs that it has enabled, the user's among them."""

    sids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of one type."""

    low: Value
    high: Value


Data = int | float | bytes | str | AddressMask | Range | Token | None


@dataclass(frozen=True, slots=True)
class Value:
    """A typed value. Raises ValueError where the data does not fit the type."""

    type: DataType
    data: Data

    def __post_init__(self) -> None:
        """Refuse data that its type can't hold."""
        kind, data = self.type, self.data
        bits = BITS.get(kind)
        if bits is not None:
            fits = type(data) is int and 0 <= data < 1 << bits
        elif kind in SIGNED_BITS:
            fits = type(data) is int and -(1 << SIGNED_BITS[kind] - 1) <= data < 1 << SIGNED_BITS[kind] - 1
        elif kind in SIZES:
            fits = isinstance(data, bytes) and len(data) == SIZES[kind]
        elif kind is DataType.BYTE_BLOB:
            fits = isinstance(data, bytes)
        elif kind in TEXTS:
            fits = isinstance(data, str)
        elif kind is DataType.EMPTY:
            fits = data is None
        elif kind is DataType.RANGE:
            fits = isinstance(data, Range) and data.low.type is data.high.type
        elif kind in (DataType.V4_ADDR_MASK, DataType.V6_ADDR_MASK):
            fits = isinstance(data, AddressMask)
        else:
            fits = True
        if not fits:
            msg = f"{kind.name} can't hold {data!r}"
            raise ValueError(msg)


EMPTY: Final = Value(DataType.EMPTY, None)
