"""A connect to an address of the host's own is loopback, whatever interface has it, as soon as it has it."""

from __future__ import annotations

import time

import pytest

from tests.live.lab import Tracer, ip

pytestmark = pytest.mark.live

CONNECTS = """
for address in ("10.77.0.1", "fd77::1"):
    try:
        socket.create_connection((address, 9), timeout=0.2)
    except OSError:
        pass
"""
FOLLOWED_S = 0.5


def flags(trace: Tracer) -> list[object]:
    return [line["values"]["FLAGS"] for line in trace.run(CONNECTS).at("ALE_AUTH_CONNECT")]  # type: ignore[index]


def test_own_addresses_are_followed(trace: Tracer) -> None:
    ip("-n", trace.netns, "route", "add", "10.77.0.0/24", "dev", "lo")
    ip("-n", trace.netns, "route", "add", "fd77::/64", "dev", "lo")
    try:
        assert flags(trace) == [0, 0]
        ip("-n", trace.netns, "address", "add", "10.77.0.1/32", "dev", "lo")
        ip("-n", trace.netns, "address", "add", "fd77::1/128", "dev", "lo", "nodad")
        time.sleep(FOLLOWED_S)
        assert flags(trace) == [1, 1]
        ip("-n", trace.netns, "address", "del", "10.77.0.1/32", "dev", "lo")
        ip("-n", trace.netns, "address", "del", "fd77::1/128", "dev", "lo")
        time.sleep(FOLLOWED_S)
        assert flags(trace) == [0, 0]
    finally:
        ip("-n", trace.netns, "route", "flush", "10.77.0.0/24")
        ip("-n", trace.netns, "-6", "route", "flush", "fd77::/64")
