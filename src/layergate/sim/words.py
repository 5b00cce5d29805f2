"""The words of a scenario's line, one by one: names, times, bytes, shares, ports. What is wrong is a `WrongError`.

Worked example: of "5ms loss 1%", `seconds` takes 0.005; `options` with `loss` read as a share takes {"loss": 0.01}.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

from layergate.sim.plans import Script

_NAME: Final = re.compile(r"[A-Za-z][\w-]*(\{i\})?[\w-]*")
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s|min|h)")
_BYTES: Final = re.compile(r"([0-9]{1,12})([KMG]?)")
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%")
_INTEGER: Final = re.compile(r"[0-9]{1,10}")
_TIME_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_BYTE_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
CALL_BYTES_MAX: Final = 1 << 30
"""A call sends no more than that: it is all in memory."""


class WrongError(Exception):
    """What is wrong with a line. *found*, *accepted*."""

    def __init__(self, found: str, accepted: str) -> None:
        super().__init__(found)
        self.found, self.accepted = found, accepted


class Words:
    """The words of a line that are left, for whoever reads it. *script*: what was read before."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.words: list[str] = []

    def end(self) -> None:
        """Refuse what is left."""
        if self.words:
            raise WrongError(f"'{self.words[0]}'", "nothing more on this line")

    def word(self, what: str) -> str:
        """Take the next word; *what* is what should stand there."""
        if not self.words:
            raise WrongError("nothing", what)
        return self.words.pop(0)

    def name(self, what: str) -> str:
        """Take a name."""
        word = self.word(what)
        if not _NAME.fullmatch(word):
            raise WrongError(f"'{word}'", f"{what}: letters, digits and dashes")
        return word

    def known_host(self) -> str:
        """Take the name of a host that was named before."""
        word = self.word("the name of a host")
        if word not in self.script.hosts:
            raise WrongError(f"'{word}'", f"a host that was named: {', '.join(self.script.hosts) or 'none was'}")
        return word

    def seconds(self) -> float:
        """Take a time."""
        word = self.word("a time")
        match = _TIME.fullmatch(word)
        if not match:
            raise WrongError(f"'{word}'", "a time, such as 5ms, 2s, 3min")
        return float(match[1]) * _TIME_UNITS[match[2]]

    def byte_count(self) -> int:
        """Take a number of bytes."""
        word = self.word("a number of bytes")
        match = _BYTES.fullmatch(word)
        if not match:
            raise WrongError(f"'{word}'", "a number of bytes, such as 500, 64K, 10M")
        return int(match[1]) * _BYTE_UNITS[match[2]]

    def call_bytes(self) -> int:
        """Take what a call may send."""
        word, byte_count = self.words[0] if self.words else "", self.byte_count()
        if byte_count > CALL_BYTES_MAX:
            raise WrongError(f"'{word}'", "1G at most in a call")
        return byte_count

    def rate(self) -> int:
        """Take a rate, bytes a second."""
        rate = self.byte_count()
        if not rate:
            raise WrongError("a rate of nothing", "a byte a second at least; cut A B: nothing passes")
        return rate

    def share(self) -> float:
        """Take a share, 0 to 1."""
        word = self.word("a share")
        match = _SHARE.fullmatch(word)
        if not match or float(match[1]) > 100:
            raise WrongError(f"'{word}'", "a share, such as 1%, 100% at most")
        return float(match[1]) / 100

    def integer(self, most: int, what: str) -> int:
        """Take a number, *most* at most."""
        word = self.word(what)
        if not _INTEGER.fullmatch(word) or int(word) > most:
            raise WrongError(f"'{word}'", f"{what}, 0 to {most}")
        return int(word)

    def port(self) -> int:
        """Take a port."""
        return self.integer(0xFFFF, "a port")

    def port_range(self) -> tuple[int, int]:
        """Take two ports."""
        word = self.word("LOW-HIGH")
        low, _, high = word.partition("-")
        if not (_INTEGER.fullmatch(low) and _INTEGER.fullmatch(high) and 0 < int(low) <= int(high) <= 0xFFFF):
            raise WrongError(f"'{word}'", "two ports, LOW-HIGH")
        return int(low), int(high)

    def end_of(self) -> tuple[str, int]:
        """Take a host, or an address, and a port."""
        word = self.word("HOST:PORT")
        host, colon, port = word.rpartition(":")
        if not colon or not _INTEGER.fullmatch(port) or int(port) > 0xFFFF:
            raise WrongError(f"'{word}'", "HOST:PORT")
        if host not in self.script.hosts:
            _check_address(host)
        return host, int(port)

    def options(self, known: Mapping[str, Callable[[], object]]) -> dict[str, object]:
        """Take the options that are left: each of *known* by its name, and what it reads."""
        found: dict[str, object] = {}
        while self.words:
            word = self.words.pop(0)
            if word not in known:
                raise WrongError(f"'{word}'", " or ".join(known) or "nothing more")
            found[word] = known[word]()
        return found


def address_of(text: str, version: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address of IPv*version* that *text* is: as it is, or as the n-th of a network. Raises ValueError."""
    for one in text.strip("[]").split("|"):
        network, sharp, number = one.partition("#")
        if sharp:
            whole = ipaddress.ip_network(network)
            found = whole[int(number) % whole.num_addresses]
        else:
            found = ipaddress.ip_address(one)
        if found.version == version:
            return found
    raise ValueError(f"{text} has no address of IPv{version}")


def _check_address(text: str) -> None:
    try:
        for version in (4, 6):
            address_of(text.replace("{i}", "0"), version)
    except ValueError:
        accepted = "a host that was named, or an address of either family: 198.51.100.0/24#{i}|2001:db8::/64#{i}"
        raise WrongError(f"'{text}'", accepted) from None
