"""What a `when` says of one field, as conditions.

A value is a scalar, a list (any of them), a range "1024-65535", a prefix "10.0.0.0/8", "empty", `{ not = X }`, or, for
bits, `{ all = [...] }`, `{ any = [...] }`, `{ none = [...] }`. The rules:

- Conditions on one field that stand together are alternatives (OR). So a list is a run of conditions. `all` with `none`
  must hold at once, and is one condition: the bits of both, masked, equal those of `all`.
- `{ not = X }` of one value is NOT_EQUAL; of a list, a range or a prefix it is the ranges that X leaves over. An
  unknown (empty) value meets neither.
- An address belongs to a family. At a layer of the other family an address says nothing: a list keeps what belongs
  there, and where nothing is left the layer gets no filter. `{ not = an IPv4 address }` at a _V6 layer is every IPv6
  address.
- A v4-mapped IPv6 address is IPv4.

Worked example: `remote_port = { not = ["22", "8000-8999"] }` leaves the ranges 0-21, 23-7999 and 9000-65535.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from layergate.model import AddressMask, Condition, DataType, Family, Field, InputError, MatchType, Range, Value
from layergate.model.lines import PATHS, TOKENS, accepted_json, unmapped, value_from_json
from layergate.model.values import BITS, EMPTY, SIGNED_BITS, TEXTS
from layergate.policyfile.names import Resolver, bit_names, friendly_name, resolve_number, suggestion, value_names

EMPTY_WORD: Final = "empty"
V4_BITS: Final = 32
V6_BITS: Final = 128
# The digits of 2^64 and 2^128 are fewer: a longer text is no number, and not worth converting.
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,32}|[0-9]{1,40}")
_NUMBER_RANGE: Final = re.compile(rf"\s*({_NUMBER.pattern})\s*-\s*({_NUMBER.pattern})\s*")
_FLAG_MATCHES: Final = {
    "all": MatchType.FLAGS_ALL_SET,
    "any": MatchType.FLAGS_ANY_SET,
    "none": MatchType.FLAGS_NONE_SET,
}
_MASKS: Final = {Family.V4: DataType.V4_ADDR_MASK, Family.V6: DataType.V6_ADDR_MASK}
_SHOWN_MAX: Final = 80


class WrongValueError(Exception):
    """A value that its field can't take: where below the key it stands, what was found, what would be accepted."""

    def __init__(self, found: str, accepted: str, path: tuple[str | int, ...] = ()) -> None:
        """Keep the facts; *path* leads from the key to the part that is wrong."""
        super().__init__(found)
        self.found, self.accepted, self.path = found, accepted, path


@dataclass(frozen=True, slots=True)
class Context:
    """What reading a value needs: names, the families of the filter's layers, and who hears warnings."""

    resolver: Resolver
    families: frozenset[Family]
    warn: Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Item:
    """One alternative: the integers *low* to *high* (of *family*, for addresses), or a condition that is ready."""

    low: int = 0
    high: int = 0
    family: Family | None = None
    prefix: bool = False
    ready: Condition | None = None


def shown(data: object) -> str:
    """Return *data* as a file would write it, cut to a length that a line bears."""
    if isinstance(data, str):
        text = f"'{data}'"
    elif isinstance(data, bool):
        text = str(data).lower()
    else:
        text = repr(data)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: _SHOWN_MAX + 1])
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 3]}..."


def read_conditions(field: Field, data: object, context: Context) -> tuple[Condition, ...] | None:
    """Return the conditions that *data* puts on *field*; None where nothing of it belongs to the field's family.

    Raises:
        WrongValueError: the field can't take *data*.
    """
    if isinstance(data, dict) and "not" in data:
        if len(data) > 1:
            raise WrongValueError(f"'not' beside {_keys(set(data) - {'not'})}", "{ not = X } alone")
        try:
            return _complement(field, data["not"], context)
        except WrongValueError as error:
            raise WrongValueError(error.found, error.accepted, ("not", *error.path)) from None
    items = _items(field, data, context)
    if _is_plain(field) or field.is_address:
        return tuple(_condition(field, item) for item in items if _belongs(field, item)) or None
    return tuple(item.ready for item in items if item.ready)


