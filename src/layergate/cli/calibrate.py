"""`layergate guard calibrate CAPTURE...|--live TIME`: what sources do, and which limits would touch how many of them.

Captures are files of pcap or pcapng, in the order of their times; --live looks at what comes and goes just now, in this
network namespace, until the time is over or Ctrl-C. Example of what is printed for one counted thing:

    new connections within 10s: 1,204 sources, half at most 2, greatest 380
          1           640  ████████████████████████████████
          2 to 3      402  ████████████████████
      limits that would have touched   nobody: 380   0.1 % (1 source): 120   1 % (12 sources): 41
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import time
from collections.abc import Callable, Iterator

from layergate.capture.pcapng import Captured
from layergate.capture.reading import Reader
from layergate.capture.sniffing import Sniffer
from layergate.cli import output
from layergate.guard.calibration import COUNTED, SHARES, Calibration, Seen, buckets, touching
from layergate.model import InputError
from layergate.model.limits import Counted, duration_words
from layergate.tcp.ip import Malformed, parse_packet

_TCP = 6
_BAR = 40
_WORDS = {
    Counted.NEW: "new connections within {over}",
    Counted.CONCURRENT: "connections at once",
    Counted.HALF_OPEN: "handshakes at once",
    Counted.PORTS: "ports tried within {over}",
    Counted.CLOSED: "refused within {over}",
}


def configure(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser("calibrate", help="what sources did in a capture, and which limits would touch whom")
    parser.add_argument("captures", nargs="*", metavar="CAPTURE", help="a file of pcap or pcapng")
    parser.add_argument("--live", metavar="TIME", help="look at what comes and goes for so long: 10m")
    parser.add_argument("--over", default="10s", metavar="TIME", help="the period (default: 10s)")
    parser.add_argument("--prefix-v4", type=int, default=32, metavar="N", help="sources are prefixes (default: 32)")
    parser.add_argument("--prefix-v6", type=int, default=64, metavar="N", help="sources are prefixes (default: 64)")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def run(arguments: argparse.Namespace, over_s: float, live_s: float | None) -> int:
    """Read or look, and print. *over_s*: the period; *live_s*: how long to look, None: read the captures.

    Raises InputError, NotSupportedError.
    """
    for bits, most in ((arguments.prefix_v4, 32), (arguments.prefix_v6, 128)):
        if not 1 <= bits <= most:
            raise InputError(f"a prefix of {bits} bits", f"1 to {most}")
    if not over_s:
        raise InputError("a period of nothing", "--over 10s")
    found = Calibration(over_s)

    def take(captured: Captured) -> None:
        seen = _seen(captured.packet, captured.time)
        if seen is not None:
            found.segment(seen, _source(seen, arguments.prefix_v4, arguments.prefix_v6))

    if bool(arguments.captures) == (live_s is not None):
        found_both = "captures and --live" if arguments.captures else "nothing to look at"
        raise InputError(found_both, "layergate guard calibrate CAPTURE, or --live 10m")
    skipped = _look(live_s, found, take) if live_s is not None else _read(arguments.captures, take)
    if not found.most(Counted.NEW):
        raise InputError(f"{found.segments:,} TCP segments and no SYN", "a time in which connections begin")
    if arguments.json:
        for what in COUNTED:
            output.json_line(_line(found, what))
        output.json_line(
            {"kind": "summary", "sources": len(found.most(Counted.NEW)), "segments": found.segments, "skipped": skipped,
             "seconds": round(found.last - (found.first or 0.0), 3)}
        )  # fmt: skip
        return 0
    seconds = found.last - (found.first or 0.0)
    sources = output.plural(len(found.most(Counted.NEW)), "source")
    sys.stdout.write(f"{found.segments:,} TCP segments of {seconds:,.0f} s, {sources} of connections\n")
    for what in COUNTED:
        sys.stdout.writelines(f"{line}\n" for line in _drawn(found, what, duration_words(round(over_s * 1000))))
    return 0


def _read(captures: list[str], take: Callable[[Captured], None]) -> int:
    """Read *captures*; return how many packets were passed over."""
    skipped = 0
    for path in captures:
        reader = Reader(path)
        for number, captured in enumerate(reader, 1):
            take(captured)
            if number % 100_000 == 0 and sys.stderr.isatty():
                sys.stderr.write(f"\r{path}: {number:,} packets")
        skipped += reader.skipped
    return skipped


def _look(seconds: float, found: Calibration, take: Callable[[Captured], None]) -> int:
    """Look for *seconds*, or until Ctrl-C; return how many segments were lost."""
    began, told = time.monotonic(), 0.0
    with Sniffer() as sniffer:
        try:
            for captured in sniffer.packets(seconds):
                if captured is not None:
                    take(captured)
                    continue
                now = time.monotonic()
                if sys.stderr.isatty() and now - told >= 1:
                    told = now
                    sys.stderr.write(f"\r{now - began:,.0f} s of {seconds:,.0f} s: {found.segments:,} segments")
        except KeyboardInterrupt:
            sys.stderr.write("\n")
        lost = sniffer.lost
    if lost:
        many = output.plural(lost, "segment")
        sys.stderr.write(f"layergate: {many} came faster than they could be looked at: the counts are too small\n")
    return lost


def _seen(packet: bytes, time: float) -> Seen | None:
    """Return what *packet* is, None where it is no TCP segment with a header of its own."""
    parsed = parse_packet(packet, whole=False)
    if isinstance(parsed, Malformed) or parsed.protocol != _TCP or len(parsed.payload) < 14:
        return None
    data = parsed.payload
    ports = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
    return Seen(time, (parsed.source, ports[0]), (parsed.destination, ports[1]), data[13])


def _source(seen: Seen, prefix_v4: int, prefix_v6: int) -> object:
    address = seen.sender[0]
    assert isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
    free = address.max_prefixlen - (prefix_v4 if address.version == 4 else prefix_v6)
    return address.version, int(address) >> free


def _drawn(found: Calibration, what: Counted, over: str) -> Iterator[str]:
    most = found.most(what)
    title = _WORDS[what].format(over=over)
    if not most[-1]:
        yield f"\n{title}: none"
        return
    sources = output.plural(len(most), "source")
    yield f"\n{title}: {sources}, half at most {most[(len(most) - 1) // 2]:,}, greatest {most[-1]:,}"
    rows = buckets(most)
    longest = max(count for _, _, count in rows)
    for low, high, count in rows:
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        yield f"  {span:>20}  {count:>9,}  {'█' * round(count * _BAR / longest)}".rstrip()
    told = []
    for share in SHARES:
        limit, touched = touching(most, share)
        whom = f"{share * 100:g} % ({output.plural(touched, 'source')})" if share else "nobody"
        told.append(f"{whom}: {limit:,}")
    yield f"  limits that would have touched   {'   '.join(told)}"


def _line(found: Calibration, what: Counted) -> dict[str, object]:
    most = found.most(what)
    return {
        "kind": "calibration",
        "counted": str(what),
        "sources": len(most),
        "greatest": most[-1],
        "buckets": [{"from": low, "to": high, "sources": count} for low, high, count in buckets(most)],
        "limits": [
            {"share": share, "limit": limit, "touched": touched}
            for share in SHARES
            for limit, touched in (touching(most, share),)
        ],
    }
