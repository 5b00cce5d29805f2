"""Scenarios as text: hosts, links, programs, and what they do, one thing a line.

    # The first comment is the title; what follows it explains.
    host client 10.9.0.1/24 fd09::1/64
    host server 10.9.0.2/24 fd09::2/64
    link client server delay 5ms loss 1%
    program curl at client app /usr/bin/curl
    program nginx at server app /usr/sbin/nginx user 33

    nginx: listen L 80
    curl: connect C server:80
    nginx: accept S from L
    curl: send C 500
    nginx: receive S 500
    curl: close C
    nginx: receive S all

`parse` reads it, with every error of a file in one go; `run` (in `running`) plays it. Words:

    host NAME ADDRESS... [forwards] [forgets TIME] [ports LOW-HIGH]      tcp HOST OPTION VALUE...
    policy HOST: and indented TOML, in force from the beginning; change HOST: another one, from here on
    link A B [delay TIME] [rate BYTES] [loss SHARE] [duplication SHARE] [reordering SHARE] [queue BYTES]
    program NAME at HOST app PATH [user NUMBER] [unit NAME]

    PROGRAM: bind NAME [PORT] · listen NAME PORT [backlog N] · connect NAME HOST:PORT [from PORT] [within TIME]
             accept NAME from LISTENER [within TIME] · send NAME BYTES · receive NAME BYTES|all [within TIME]
             shutdown NAME · close NAME · reset NAME
             open NAME PORT · send-to NAME HOST:PORT BYTES · receive-from NAME [within TIME] · close NAME      (UDP)
             ... -> ERROR      the call is to end so: an errno's name, or timeout
    wait TIME · cut A B · join A B · crash HOST · expect NAME STATE · note TEXT
    forge HOST FLAGS from ADDRESS:PORT to HOST:PORT [sequence N] [acknowledgment N]
    repeat N [every TIME]: and an indented block, in which {i} counts from 0 · beside: a block that runs beside the rest
    measure TEXT: a block; a note says how long it took, and how many packets

TIME is 5ms, 2s or 3min; BYTES 500, 64K, 10M; SHARE 1%. ADDRESS is one of each family, "198.51.100.7|2001:db8::7"; with
"198.51.100.0/24#{i}" the i-th of a network. {i} is that of the innermost repeat.

Source: the scenarios in this folder; google/packetdrill for the idea that a scenario is text.
"""

from __future__ import annotations

import errno
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from layergate.model import PolicyError, Problem
from layergate.sim.link import LinkConfig
from layergate.sim.plans import (
    ALL,
    Block,
    Call,
    Forge,
    Happens,
    HostPlan,
    LinkPlan,
    ProgramPlan,
    Script,
    Statement,
)
from layergate.sim.words import Words, WrongError
from layergate.tcp import Config, Flag, State

INDENT: Final = "    "
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_ERRORS: Final = frozenset({"timeout", *errno.errorcode.values()})
_FLAG_LETTERS: Final = {"S": Flag.SYN, "F": Flag.FIN, "R": Flag.RST, "P": Flag.PSH, ".": Flag.ACK, "U": Flag.URG}


def parse(text: str, file: str) -> Script:
    """Return the scenario that *text* is. Raises PolicyError, with the problems of all its lines."""
    script = Script(file)
    lines = [line.expandtabs(len(INDENT)).rstrip() for line in text.split("\n")]
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(_CONTROL.sub("", line.lstrip("# ")))
    script.title, script.about = (comment[0] if comment else file), "\n".join(comment[1:]).strip()
    problems: list[Problem] = []
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not _is_comment(line)]
    for place, line, body in _blocks(numbered):
        try:
            _Reader(script).read(place, line, body)
        except WrongError as wrong:
            problems.append(Problem(file, place, line.strip(), wrong.found, wrong.accepted))
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(tuple(problems))
    return script


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _blocks(numbered: list[tuple[int, str]]) -> Iterator[tuple[int, str, tuple[tuple[int, str], ...]]]:
    """Yield each line with the indented ones below it, their indentation cut off."""
    at = 0
    while at < len(numbered):
        place, line = numbered[at]
        body = []
        at += 1
        while at < len(numbered) and numbered[at][1].startswith(INDENT) and not line.startswith(" "):
            body.append((numbered[at][0], numbered[at][1][len(INDENT) :]))
            at += 1
        yield place, line, tuple(body)


def statements(block: Block, number: int) -> list[Statement]:
    """Return a block's statements; if it repeats, with {i} replaced by *number*. Raises PolicyError."""
    script = Script(block.script.file)
    script.hosts, script.links, script.programs = block.script.hosts, block.script.links, block.script.programs
    problems: list[Problem] = []
    for place, line, body in _blocks(_numbered(block, number)):
        try:
            _Reader(script, in_block=True).read(place, line, body)
        except WrongError as wrong:
            problems.append(Problem(script.file, place, line.strip(), wrong.found, wrong.accepted))
    if problems:
        raise PolicyError(tuple(problems))
    return script.statements


