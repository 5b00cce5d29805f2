"""Damaged dumps by the thousand: whatever is done to a file, it is a `Dump` or an InputError, and takes little memory.

    python -m tests.unit.windows.fuzz [COUNT] [--seed SEED]

Every input is one of the composer's files, damaged in one to four ways; a seed repeats a run, and a failure names the
input by its number. What comes out as a dump is weighed and judged as well, as `layergate windows` does. The process
limits its own memory, so that a run that needs too much fails.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from layergate.model import InputError
from layergate.windows import Dump, Judge, compare, fit, read
from layergate.windows.situations import of_connection
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, number

MEMORY_BYTES_MAX: Final = 500 << 20
SECONDS_MAX: Final = 2.0

Damage = Callable[[str, random.Random], str]

# An element with text alone, a whole element without others of its name in it, a tag.
_TEXT: Final = re.compile(r">([^<>]{1,200})</")
_ELEMENT: Final = re.compile(r"<(\w[\w.]*)[^<>]*>(?:(?!<\1[ >]).){0,2000}?</\1>\n?", re.DOTALL)
_TAG: Final = re.compile(r"</?\w[\w.]*")
_NASTY: Final = (
    *(
        "",
        " ",
        "-1",
        "0",
        "1",
        "256",
        "65536",
        "4294967296",
        "18446744073709551616",
        "9" * 400,
        "0x41",
        "1e3",
        "NaN",
        "١",
    ),
    *("true", "{", "{}", "{00000000-0000-0000-0000-000000000000}", "FWPM_LAYER_STREAM_V4", "FWPM_CONDITION_FLAGS"),
    *("FWP_EMPTY", "FWP_UINT8", "FWP_UINT16", "FWP_UINT32", "FWP_UINT64", "FWP_RANGE_TYPE", "FWP_SID", "FWP_FLOAT"),
    *("FWP_BYTE_BLOB_TYPE", "FWP_V4_ADDR_MASK", "FWP_V6_ADDR_MASK", "FWP_BYTE_ARRAY16_TYPE", "FWP_UNICODE_STRING_TYPE"),
    *("FWP_MATCH_RANGE", "FWP_MATCH_NOT_EQUAL", "FWP_MATCH_FLAGS_ALL_SET", "FWP_MATCH_PREFIX", "FWP_MATCH_NONE"),
    *("FWP_ACTION_BLOCK", "FWP_ACTION_CALLOUT_TERMINATING", "FWP_ACTION_NONE", "FWPM_FILTER_FLAG_DISABLED", "80000020"),
    *("::", "::1", "fe80::1%5", "1.2.3.4", "1.2.3", "999.1.1.1", "5c00", "5c0", "zz", "S-1-1-0", "D:(A;;CC;;;WD)", "é"),
    *("&lt;", "&amp;", "&bad;", "<", "<x>", "<!-- -->", "<![CDATA[x]]>", "\ufffe", "2026-13-45T99:99:99Z", "a" * 5000),
)


def _small_layers(rows: tuple[Row, ...]) -> list[str]:
    """The rows' layers with a few fields each, so that a file is small."""
    fields = [
        ("IP_PROTOCOL", "UINT8", "RAW_DATA"),
        ("IP_REMOTE_ADDRESS", "UINT32", "IP_ADDRESS"),
        ("IP_REMOTE_PORT", "UINT16", "RAW_DATA"),
        ("ALE_APP_ID", "BYTE_BLOB_TYPE", "RAW_DATA"),
        ("ALE_USER_ID", "TOKEN_ACCESS_INFORMATION_TYPE", "RAW_DATA"),
        ("FLAGS", "UINT32", "FLAGS"),
    ]
    return [
        composer.layer(
            name,
            fields=fields,
            callouts=[composer.callout(example.SHIELD_CALLOUT, name, 301)] if name == example.STREAM else [],
            filters=[row.xml() for row in rows if row.layer == name],
        )
        for name in dict.fromkeys(row.layer for row in rows)
    ]


def sources() -> list[str]:
    """The files that are damaged."""
    rows = tuple(example.ROWS)
    v6 = (
        Row(
            90001,
            layer="FWPM_LAYER_ALE_AUTH_CONNECT_V6",
            conditions=[
                condition("IP_REMOTE_ADDRESS", composer.net("fe80::/10")),
                condition("IP_REMOTE_ADDRESS", composer.between(composer.v6("ff00::"), composer.v6("ffff::")), "RANGE"),
                condition("ALE_PACKAGE_ID", composer.sid("S-1-0-0"), "NOT_EQUAL"),
            ],
        ),
        Row(90002, conditions=[condition("IP_REMOTE_ADDRESS", composer.net("10.0.0.0/8"))], weight=number(64, 5)),
    )
    state = composer.state(
        rows,
        layers=_small_layers(rows),
        sublayers=[composer.sublayer(example.HARBOR, 0xFFF0, "Harbor")],
        providers=[composer.provider(example.HARBOR_PROVIDER, "Harbor VPN")],
        contexts=[composer.origin(example.ORIGIN, "Boottime Default", 7)],
        sessions=[composer.session(1)],
        connections=example.CONNECTIONS,
    )
    return [
        state,
        composer.filters([*rows, *v6]),
        composer.net_events(example.EVENTS),
        composer.recording(v6, [composer.event(90002, 48, tag="netEvent")], layers=_small_layers(v6)),
    ]


# --- damage -----------------------------------------------------------------------------------------------------------


