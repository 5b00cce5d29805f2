"""TCP segments: bytes, options, and how they read."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from layergate.tcp import Flag, Segment, compose_segment, parse_segment
from layergate.tcp.ip import Malformed
from layergate.tcp.wire import NOP, Kind, Option, mss_option, timestamps_option, window_scale_option

A4, B4 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
PLAIN = Segment(49152, 80, 1000, 7000, Flag.ACK, 512)
SYN = Segment(49152, 80, 7, 0, Flag.SYN, 64240, options=(mss_option(1460), NOP, window_scale_option(7)))


def parsed(options: bytes) -> tuple[Option, ...]:
    """The options of a segment whose option bytes these are."""
    data = compose_segment(replace(PLAIN, options=(Option(Kind.ILLEGAL, options),)), A4, B4)
    segment = parse_segment(data, A4, B4)
    assert isinstance(segment, Segment)
    assert compose_segment(segment, A4, B4) == data
    return segment.options


def test_a_syn_stands_as_rfc_9293_says() -> None:
    data = compose_segment(SYN, A4, B4)
    assert data[:16].hex() == "c0000050" + "00000007" + "00000000" + "7002faf0"
    assert data[18:].hex() == "0000" + "020405b4" + "01030307"
    assert parse_segment(data, A4, B4) == SYN
    assert (SYN.mss, SYN.window_scale, SYN.timestamps) == (1460, 7, None)


def test_segments_read_as_tcpdump_writes_them() -> None:
    assert str(SYN) == "S 7:7(0) win 64240 <mss 1460,nop,wscale 7>"
    assert str(replace(PLAIN, flags=Flag.PSH | Flag.ACK, payload=b"abc")) == "P. 1000:1003(3) ack 7000 win 512"
    assert str(replace(PLAIN, flags=Flag.NONE)) == "none 1000:1000(0) win 512"
    assert str(replace(PLAIN, flags=Flag.URG, urgent=5)) == "U 1000:1000(0) win 512 urg 5"
    assert str(replace(PLAIN, sequence=0xFFFFFFFF, payload=b"ab")) == ". 4294967295:1(2) ack 7000 win 512"
    options = (timestamps_option(5, 6), Option(Kind.SACK_PERMITTED), Option(Kind.END), Option(254, b"x"))
    assert str(replace(PLAIN, options=options)).endswith("<TS val 5 ecr 6,sackOK,eol,kind 254>")


@pytest.mark.parametrize("ends", [(A4, B4), (A6, B6)])
def test_all_its_parts_come_out_as_they_went_in(ends: tuple[IPv4Address, IPv4Address]) -> None:
    segment = Segment(
        65535,
        1,
        0xFFFFFFFF,
        0x80000000,
        Flag.FIN | Flag.URG | Flag.ECE | Flag.CWR | Flag.AE | Flag.ACK,
        65535,
        urgent=9,
        options=(NOP, NOP, timestamps_option(1, 2)),
        payload=b"odd",
    )
    assert parse_segment(compose_segment(segment, *ends), *ends) == segment


def test_length_counts_syn_and_fin() -> None:
    assert [SYN.length, PLAIN.length] == [1, 0]
    assert replace(PLAIN, flags=Flag.FIN | Flag.SYN, payload=b"abc").length == 5


def test_unknown_options_are_kept_where_they_stand() -> None:
    assert parsed(bytes.fromhex("fd0401020101080a0000000100000002")) == (
        Option(253, b"\1\2"),
        NOP,
        NOP,
        timestamps_option(1, 2),
    )


def test_behind_the_end_nothing_counts() -> None:
    options = parsed(bytes.fromhex("0100020405b40000"))
    assert options == (NOP, Option(Kind.END, bytes.fromhex("020405b40000")))
    assert replace(SYN, options=options).mss is None


@pytest.mark.parametrize("data", ["02000000", "02010000", "0206 0000", "01010102", "080a 0000"])
def test_a_length_that_makes_no_sense_hides_what_follows(data: str) -> None:
    options = parsed(bytes.fromhex(data))
    assert options[-1].kind == Kind.ILLEGAL
    assert replace(SYN, options=options).mss is None


def test_a_known_option_of_another_length_is_not_it() -> None:
    options = parsed(bytes.fromhex("02030101" + "03040101" + "08040000"))
    segment = replace(SYN, options=options)
    assert (segment.mss, segment.window_scale, segment.timestamps) == (None, None, None)


def test_of_two_the_last_counts() -> None:
    assert replace(SYN, options=(mss_option(1), mss_option(2))).mss == 2


def test_what_cannot_be_used_is_malformed_and_says_why() -> None:
    data = compose_segment(replace(PLAIN, payload=b"data"), A4, B4)
    assert parse_segment(data[:19], A4, B4) == Malformed("TCP header cut off")
    for offset in (0x40, 0xF0):
        assert parse_segment(data[:12] + bytes([offset]) + data[13:], A4, B4) == Malformed("TCP data offset")
    assert parse_segment(data[:-1] + b"?", A4, B4) == Malformed("TCP checksum")
    assert parse_segment(data, A4, IPv4Address("192.0.2.3")) == Malformed("TCP checksum")
    assert parse_segment(data, IPv4Address("192.0.2.3"), B4, verify=False) == replace(PLAIN, payload=b"data")


def test_options_that_have_no_room_are_refused() -> None:
    compose_segment(replace(PLAIN, options=(NOP,) * 40), A4, B4)
    with pytest.raises(ValueError) as refused:
        compose_segment(replace(PLAIN, options=(NOP,) * 41), A4, B4)
    assert str(refused.value) == "44 bytes of options"