def _numbered(block: Block, number: int) -> list[tuple[int, str]]:
    """Return a block's lines with {i} replaced, but for those of a repeat within: its {i} is its own."""
    if not block.repeats:
        return list(block.body)
    lines, inner = [], None  # inner: how far the repeat within is indented
    for place, line in block.body:
        depth = len(line) - len(line.lstrip(" "))
        if inner is not None and depth <= inner:
            inner = None
        lines.append((place, line if inner is not None else line.replace("{i}", str(number))))
        if inner is None and line.startswith("repeat ", depth):
            inner = depth
    return lines


class _Reader(Words):
    """Reads one line, with its block, into a script."""

    def __init__(self, script: Script, *, in_block: bool = False) -> None:
        super().__init__(script)
        self.in_block = in_block
        self.place = 0
        self.body: tuple[tuple[int, str], ...] = ()

    def read(self, place: int, line: str, body: tuple[tuple[int, str], ...]) -> None:
        """Read *line*. Raises WrongError."""
        if line.startswith(" "):
            raise WrongError("indented", f"blocks stand below a line that ends in a colon, by {len(INDENT)} spaces")
        self.place, self.body = place, body
        self.words = line.split()
        first = self.words[0]
        if _CONTROL.search(line):
            raise WrongError("a control character", "text that can be printed")
        if "{i}" in line:
            raise WrongError("{i}", "it only in a block that is repeated")
        if first in _PLANS and self.in_block:
            raise WrongError(f"'{first}' in a block", "it before all blocks: the world is made before anything happens")
        if first in _PLANS:
            self.words.pop(0)
            _PLANS[first](self)
            self.end()
        elif first.endswith(":") and first[:-1] in self.script.programs:
            self.script.statements.append(self._call(line.strip()))
        elif first in _STATEMENTS:
            self.words.pop(0)
            self.script.statements.append(_STATEMENTS[first](self))
            self.end()
        else:
            known = ", ".join([*_PLANS, *_STATEMENTS])
            raise WrongError(f"'{first}'", f"a program that was named, with a colon, or one of {known}")
        if self.body:
            raise WrongError("an indented block below it", "only policy, change, repeat, beside and measure have one")

    # --- plans --------------------------------------------------------------------------------------------------------

    def host(self) -> None:
        """Host NAME ADDRESS... [forwards] [forgets TIME]."""
        name = self.name("the name of a host")
        if name in self.script.hosts:
            raise WrongError(f"another host {name}", "a name for each host")
        addresses = []
        while (
            self.words
            and self.words[0][0] in "0123456789abcdef:"
            and self.words[0] not in ("forwards", "forgets", "ports")
        ):
            word = self.words.pop(0)
            try:
                ipaddress.ip_interface(word)
            except ValueError:
                raise WrongError(f"'{word}'", "an address with its prefix, such as 10.9.0.1/24") from None
            addresses.append(word)
        options: dict[str, Any] = self.options(
            {"forwards": lambda: True, "forgets": self.seconds, "ports": self.port_range}
        )
        self.script.hosts[name] = HostPlan(
            name, tuple(addresses), "forwards" in options, options.get("forgets"), options.get("ports")
        )

    def link(self) -> None:
        """Link A B and how it behaves."""
        ends = self.known_host(), self.known_host()
        if ends[0] == ends[1]:
            raise WrongError(f"a link from {ends[0]} to itself", "two hosts; its loopback a host has anyway")
        options = self.options(
            {
                "delay": self.seconds,
                "rate": self.rate,
                "loss": self.share,
                "duplication": self.share,
                "reordering": self.share,
                "queue": self.byte_count,
            }
        )
        if any(set(one.ends) == set(ends) for one in self.script.links):
            raise WrongError(f"another link between {ends[0]} and {ends[1]}", "a link for each pair of hosts")
        names = {"delay": "delay_s", "queue": "queue_bytes_max"}
        given: dict[str, Any] = {names.get(name, name): value for name, value in options.items()}
        config = LinkConfig(**given)
        self.script.links.append(LinkPlan(ends, config))

    def program(self) -> None:
        """Program NAME at HOST app PATH [user NUMBER] [unit NAME]."""
        name = self.name("the name of a program")
        if name in self.script.programs:
            raise WrongError(f"another program {name}", "a name for each program")
        self._literally("at")
        host = self.known_host()
        self._literally("app")
        app = self.word("the path of an executable")
        options = self.options(
            {"user": lambda: self.integer(0xFFFFFFFF, "a user id"), "unit": lambda: self.word("the name of a unit")}
        )
        user, unit = options.get("user", 0), options.get("unit")
        self.script.programs[name] = ProgramPlan(
            name, host, app, user if isinstance(user, int) else 0, unit if isinstance(unit, str) else None
        )

    def tcp(self) -> None:
        """Tcp HOST OPTION VALUE..., options as `tcp.Config` has them."""
        options = self.script.options.setdefault(self.known_host(), {})
        kinds = {one.name: str(one.type) for one in fields(Config)}
        while self.words:
            word = self.words.pop(0)
            if word not in kinds:
                raise WrongError(f"'{word}'", f"an option of TCP: {', '.join(kinds)}")
            options[word] = self._option(kinds[word])
        try:
            Config(**options)  # type: ignore[arg-type]
        except ValueError as error:
            raise WrongError(str(error), "options that a connection could live with") from None

    def _option(self, kind: str) -> object:
        if kind.startswith("bool"):
            word = self.word("on or off")
            if word not in ("on", "off"):
                raise WrongError(f"'{word}'", "on or off")
            return word == "on"
        if kind.endswith("None") and self.words[:1] == ["none"]:
            return self.words.pop(0) and None
        return self.seconds() if kind.startswith("float") else self.byte_count()

    def _literally(self, word: str) -> None:
        found = self.word(word)
        if found != word:
            raise WrongError(f"'{found}'", word)

    def policy(self) -> None:
        """Policy HOST: in force from the beginning."""
        host, text = self._policy()
        if host in self.script.policies:
            raise WrongError(f"another policy of {host}", f"one; change {host}: has another, later")
        self.script.policies[host] = text

    def _policy(self) -> tuple[str, str]:
        if self.words and self.words[-1].endswith(":"):
            self.words[-1] = self.words[-1][:-1]
        host = self.known_host()
        lines = dict(self.body)  # blank ones and comments were left out, but count
        text = "\n".join(lines.get(place, "") for place in range(1, max(lines, default=0) + 1))
        self.body = ()
        return host, text

    # --- statements ---------------------------------------------------------------------------------------------------

    def change(self) -> Happens:
        """Change HOST: another policy, in the middle of the session."""
        place = self.place
        host, text = self._policy()
        return Happens(place, "policy", (host,), text=text)

    def wait(self) -> Happens:
        """Wait TIME."""
        return Happens(self.place, "wait", seconds=self.seconds())

    def cut(self) -> Happens:
        """Cut A B: pull the cable."""
        return Happens(self.place, "cut", self._linked())

    def join(self) -> Happens:
        """Join A B: plug it in again."""
        return Happens(self.place, "join", self._linked())

    def _linked(self) -> tuple[str, str]:
        ends = self.known_host(), self.known_host()
        if not any(set(one.ends) == set(ends) for one in self.script.links):
            raise WrongError(" ".join(ends), "two hosts with a link between them")
        return ends

    def crash(self) -> Happens:
        """Crash HOST."""
        return Happens(self.place, "crash", (self.known_host(),))

    def expect(self) -> Happens:
        """Expect NAME STATE."""
        name, state = self.name("the name of a socket"), self.word("a state")
        if state not in State.__members__:
            raise WrongError(f"'{state}'", f"a state: {', '.join(State.__members__)}")
        return Happens(self.place, "expect", (name,), text=state)

    def note(self) -> Happens:
        """Note TEXT."""
        text, self.words = " ".join(self.words), []
        return Happens(self.place, "note", text=text)

    def forge(self) -> Forge:
        """Forge HOST FLAGS from ADDRESS:PORT to HOST:PORT [sequence N] [acknowledgment N]."""
        host = self.known_host()
        letters = self.word("flags")
        if letters != "none" and any(letter not in _FLAG_LETTERS for letter in letters):
            raise WrongError(f"'{letters}'", "flags as tcpdump writes them: S F R P . U, or none")
        flags = Flag.NONE
        for letter in letters if letters != "none" else "":
            flags |= _FLAG_LETTERS[letter]
        self._literally("from")
        source, source_port = self.end_of()
        self._literally("to")
        destination, destination_port = self.end_of()
        number = lambda: self.integer(0xFFFFFFFF, "a number")  # noqa: E731
        options = self.options({"sequence": number, "acknowledgment": number})
        return Forge(
            self.place,
            host,
            flags,
            source,
            source_port,
            destination,
            destination_port,
            *(value if isinstance(value := options.get(key, 0), int) else 0 for key in ("sequence", "acknowledgment")),
        )

    def repeat(self) -> Block:
        """Repeat N [every TIME]: a block."""
        self._colon()
        count = self.integer(10_000_000, "how often")
        options: dict[str, Any] = self.options({"every": self.seconds})
        return self._block(repeats=True, count=count, every_s=options.get("every", 0.0))

    def beside(self) -> Block:
        """Beside: a block."""
        return self._block(beside=True)

    def measure(self) -> Block:
        """Measure TEXT: a block."""
        self._colon()
        text, self.words = " ".join(self.words), []
        return self._block(measured=text)

    def _colon(self) -> None:
        if not self.words or not self.words[-1].endswith(":"):
            raise WrongError("no colon", "a colon at the end, and a block below")
        self.words[-1] = self.words[-1][:-1]
        if not self.words[-1]:
            self.words.pop()

    def _block(
        self,
        *,
        repeats: bool = False,
        count: int = 1,
        every_s: float = 0.0,
        beside: bool = False,
        measured: str = "",
    ) -> Block:
        body, self.body = self.body, ()
        if not body:
            raise WrongError("no block below", f"lines that are indented by {len(INDENT)} spaces")
        block = Block(self.place, repeats, beside, count, every_s, measured, body, self.script)
        statements(block, 0)  # its errors are the file's
        return block

    def _call(self, text: str) -> Call:
        program = self.words.pop(0)[:-1]
        outcome = None
        if "->" in self.words:
            at = self.words.index("->")
            rest, self.words = self.words[at + 1 :], self.words[:at]
            if len(rest) != 1:
                raise WrongError(" ".join(rest) or "nothing", "one word behind ->: an errno's name, or timeout")
            outcome = rest[0]
            if outcome not in _ERRORS:
                raise WrongError(f"'{outcome}'", "an errno's name, such as ECONNREFUSED, or timeout")
        verb = self.word("a call")
        if verb not in _CALLS:
            raise WrongError(f"'{verb}'", f"a call: {', '.join(_CALLS)}")
        name = self.name("the name of a socket")
        given: dict[str, Any] = _CALLS[verb](self)
        readers: dict[str, Callable[[], object]] = {
            "within": self.seconds,
            "backlog": lambda: self.integer(1 << 31, "a backlog"),
            "from": self.port,
        }
        options = self.options({key: readers[key] for key in _CALL_OPTIONS.get(verb, ())})
        names = {"within": "within_s", "from": "local_port"}
        given |= {names.get(key, key): value for key, value in options.items()}
        return Call(self.place, text, program, verb, name, outcome=outcome, **given)

    def to_end(self) -> dict[str, object]:
        """HOST:PORT."""
        host, port = self.end_of()
        return {"host": host, "port": port}

    def to_end_bytes(self) -> dict[str, object]:
        """HOST:PORT BYTES."""
        return {**self.to_end(), "byte_count": self.call_bytes()}

    def of_listener(self) -> dict[str, object]:
        """Take "from LISTENER"."""
        self._literally("from")
        return {"listener": self.name("the name of a listener")}

    def to_bytes(self) -> dict[str, object]:
        """BYTES."""
        return {"byte_count": self.call_bytes()}

    def to_bytes_or_all(self) -> dict[str, object]:
        """BYTES or all."""
        if self.words[:1] == ["all"]:
            self.words.pop(0)
            return {"byte_count": ALL}
        return self.to_bytes()

    def to_port(self) -> dict[str, object]:
        """PORT."""
        return {"port": self.port()}

    def to_port_or_none(self) -> dict[str, object]:
        """[PORT]."""
        return self.to_port() if self.words else {}

    def nothing(self) -> dict[str, object]:
        """No argument."""
        return {}