def _keys(keys: Iterable[str]) -> str:
    return ", ".join(f"'{key}'" for key in sorted(keys))


def _is_plain(field: Field) -> bool:
    """Whether *field* is a plain unsigned number."""
    return field.type in BITS and not field.is_address


def _family(field: Field) -> Family:
    return Family.V4 if field.type is DataType.UINT32 else Family.V6


def _belongs(field: Field, item: _Item) -> bool:
    return item.family is None or item.family is _family(field)


def _bits(field: Field) -> int:
    if field.is_address:
        return V4_BITS if _family(field) is Family.V4 else V6_BITS
    return BITS[field.type]


def _value(field: Field, number: int) -> Value:
    if field.type is DataType.BYTE_ARRAY16:
        return Value(field.type, number.to_bytes(16, "big"))
    return Value(field.type, number)


def _range(field: Field, low: int, high: int) -> Condition:
    return Condition(field.name, MatchType.RANGE, Value(DataType.RANGE, Range(_value(field, low), _value(field, high))))


def _condition(field: Field, item: _Item) -> Condition:
    """Return *item*, which belongs to the field's family, as a condition."""
    if item.ready is not None:
        return item.ready
    if item.prefix:
        bits = _bits(field)
        mask = (1 << bits) - 1 ^ (item.high - item.low)
        return Condition(field.name, MatchType.EQUAL, Value(_MASKS[_family(field)], AddressMask(item.low, mask)))
    if item.low == item.high:
        return Condition(field.name, MatchType.EQUAL, _value(field, item.low))
    return _range(field, item.low, item.high)


def _items(field: Field, data: object, context: Context) -> list[_Item]:
    """Return the alternatives that *data*, a scalar or a list, names."""
    if not isinstance(data, list):
        return [_item(field, data, context)]
    if not data:
        raise WrongValueError("an empty list, which nothing meets", "at least one value")
    items = []
    for index, element in enumerate(data):
        try:
            items.append(_item(field, element, context))
        except WrongValueError as error:
            raise WrongValueError(error.found, error.accepted, (index, *error.path)) from None
    return items


def _item(field: Field, data: object, context: Context) -> _Item:
    if isinstance(data, dict):
        return _Item(ready=_flags(field, data))
    if data == EMPTY_WORD:
        return _Item(ready=Condition(field.name, MatchType.EQUAL, EMPTY))
    if isinstance(data, list):
        raise WrongValueError(f"a list in a list: {shown(data)}", accepted(field))
    if field.is_address:
        return _address(field, data, context)
    if _is_plain(field):
        return _number(field, data, context.resolver)
    return _Item(ready=Condition(field.name, MatchType.EQUAL, _other(field, data, context)))


def _flags(field: Field, data: dict[str, object]) -> Condition:
    """Return `{ all = [...] }` and its like as a condition."""
    unknown = set(data) - set(_FLAG_MATCHES)
    if unknown or not data:
        found = f"unknown key {_keys(unknown)}" if unknown else "an empty table"
        raise WrongValueError(found, "not, all, any or none" if _is_plain(field) else "a value, a list or { not = X }")
    if not _is_plain(field):
        raise WrongValueError(f"{_keys(data)} on {friendly_name(field.name)}, which has no bits", accepted(field))
    masks = {how: _mask(field, how, names) for how, names in data.items()}
    if len(masks) == 1:
        how, mask = next(iter(masks.items()))
        return Condition(field.name, _FLAG_MATCHES[how], Value(field.type, mask))
    if "any" in masks or field.type is not DataType.UINT32:
        raise WrongValueError(
            f"{_keys(data)} together: tests of one field are alternatives, and these would have to hold at once",
            "all with none, or one of all, any and none; put the other into a heavier filter of the opposite action",
        )
    wanted, clear = masks["all"], masks["none"]
    if wanted & clear:
        raise WrongValueError(f"{_keys(data)} name one bit both set and clear", "different bits for all and none")
    return Condition(field.name, MatchType.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(wanted, wanted | clear)))


