"""`layergate guard calibrate`: what sources did in a capture, and which limits would have touched them."""

from __future__ import annotations

import json
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from layergate.ale.counting import GIVE_UP_S
from layergate.capture import Captured, compose
from layergate.capture.reading import Reader
from layergate.cli import main
from layergate.guard.calibration import ACK, FIN, RST, SYN, Calibration, Seen, buckets, touching
from layergate.model import InputError
from layergate.model.limits import Counted
from layergate.tcp.ip import compose_packet, make_packet

SERVER = ("10.9.0.2", 80)


class Traffic:
    """Connections of many sources to one server."""

    def __init__(self, over_s: float = 10) -> None:
        self.found = Calibration(over_s)

    def sends(self, time: float, sender: tuple[str, int], receiver: tuple[str, int], flags: int) -> None:
        self.found.segment(Seen(time, sender, receiver, flags), sender[0])

    def opens(self, time: float, client: tuple[str, int], server: tuple[str, int] = SERVER) -> None:
        self.sends(time, client, server, SYN)
        self.sends(time, server, client, SYN | ACK)
        self.sends(time, client, server, ACK)

    def closes(self, time: float, client: tuple[str, int]) -> None:
        self.sends(time, client, SERVER, FIN | ACK)
        self.sends(time, SERVER, client, FIN | ACK)

    def most(self, what: Counted) -> list[int]:
        return self.found.most(what)


def test_connections_within_a_period_and_at_once_are_told_apart() -> None:
    traffic = Traffic()
    for port in (1, 2, 3):
        traffic.opens(port / 10, ("10.9.0.1", port))
    traffic.closes(1, ("10.9.0.1", 1))
    traffic.opens(2, ("10.9.0.1", 4))
    assert traffic.most(Counted.NEW) == [4]
    assert traffic.most(Counted.CONCURRENT) == [3]
    assert traffic.most(Counted.HALF_OPEN) == [1]


def test_the_period_slides() -> None:
    traffic = Traffic(over_s=10)
    for number in range(4):
        traffic.opens(number * 6, ("10.9.0.1", number + 1))
    assert traffic.most(Counted.NEW) == [2]


def test_a_syn_that_is_sent_again_is_one_attempt_and_a_handshake_is_given_up() -> None:
    traffic = Traffic(over_s=1000)
    for time in (0, 1, 3, 7):
        traffic.sends(time, ("10.9.0.1", 1), SERVER, SYN)
    traffic.sends(GIVE_UP_S, ("10.9.0.1", 2), SERVER, SYN)
    assert traffic.most(Counted.NEW) == [2]
    assert traffic.most(Counted.HALF_OPEN) == [1]


def test_a_scan_shows_in_ports_and_in_what_was_refused() -> None:
    traffic = Traffic()
    for port in range(100, 120):
        traffic.sends(1, ("10.9.0.1", 5000), ("10.9.0.2", port), SYN)
        traffic.sends(1, ("10.9.0.2", port), ("10.9.0.1", 5000), RST | ACK)
    traffic.opens(2, ("10.9.0.3", 1))
    assert traffic.most(Counted.PORTS) == [1, 20]
    assert traffic.most(Counted.CLOSED) == [0, 20]


def test_a_reset_of_a_connection_is_no_refusal() -> None:
    traffic = Traffic()
    traffic.opens(0, ("10.9.0.1", 1))
    traffic.sends(1, SERVER, ("10.9.0.1", 1), RST)
    assert traffic.most(Counted.CLOSED) == [0]


def test_the_limits_touch_the_share_that_they_name() -> None:
    most = [*range(1, 1000), 5000]
    assert touching(most, 0) == (5000, 0)
    assert touching(most, 0.001) == (999, 1)
    assert touching(most, 0.01) == (990, 10)
    assert buckets([0, 1, 2, 3, 9]) == [(0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 7, 0), (8, 15, 1)]


def segment(source: str, flags: int, port: int = 5000) -> bytes:
    """Return a packet from *source* to the server."""
    data = struct.pack(">HHIIBBHHH", port, 80, 0, 0, 0x50, flags, 0, 0, 0)
    target = "10.9.0.2" if ":" not in source else "fd09::2"
    return compose_packet(make_packet(ip_address(source), ip_address(target), 6, data))