_PLANS: Final[Mapping[str, Callable[[_Reader], None]]] = {
    "host": _Reader.host,
    "link": _Reader.link,
    "program": _Reader.program,
    "tcp": _Reader.tcp,
    "policy": _Reader.policy,
}
_STATEMENTS: Final[Mapping[str, Callable[[_Reader], Statement]]] = {
    "wait": _Reader.wait,
    "cut": _Reader.cut,
    "join": _Reader.join,
    "crash": _Reader.crash,
    "change": _Reader.change,
    "expect": _Reader.expect,
    "note": _Reader.note,
    "forge": _Reader.forge,
    "repeat": _Reader.repeat,
    "beside:": _Reader.beside,
    "measure": _Reader.measure,
}
_CALLS: Final[Mapping[str, Callable[[_Reader], dict[str, object]]]] = {
    "bind": _Reader.to_port_or_none,
    "listen": _Reader.to_port,
    "connect": _Reader.to_end,
    "accept": _Reader.of_listener,
    "send": _Reader.to_bytes,
    "receive": _Reader.to_bytes_or_all,
    "shutdown": _Reader.nothing,
    "close": _Reader.nothing,
    "reset": _Reader.nothing,
    "open": _Reader.to_port,
    "send-to": _Reader.to_end_bytes,
    "receive-from": _Reader.nothing,
}
_CALL_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "listen": ("backlog",),
    "connect": ("from", "within"),
    "accept": ("within",),
    "receive": ("within",),
    "send": ("within",),
    "receive-from": ("within",),
}
