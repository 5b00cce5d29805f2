"""Laws of TCP: formats have two directions, streams arrive whole over any channel, nothing that arrives hurts.

LAYERGATE_FUZZ_COUNT says how many inputs the last one tries (3,000 without it).
"""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from layergate.tcp import LINUX, RFC, Config, Flag, Segment, State, compose_segment, parse_segment
from layergate.tcp.icmp import IcmpMessage, complaint, compose_icmp, parse_icmp
from layergate.tcp.ip import (
    FRAGMENT,
    Extension,
    IPv4Packet,
    IPv6Packet,
    Malformed,
    compose_packet,
    parse_packet,
)
from layergate.tcp.sequence import MASK, distance, unwrap
from layergate.tcp.udp import Datagram, compose_datagram, parse_datagram
from layergate.tcp.wire import NOP, Option
from tests.unit.tcp.channel import Session
from tests.unit.tcp.fuzz import fuzz

COUNT = int(os.environ.get("LAYERGATE_FUZZ_COUNT", "3000"))

U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
V4, V6 = st.builds(IPv4Address, U32), st.builds(IPv6Address, st.integers(0, (1 << 128) - 1))
ENDS = st.one_of(st.tuples(V4, V4), st.tuples(V6, V6))
Ends = tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address]


def packed(options: list[Option]) -> tuple[Option, ...]:
    """As many of *options* as there is room for, and no-operations up to a whole word."""
    kept: list[Option] = []
    size = 0
    for option in options:
        own = 1 if option == NOP else 2 + len(option.data)
        if size + own <= 40:
            kept.append(option)
            size += own
    return (*kept, *[NOP] * (-size % 4))


OPTIONS = st.lists(
    st.one_of(st.just(NOP), st.builds(Option, st.integers(2, 255), st.binary(max_size=12))), max_size=8
).map(packed)
SEGMENTS = st.builds(
    Segment, U16, U16, U32, U32, st.builds(Flag, st.integers(0, 0xFFF)), U16, U16, OPTIONS, st.binary(max_size=100)
)
# Behind a fragment header whose offset isn't zero nothing more is read: it stands last.
EXTENSIONS = st.lists(
    st.one_of(
        st.builds(
            lambda kind, units, fill: Extension(kind, bytes([units]) + fill[: 6 + 8 * units]),
            st.sampled_from([0, 43, 60, 135, 139, 140]),
            st.integers(0, 3),
            st.binary(min_size=30, max_size=30),
        ),
        st.builds(lambda fill: Extension(FRAGMENT, b"\0\0\1" + fill), st.binary(min_size=4, max_size=4)),
    ),
    max_size=4,
).map(tuple)
PACKETS = st.one_of(
    st.builds(
        IPv4Packet,
        V4,
        V4,
        U8,
        st.binary(max_size=100),
        U8,
        U8,
        U16,
        st.integers(0, 7),
        st.integers(0, 0x1FFF).map(lambda units: units * 8),
        st.integers(0, 10).map(lambda words: bytes(words * 4)),
    ),
    st.builds(
        IPv6Packet,
        V6,
        V6,
        st.sampled_from([6, 17, 58, 59, 255]),
        st.binary(max_size=100),
        U8,
        U8,
        st.integers(0, 0xFFFFF),
        EXTENSIONS,
    ),
)


# --- formats ----------------------------------------------------------------------------------------------------------


@given(SEGMENTS, ENDS)
def test_a_segment_comes_back_from_its_bytes_and_its_bytes_from_it(segment: Segment, ends: Ends) -> None:
    data = compose_segment(segment, *ends)
    assert parse_segment(data, *ends) == segment
    assert compose_segment(segment, *ends) == data