def _place(text: str, source: random.Random) -> int:
    return source.randrange(len(text) + 1)


def truncate(text: str, source: random.Random) -> str:
    return text[: _place(text, source)]


def cut(text: str, source: random.Random) -> str:
    place = _place(text, source)
    return text[:place] + text[place + source.choice((1, 2, 9, 80, 900)) :]


def double(text: str, source: random.Random) -> str:
    place = _place(text, source)
    end = place + source.choice((1, 7, 60, 700, 5000))
    return text[:end] + text[place:end] + text[end:]


def _chosen(pattern: re.Pattern[str], text: str, source: random.Random) -> re.Match[str] | None:
    """A match at a random place: the next one from there."""
    return pattern.search(text, _place(text, source)) or pattern.search(text)


def double_element(text: str, source: random.Random) -> str:
    found = _chosen(_ELEMENT, text, source)
    return text if found is None else text[: found.end()] + found[0] * source.choice((1, 1, 3)) + text[found.end() :]


def drop_element(text: str, source: random.Random) -> str:
    found = _chosen(_ELEMENT, text, source)
    return text if found is None else text[: found.start()] + text[found.end() :]


def move_element(text: str, source: random.Random) -> str:
    found = _chosen(_ELEMENT, text, source)
    if found is None:
        return text
    rest = text[: found.start()] + text[found.end() :]
    other = _chosen(_ELEMENT, rest, source)
    return rest if other is None else rest[: other.start()] + found[0] + rest[other.start() :]


def nasty_text(text: str, source: random.Random) -> str:
    found = _chosen(_TEXT, text, source)
    return text if found is None else text[: found.start(1)] + source.choice(_NASTY) + text[found.end(1) :]


def swap_texts(text: str, source: random.Random) -> str:
    found, other = _chosen(_TEXT, text, source), _chosen(_TEXT, text, source)
    if found is None or other is None:
        return text
    return text[: found.start(1)] + other[1] + text[found.end(1) :]


def rename(text: str, source: random.Random) -> str:
    found, other = _chosen(_TAG, text, source), _chosen(_TAG, text, source)
    if found is None or other is None:
        return text
    old, new = found[0].strip("</"), other[0].strip("</")
    if source.random() < 0.5:
        return text[: found.start()] + other[0] + text[found.end() :]
    return re.sub(rf"(</?){re.escape(old)}\b", rf"\g<1>{new}", text, count=source.choice((0, 2)))


def insert(text: str, source: random.Random) -> str:
    place = _place(text, source)
    what = source.choice(
        (*_NASTY, "<!DOCTYPE a>", "<item/>", "<item>", "</item>", "<x>" * 50, "\n" * 70000, "<?pi x?>")
    )
    return text[:place] + what + text[place:]


DAMAGES: Final[tuple[Damage, ...]] = (
    *(truncate, cut, double, double_element, double_element, drop_element, drop_element, move_element),
    *(nasty_text, nasty_text, nasty_text, swap_texts, swap_texts, rename, insert),
)


def flip(data: bytes, source: random.Random) -> bytes:
    """Change a few bytes."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 8))):
        if changed:
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


@dataclass(frozen=True)
class Input:
    """One damaged file: its number repeats it."""

    number: int
    data: bytes


def inputs(count: int, seed: int) -> Iterator[Input]:
    """*count* damaged files; each depends on the seed and its number alone."""
    texts = sources()
    for number_ in range(count):
        source = random.Random(f"{seed}/{number_}")
        text = source.choice(texts)
        for _ in range(source.choice((1, 1, 1, 2, 4))):
            other = source.choice(texts)
            if source.random() < 0.05:  # a splice
                text = text[: _place(text, source)] + other[_place(other, source) :]
            else:
                text = source.choice(DAMAGES)(text, source)
        encoding = source.choices(("utf-8", "utf-8-sig", "utf-16", "utf-16-be"), (20, 2, 1, 1))[0]
        data = text.encode(encoding, "surrogatepass")
        yield Input(number_, flip(data, source) if source.random() < 0.2 else data)


def tried(data: bytes) -> Dump | InputError:
    """Read *data*; weigh and judge what comes out."""
    try:
        dump = read([data], "fuzz.xml")
    except InputError as error:
        return error
    fit(dump.policy.filters, dump.not_understood)
    judge = Judge(dump)
    for event in dump.events:
        compare(judge, event)
    for connection in dump.connections:
        for layer in dump.layers[-3:]:
            judge.judge(of_connection(connection, layer))
    return dump


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    begin = time.monotonic()
    dump_count = 0
    slowest = 0.0
    for one in inputs(arguments.count, arguments.seed):
        start = time.monotonic()
        try:
            outcome = tried(one.data)
        except BaseException:
            sys.stderr.write(f"fuzz: input {one.number} of seed {arguments.seed}\n")
            raise
        dump_count += isinstance(outcome, Dump)
        assert isinstance(outcome, Dump) or (outcome.place == "fuzz.xml" and "\n" not in str(outcome)), str(outcome)
        slowest = max(slowest, time.monotonic() - start)
        assert slowest < SECONDS_MAX, f"input {one.number} took {slowest:.1f} s"
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"fuzz: {arguments.count} inputs of seed {arguments.seed}: {dump_count} dumps, "
        f"{arguments.count - dump_count} errors; {time.monotonic() - begin:.0f} s, slowest {slowest * 1000:.0f} ms, "
        f"{peak_mb:.0f} MB\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