def _mask(field: Field, how: str, names: object) -> int:
    """Return the bits of *names*, a name or a list of them."""
    mask = 0
    for index, name in enumerate(names if isinstance(names, list) else [names]):
        try:
            mask |= flag_bits(field, name)
        except WrongValueError as error:
            raise WrongValueError(error.found, error.accepted, (how, index)) from None
    if not mask:
        raise WrongValueError(f"{how} of no bit at all", _bit_words(field), (how,))
    return mask


def flag_bits(field: Field, name: object) -> int:
    """Return the bit that *name* (or a number) stands for in *field*. Raises WrongValueError."""
    if isinstance(name, str):
        known = bit_names(field)
        bit = known.get(name.lower().removeprefix("is_"))
        if bit is not None:
            return bit
        if not _NUMBER.fullmatch(name):
            close = suggestion(name, known)
            raise WrongValueError(f"unknown flag {shown(name)}", f"{close}{_bit_words(field)}")
        name = int(name, 0) if name[:2].lower() == "0x" else int(name)
    if type(name) is not int or not 0 <= name < 1 << BITS[field.type]:
        raise WrongValueError(f"{shown(name)} is no flag", _bit_words(field))
    return name


def _bit_words(field: Field) -> str:
    names = ", ".join(bit_names(field))
    return f"one or more of {names}" if names else f"numbers, 0 to {(1 << BITS[field.type]) - 1}"


def accepted(field: Field) -> str:
    """Return, in words, what *field* takes."""
    if field.is_address:
        return "an address, a prefix '10.0.0.0/8', a range '10.0.0.1-10.0.0.9', 'empty', a list of them, { not = X }"
    if _is_plain(field):
        top = (1 << BITS[field.type]) - 1
        names = value_names(field)
        words = f"a name ({', '.join(names)}), " if names else ""
        if field.name.endswith("_PORT"):
            words = "a service name, "
        if field.name.endswith("INTERFACE_INDEX"):
            words = "an interface's name, "
        if bit_names(field):
            words = "{ all = [...] }, { any = [...] }, { none = [...] } by names, "
        return f"{words}a number 0 to {top}, a range '1-9', 'empty', a list of them, {{ not = X }}"
    if field.type in TOKENS:
        return "a user's name or id, 'empty', a list of them, { not = one user }"
    if field.name == "ALE_PACKAGE_ID":
        return "a unit ('nginx.service') or a cgroup's path, 'empty', a list of them, { not = one of them }"
    if field.name in PATHS:
        return "an absolute path, 'empty', a list of them, { not = one path }"
    return f"{accepted_json(field).removesuffix(', or null')}, 'empty', a list of them, {{ not = one of them }}"


def _number(field: Field, data: object, resolver: Resolver) -> _Item:
    """Return a number, a range of numbers, or a word that stands for one."""
    top = (1 << BITS[field.type]) - 1
    if isinstance(data, str):
        span = _NUMBER_RANGE.fullmatch(data)
        if span:
            low, high = _integer(span[1]), _integer(span[2])
            if low > high:
                raise WrongValueError(f"the range {shown(data)} is upside down", f"'{high}-{low}'")
            if high > top:
                raise WrongValueError(f"{high} is too much for {friendly_name(field.name)}", f"0 to {top}")
            return _span(field, low, high)
        if _NUMBER.fullmatch(data.strip()):
            data = _integer(data.strip())
        else:
            number = resolve_number(field, data, resolver)
            if number is None:
                if data.lower().removeprefix("is_") in bit_names(field):
                    raise WrongValueError(f"{shown(data)} alone is no test", f'{{ all = ["{data}"] }}, or any, or none')
                names = value_names(field) or bit_names(field)
                raise WrongValueError(f"unknown value {shown(data)}", f"{suggestion(data, names)}{accepted(field)}")
            data = number
    if type(data) is not int:
        raise WrongValueError(f"{shown(data)} is no number", accepted(field))
    if not 0 <= data <= top:
        raise WrongValueError(f"{shown(data)} is out of range", f"0 to {top}")
    return _Item(data, data)


def _integer(text: str) -> int:
    return int(text, 16) if text[:2].lower() == "0x" else int(text)


def _span(field: Field, low: int, high: int, family: Family | None = None) -> _Item:
    """Return the range *low* to *high*, kept as a range even where both are the same."""
    if low == high and (family is None or family is _family(field)):
        return _Item(low, high, family, ready=_range(field, low, high))
    return _Item(low, high, family)