def pcap(frames: list[bytes], link: int, order: str = "<") -> bytes:
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack(f"{order}IIII", 7, 500_000, len(one), len(one)) + one for one in frames)


ETHERNET = bytes(12)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "link, head",
    [
        (1, ETHERNET + b"\x08\x00"),
        (1, ETHERNET + b"\x81\x00\x00\x07\x08\x00"),
        (101, b""),
        (113, bytes(14) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
    ],
)
def test_packets_of_pcap_are_read_whatever_their_link(tmp_path: Path, order: str, link: int, head: bytes) -> None:
    packet = segment("10.9.0.1", SYN)
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([head + packet, head + packet], link, order))
    assert [(one.time, one.packet) for one in Reader(str(path))] == [(7.5, packet)] * 2


def test_what_is_written_as_pcapng_is_read_again(tmp_path: Path) -> None:
    packets = [
        Captured(1.25, "lo", segment("10.9.0.1", SYN)),
        Captured(2.5, "eth0", segment("fd09::1", SYN), "a comment"),
    ]
    path = tmp_path / "a.pcapng"
    path.write_bytes(b"".join(compose(packets)))
    assert [(one.time, one.packet) for one in Reader(str(path))] == [(one.time, one.packet) for one in packets]


def test_arp_is_passed_over_and_a_capture_that_was_cut_gives_what_is_whole(tmp_path: Path) -> None:
    whole = pcap([ETHERNET + b"\x08\x06" + bytes(28), ETHERNET + b"\x08\x00" + segment("10.9.0.1", SYN)], 1)
    path = tmp_path / "a.pcap"
    path.write_bytes(whole + whole[24:60])
    reader = Reader(str(path))
    assert len(list(reader)) == 1
    assert reader.skipped == 1


@pytest.mark.parametrize(
    "content, found",
    [
        (b"", "begins with nothing"),
        (b"root:x:0", "a file of pcap or pcapng"),
        (pcap([], 147), "link type 147"),
        (pcap([], 1)[:20], "ends in its header"),
        (pcap([], 1) + struct.pack("<IIII", 0, 0, 1 << 30, 1), "1,073,741,824 bytes"),
        (b"".join(compose([]))[:4] + struct.pack("<II", 5, 0x1A2B3C4D), "a block of 5 bytes"),
    ],
)
def test_what_is_no_capture_is_refused_with_what_was_found(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found):
        list(Reader(str(path)))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Twenty sources with one attempt each, one with three hundred."""
    packets = [Captured(number, "lo", segment(f"10.1.0.{number}", SYN)) for number in range(1, 21)]
    packets += [Captured(21, "lo", segment("10.2.0.1", SYN, port=1024 + number)) for number in range(300)]
    path = tmp_path / "flood.pcapng"
    path.write_bytes(b"".join(compose(packets)))
    return path


def test_people_get_a_drawn_distribution_and_the_limits(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "calibrate", str(capture)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("320 TCP segments of 20 s, 21 sources of connections\n")
    assert "new connections within 10s: 21 sources, half at most 1, greatest 300" in told
    assert "limits that would have touched   nobody: 300   0.1 % (0 sources): 300" in told


def test_scripts_get_a_line_each_and_prefixes_are_one_source(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "calibrate", str(capture), "--prefix-v4", "16", "--json"]) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["kind"] for one in lines] == ["calibration"] * 5 + ["summary"]
    (half_open,) = (one for one in lines if one.get("counted") == "half_open")
    assert (half_open["sources"], half_open["greatest"]) == (2, 300)
    assert lines[-1]["sources"] == 2


@pytest.mark.parametrize("words", [["--over", "0s"], ["--over", "soon"], ["--prefix-v4", "33"], ["--prefix-v6", "0"]])
def test_nonsense_is_refused(capture: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "calibrate", str(capture), *words]) == 2
    assert capsys.readouterr().err.startswith("layergate: ")
