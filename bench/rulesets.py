"""Filter sets as the classification literature has them, and headers for them: three flavours, any size, by seed.

    acl   most filters name a remote network of /16 to /32, half a local one; remote ports exact or a range
    fw    two fifths name no remote network; many ranges of ports; applications and users instead
    eb    five fields; remote and local networks from 8,192 prefixes that are nested into one another

Filters overlap and there is no default. Headers: *uniform* draws a filter and a point inside it; *mixed* shuffles the
fields of half of them among one another; *skewed* draws filters by a Pareto law.
Source of the shapes: Taylor and Turner, "ClassBench: A Packet Classification Benchmark", 2007.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    Layer,
    MatchType,
    Policy,
    Range,
    Sublayer,
    Value,
    layer_named,
)

FLAVOURS: Final = ("acl", "fw", "eb")
HEADERS: Final = ("uniform", "mixed", "skewed")
PREFIXES: Final = 8192
APPS: Final = 64
USERS: Final = 200
_PORT_MAX: Final = 65535
_FULL: Final = {4: 32, 6: 128}
_TCP, _UDP = 6, 17
Header = dict[str, int]
"""By field: a number; an application is 1 to APPS."""
Box = dict[str, tuple[int, int]]
Networks = list[tuple[int, int]]


@dataclass(frozen=True)
class Ruleset:
    """*count* filters of a *flavour* at ALE_AUTH_RECV_ACCEPT, of the *family* 4 or 6, in *sublayers* of like size."""

    flavour: str
    count: int
    family: int = 4
    sublayers: int = 1
    seed: int = 1

    @property
    def layer(self) -> Layer:
        """The layer: it has every field."""
        layer = layer_named(f"ALE_AUTH_RECV_ACCEPT_V{self.family}")
        assert layer is not None
        return layer

    @cached_property
    def boxes(self) -> list[Box]:
        """By filter: field → (least, greatest), for the fields that it tests."""
        dice = random.Random(f"{self.flavour} {self.count} {self.family} {self.seed}")
        remote, local = self._networks(dice), self._networks(dice)
        draw = {"acl": self._acl, "fw": self._fw, "eb": self._eb}[self.flavour]
        return [_told_apart(draw(dice, remote, local), dice) for _ in range(self.count)]

    def _networks(self, dice: random.Random) -> Networks:
        """Return prefixes as ranges: each is drawn below another one, so that they nest."""
        bits = _FULL[self.family]
        count = PREFIXES if self.flavour == "eb" else max(32, min(PREFIXES, self.count // 2))
        lengths = (8, 12, 16, 20, 24, 24, 28, 32, 32, 32) if self.family == 4 else (20, 32, 40, 48, 56, 64, 64, 96, 128)
        prefixes = [(dice.getrandbits(8) << bits - 8, 8) for _ in range(24)]
        while len(prefixes) < count:
            base, length = prefixes[int(len(prefixes) * dice.random() ** 2)]
            longer = dice.choice(lengths)
            if longer <= length:
                base, length = 0, 0
                longer = dice.choice(lengths[:4])
            fresh = dice.getrandbits(longer - length) << bits - longer
            prefixes.append((base | fresh, longer))
        return [(base, base | (1 << bits - length) - 1) for base, length in prefixes]

    def _acl(self, dice: random.Random, remote: Networks, local: Networks) -> Box:
        box = {"IP_REMOTE_ADDRESS": dice.choice(remote)} if dice.random() < 0.93 else {}
        if dice.random() < 0.55:
            box["IP_LOCAL_ADDRESS"] = dice.choice(local)
        if dice.random() < 0.75:
            box["IP_REMOTE_PORT"] = _port(dice, exact=0.75)
        if dice.random() < 0.05:
            box["IP_LOCAL_PORT"] = _port(dice, exact=0.5)
        return box | _rest(dice, protocol=0.85, app=0.12, user=0.05)

    def _fw(self, dice: random.Random, remote: Networks, local: Networks) -> Box:
        box = {"IP_REMOTE_ADDRESS": dice.choice(remote)} if dice.random() < 0.6 else {}
        if dice.random() < 0.5:
            box["IP_LOCAL_ADDRESS"] = dice.choice(local)
        if dice.random() < 0.7:
            box["IP_REMOTE_PORT"] = _port(dice, exact=0.5)
        if dice.random() < 0.3:
            box["IP_LOCAL_PORT"] = _port(dice, exact=0.3)
        return box | _rest(dice, protocol=0.8, app=0.35, user=0.2)

    def _eb(self, dice: random.Random, remote: Networks, local: Networks) -> Box:
        box = {"IP_REMOTE_ADDRESS": dice.choice(remote), "IP_LOCAL_ADDRESS": dice.choice(local)}
        if dice.random() < 0.5:
            box["IP_REMOTE_PORT"] = _port(dice, exact=0.6)
        if dice.random() < 0.25:
            box["IP_LOCAL_PORT"] = _port(dice, exact=0.5)
        return box | _rest(dice, protocol=0.7, app=0, user=0)

    def filters(self) -> tuple[Filter, ...]:
        """Return the filters: the first is the heaviest, half of them permit."""
        dice = random.Random(f"actions {self.seed}")
        return tuple(
            Filter(
                id=number,
                name=f"{self.flavour} {number}",
                layer=self.layer,
                sublayer=f"s{dice.randrange(self.sublayers)}",
                action=dice.choice((Action.PERMIT, Action.BLOCK)),
                conditions=tuple(self._condition(name, *span) for name, span in box.items()),
                weight=Value(DataType.UINT64, self.count - number + 1),
            )
            for number, box in enumerate(self.boxes, 1)
        )

    def policy(self) -> Policy:
        """Return the policy."""
        return Policy(tuple(Sublayer(f"s{place}", 1000 - place) for place in range(self.sublayers)), self.filters())

    def _condition(self, name: str, low: int, high: int) -> Condition:
        kind = _TYPES.get(name, DataType.UINT32)
        if name.endswith("_ADDRESS"):
            bits = _FULL[self.family]
            mask = ((1 << bits) - 1) ^ (high - low)
            kind = DataType.V4_ADDR_MASK if self.family == 4 else DataType.V6_ADDR_MASK
            return Condition(name, MatchType.EQUAL, Value(kind, AddressMask(low, mask)))
        if name == "ALE_APP_ID":
            return Condition(name, MatchType.EQUAL, Value(DataType.BYTE_BLOB, app(low)))
        if low == high:
            return Condition(name, MatchType.EQUAL, Value(kind, low))
        return Condition(name, MatchType.RANGE, Value(DataType.RANGE, Range(Value(kind, low), Value(kind, high))))

    def headers(self, kind: str, count: int) -> Iterator[Header]:
        """Yield *count* headers of a *kind* of HEADERS."""
        dice = random.Random(f"{kind} {self.seed}")
        boxes = self.boxes
        if kind != "mixed":
            for _ in range(count):
                place = int(dice.paretovariate(1) * 8) % len(boxes) if kind == "skewed" else dice.randrange(len(boxes))
                yield self._inside(boxes[place], dice)
            return
        for number in range(count):
            header = self._inside(dice.choice(boxes), dice)
            if number % 2:
                other = self._inside(dice.choice(boxes), dice)
                header = {name: dice.choice((header, other))[name] for name in header}
            yield header

    def _inside(self, box: Box, dice: random.Random) -> Header:
        top = (1 << _FULL[self.family]) - 1
        spans = {
            "IP_REMOTE_ADDRESS": (0, top),
            "IP_LOCAL_ADDRESS": (0, top),
            "IP_REMOTE_PORT": (0, _PORT_MAX),
            "IP_LOCAL_PORT": (1024, _PORT_MAX),
            "IP_PROTOCOL": (_TCP, _TCP),
            "ALE_APP_ID": (1, APPS),
            "ALE_USER_ID": (1000, 1000 + USERS),
        } | box
        return {name: dice.randint(*span) for name, span in spans.items()}

    def values(self, header: Header) -> dict[str, Value]:
        """Return *header* as the values of an indication."""
        result = {}
        for name, number in header.items():
            kind = _TYPES.get(name, DataType.UINT32)
            if name == "ALE_APP_ID":
                result[name] = Value(DataType.BYTE_BLOB, app(number))
            elif name == "ALE_USER_ID":
                result[name] = Value(DataType.TOKEN_ACCESS_INFORMATION, number)
            elif name.endswith("_ADDRESS") and self.family == 6:
                result[name] = Value(DataType.BYTE_ARRAY16, number.to_bytes(16, "big"))
            else:
                result[name] = Value(kind, number)
        return result


def app(number: int) -> bytes:
    """Return the path of application *number*."""
    return f"/usr/bin/app-{number}".encode()


def _told_apart(box: Box, dice: random.Random) -> Box:
    """Return *box*, with an application and a port where it would be all but a default."""
    if any(name.endswith("_ADDRESS") for name in box) and len(box) > 1:
        return box
    number, port = 1 + int(APPS * dice.random() ** 2), _port(dice, exact=1)
    return {"ALE_APP_ID": (number, number), "IP_REMOTE_PORT": port} | box


def _port(dice: random.Random, *, exact: float) -> tuple[int, int]:
    if dice.random() < exact:
        port = dice.choice((22, 25, 53, 80, 110, 123, 143, 443, 993, 3306, 5432, 8080, dice.randint(1, _PORT_MAX)))
        return port, port
    if dice.random() < 0.5:
        return dice.choice(((1024, _PORT_MAX), (0, 1023), (49152, _PORT_MAX)))
    low = dice.randint(1, _PORT_MAX - 1)
    return low, min(_PORT_MAX, low + dice.choice((1, 9, 99, 999)))


def _rest(dice: random.Random, *, protocol: float, app: float, user: float) -> Box:
    box = {}
    if dice.random() < protocol:
        number = dice.choice((_TCP, _TCP, _TCP, _UDP))
        box["IP_PROTOCOL"] = (number, number)
    for name, share, low, count in (("ALE_APP_ID", app, 1, APPS), ("ALE_USER_ID", user, 1000, USERS)):
        if dice.random() < share:
            number = low + int(count * dice.random() ** 2)
            box[name] = (number, number)
    return box


_TYPES: Final = {"IP_PROTOCOL": DataType.UINT8, "IP_LOCAL_PORT": DataType.UINT16, "IP_REMOTE_PORT": DataType.UINT16}