def _address(field: Field, data: object, context: Context) -> _Item:
    """Return an address, a prefix or a range of addresses; its family is its own."""
    if not isinstance(data, str):
        raise WrongValueError(f"{shown(data)} is no address", accepted(field))
    text = data.strip()
    low_text, dash, high_text = (part.strip() for part in text.partition("-"))
    try:
        if dash:
            family, low = _parsed(low_text)
            other, high = _parsed(high_text)
            if family is not other:
                raise WrongValueError(f"{shown(data)} runs from one family into the other", "a range within one family")
            if low > high:
                raise WrongValueError(f"the range {shown(data)} is upside down", f"'{high_text}-{low_text}'")
            item = _span(field, low, high, family)
        elif "/" in text:
            item = _prefix(text)
        else:
            family, low = _parsed(text)
            item = _Item(low, low, family)
    except ValueError:
        raise WrongValueError(f"{shown(data)} is no address", accepted(field)) from None
    if item.family not in context.families:
        wrong, right = ("IPv4", "IPv6") if item.family is Family.V4 else ("IPv6", "IPv4")
        raise WrongValueError(
            f"{shown(data)} is {wrong}, and the layer is of {right} only",
            f"an {right} address, or the layer of {wrong}",
        )
    return item


def _parsed(text: str) -> tuple[Family, int]:
    """Return (family, number) of an address; a v4-mapped one is IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return Family.V4, int(address)
    if address.scope_id:
        raise ValueError(text)
    mapped = address.ipv4_mapped
    return (Family.V6, int(address)) if mapped is None else (Family.V4, int(mapped))


def _prefix(text: str) -> _Item:
    """Return a prefix; bits behind its length don't count. Raises ValueError."""
    network = ipaddress.ip_network(text, strict=False)
    low, high = int(network.network_address), int(network.broadcast_address)
    family = Family.V4 if network.version == 4 else Family.V6
    mapped = ipaddress.IPv6Network("::ffff:0:0/96")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(mapped):
        family, low, high = Family.V4, low & 0xFFFFFFFF, high & 0xFFFFFFFF
    if "%" in text:
        raise ValueError(text)
    return _Item(low, high, family, prefix=True)


def _other(field: Field, data: object, context: Context) -> Value:
    """Return one value of a field that is neither number nor address: user, path, unit, bytes, text."""
    if field.type in TOKENS:
        return Value(DataType.UINT32, _user(field, data, context.resolver))
    if field.type in SIGNED_BITS:
        raise WrongValueError(f"{shown(data)}", accepted(field))
    if not isinstance(data, str):
        raise WrongValueError(f"{shown(data)} is no text", accepted(field))
    if field.name in PATHS:
        return Value(field.type, _path(data, field, context).encode("utf-8", "surrogateescape"))
    if not is_text(data):
        raise WrongValueError(f"{shown(data)} is no Unicode text", accepted(field))
    if field.type in TEXTS:
        name = context.resolver.unit(data) if field.name == "ALE_PACKAGE_ID" else None
        if not data:
            raise WrongValueError("an empty text", accepted(field))
        return Value(field.type, name or data)
    try:
        value = value_from_json(field, data)
    except InputError as error:
        raise WrongValueError(error.found, accepted(field)) from None
    return value or EMPTY


def is_text(data: str) -> bool:
    """Whether *data* is Unicode text that can be written out: no lone surrogates."""
    try:
        data.encode()
    except UnicodeEncodeError:
        return False
    return True


def _user(field: Field, data: object, resolver: Resolver) -> int:
    number = data
    if isinstance(data, str):
        number = int(data) if re.fullmatch(r"[0-9]{1,10}", data) else resolve_number(field, data, resolver)
        if number is None:
            raise WrongValueError(f"unknown user {shown(data)}", "a user of this host, or a user id")
    if type(number) is not int or not 0 <= number < 1 << 32:
        raise WrongValueError(f"{shown(data)} is no user", accepted(field))
    return number