@given(SEGMENTS, ENDS, st.binary(max_size=40))
def test_bytes_that_are_a_segment_come_back_from_it(segment: Segment, ends: Ends, options: bytes) -> None:
    """Whatever its option bytes are: those that make no sense are kept too."""
    options += bytes(-len(options) % 4)
    raw = bytearray(compose_segment(replace(segment, options=()), *ends))
    raw[12] = (raw[12] & 0x0F) | (5 + len(options) // 4) << 4
    data = bytes(raw[:20]) + options + segment.payload
    read = parse_segment(data, *ends, verify=False)
    assert isinstance(read, Segment)
    again = compose_segment(read, *ends)
    assert again[:16] + again[18:] == data[:16] + data[18:]  # the checksum is the right one now
    assert parse_segment(again, *ends) == read


@given(PACKETS)
def test_a_packet_comes_back_from_its_bytes_and_its_bytes_from_it(packet: IPv4Packet | IPv6Packet) -> None:
    data = compose_packet(packet)
    read = parse_packet(data)
    assert read == packet
    assert compose_packet(packet) == data


@given(st.builds(Datagram, U16, U16, st.binary(max_size=100)), ENDS)
def test_a_datagram_comes_back_from_its_bytes(datagram: Datagram, ends: Ends) -> None:
    assert parse_datagram(compose_datagram(datagram, *ends), *ends) == datagram


@given(st.builds(IcmpMessage, U8, U8, U32, st.binary(max_size=100)), ENDS)
def test_an_icmp_message_comes_back_from_its_bytes(message: IcmpMessage, ends: Ends) -> None:
    assert parse_icmp(compose_icmp(message, *ends), *ends) == message


@given(st.binary(max_size=120), ENDS, st.booleans())
def test_no_bytes_whatever_make_a_parser_raise(data: bytes, ends: Ends, whole: bool) -> None:  # noqa: FBT001
    for parse in (parse_segment, parse_datagram, parse_icmp):
        parse(data, *ends)
    parse_segment(data, *ends, verify=False)
    parse_datagram(data, *ends, verify=False)
    for first in (b"", b"\x45", b"\x60"):
        packet = parse_packet(first + data, whole=whole)
        if not isinstance(packet, Malformed):
            compose_packet(packet)
        complaint(IcmpMessage(3, 3, body=first + data), is_v4=True)
        complaint(IcmpMessage(1, 4, body=first + data), is_v4=False)


@given(U32, st.integers(0, 1 << 40))
def test_a_number_unwraps_to_itself_near_what_is_expected(number: int, near: int) -> None:
    found = unwrap(number, near)
    assert found & MASK == number
    assert -(1 << 31) <= found - near < 1 << 31
    assert distance(near & MASK, number) == found - near


# --- streams ----------------------------------------------------------------------------------------------------------

PATIENT = {"retries": 40, "orphan_retries": 40, "syn_retries": 12, "syn_ack_retries": 12, "time_wait_s": 1000.0}
"""A channel this bad asks for patience: with Linux's, one session in thousands is given up, or loses its last ACK."""


def patient(base: Config, changes: dict[str, object]) -> Config:
    return replace(base, **PATIENT, **changes)


CONFIGS = st.builds(
    patient,
    st.sampled_from([LINUX, RFC]),
    st.fixed_dictionaries(
        {
            "timestamps": st.booleans(),
            "window_scale": st.sampled_from([None, 0, 7]),
            "mss": st.sampled_from([None, 100, 536]),
            "receive_buffer_bytes": st.sampled_from([256, 1000, 5000, 65536, 300_000]),
            "send_buffer_bytes": st.sampled_from([500, 5000, 87040]),
            "nagle": st.booleans(),
            "quick_acks": st.sampled_from([0, 16]),
            "initial_window_segments": st.sampled_from([1, 10]),
            "keepalive": st.booleans(),
            "keepalive_idle_s": st.sampled_from([0.3, 5.0]),
        }
    ),
)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.2]),
    duplication=st.sampled_from([0.0, 0.1]),
    jitter_s=st.sampled_from([0.0, 0.001, 0.05, 0.5]),
    sizes=st.tuples(*[st.sampled_from([0, 1, 3000, 30_000])] * 2),
    read_bytes=st.tuples(*[st.sampled_from([100, 1000, 1_000_000])] * 2),
    configs=st.tuples(CONFIGS, CONFIGS),
)
def test_every_byte_arrives_in_order_over_a_bad_channel_and_both_ends_close(  # noqa: PLR0917 - by name
    seed: int,
    loss: float,
    duplication: float,
    jitter_s: float,
    sizes: tuple[int, int],
    read_bytes: tuple[int, int],
    configs: tuple[Config, Config],
) -> None:
    session = Session(
        seed=seed,
        loss=loss,
        duplication=duplication,
        jitter_s=jitter_s,
        sizes=sizes,
        read_bytes=read_bytes,
        configs=configs,
    )
    session.run()


def test_the_same_seed_gives_the_same_session() -> None:
    runs = [Session(seed=7, loss=0.1, duplication=0.1, jitter_s=0.05) for _ in range(2)]
    for one in runs:
        one.run()
    assert runs[0].now == runs[1].now
    assert runs[0].steps == runs[1].steps


# --- what nobody would send -------------------------------------------------------------------------------------------


def test_nothing_that_arrives_raises_hangs_or_is_kept_beyond_the_buffers() -> None:
    ends = fuzz(COUNT, seed=1)
    assert sum(ends.values()) == COUNT
    assert all(ends[state] for state in State), ends