def _path(data: str, field: Field, context: Context) -> str:
    if not data.startswith("/") or "\0" in data:
        raise WrongValueError(f"{shown(data)} is no absolute path", accepted(field))
    try:
        data.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise WrongValueError(f"{shown(data)} is no path", accepted(field)) from None
    canonical = context.resolver.executable(data)
    if canonical is None:
        context.warn(f"{shown(data)} does not exist", "an existing executable; until there is one, nothing matches")
        return posixpath.normpath(data)
    return canonical


def _complement(field: Field, data: object, context: Context) -> tuple[Condition, ...] | None:
    """Return the conditions of `{ not = data }`."""
    if isinstance(data, dict):
        raise WrongValueError(f"{shown(data)} in a 'not'", "a value, a list, a range or a prefix")
    if not (_is_plain(field) or field.is_address):
        if isinstance(data, list) or data == EMPTY_WORD:
            raise WrongValueError(
                f"'not' of {shown(data)} on {friendly_name(field.name)}",
                "one value; or a heavier filter for the others",
            )
        return (Condition(field.name, MatchType.NOT_EQUAL, _other(field, data, context)),)
    items = _items(field, data, context)
    if any(item.ready and item.ready.match in _FLAG_MATCHES.values() for item in items):
        raise WrongValueError(f"'not' of {shown(data)}", "none = [...] for all clear; all = [...] for all set")
    is_single = not isinstance(data, list) and not items[0].prefix and items[0].ready is None
    if is_single and items[0].low == items[0].high and _belongs(field, items[0]):
        return (Condition(field.name, MatchType.NOT_EQUAL, _value(field, items[0].low)),)
    covered = [
        (item.low, item.high)
        for item in items
        if _belongs(field, item) and not (item.ready and item.ready.value.type is DataType.EMPTY)
    ]
    left = gaps(covered, (1 << _bits(field)) - 1)
    if not left and not field.is_address:
        raise WrongValueError(f"'not' of {shown(data)} leaves nothing over", "a value that leaves others over")
    return tuple(_range(field, low, high) for low, high in left) or None


def gaps(covered: Sequence[tuple[int, int]], top: int) -> list[tuple[int, int]]:
    """Return the ranges of 0 to *top* that the ranges *covered* leave over, ascending. Cost: O(n log n)."""
    left = []
    begin = 0
    for low, high in sorted(covered):
        if low > begin:
            left.append((begin, low - 1))
        begin = max(begin, high + 1)
    if begin <= top:
        left.append((begin, top))
    return left


def value_from_text(field: Field, text: str, resolver: Resolver) -> Value | None:
    """Return *text*, as a command line gives it, as one value of *field*; None for "empty".

    Names are resolved as in a file; bits are names or numbers, separated by commas. A v4-mapped address stays as it is.
    Raises InputError.
    """
    if text == EMPTY_WORD:
        return None
    try:
        return _value_from_text(field, text, resolver)
    except WrongValueError as error:
        raise InputError(f"{friendly_name(field.name)} = {shown(text)}: {error.found}", error.accepted) from None


def _value_from_text(field: Field, text: str, resolver: Resolver) -> Value:
    if field.is_address:
        try:
            value = value_from_json(field, text)
        except InputError:
            family = "IPv4" if _family(field) is Family.V4 else "IPv6"
            raise WrongValueError(f"no {family} address", f"one {family} address, or empty") from None
        return value or EMPTY
    if bit_names(field):
        mask = 0
        for name in text.split(","):
            mask |= flag_bits(field, name.strip()) if name.strip() else 0
        return Value(field.type, mask)
    if _is_plain(field):
        item = _number(field, text, resolver)
        if item.low != item.high:
            raise WrongValueError("a range", "one value")
        return _value(field, item.low)
    context = Context(resolver, frozenset(Family), lambda _found, _accepted: None)
    value = _other(field, text, context)
    # A condition tests a token with a user id; the value itself is the token.
    return Value(field.type, value.data) if field.type in TOKENS else value


__all__ = [
    "EMPTY_WORD",
    "Context",
    "WrongValueError",
    "accepted",
    "flag_bits",
    "gaps",
    "is_text",
    "read_conditions",
    "shown",
    "unmapped",
    "value_from_text",
]
