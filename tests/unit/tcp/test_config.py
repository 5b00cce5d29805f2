"""What can be tuned, and what can't be lived with."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from layergate.tcp import LINUX, RFC, Config


def test_the_mss_is_what_the_mtu_leaves_over_each_family() -> None:
    assert LINUX.mss_for(IPv4Address("192.0.2.1")) == 1460
    assert LINUX.mss_for(IPv6Address("2001:db8::1")) == 1440
    assert Config(mss=1000).mss_for(IPv6Address("2001:db8::1")) == 1000


def test_fifteen_retries_are_what_linux_documents() -> None:
    assert LINUX.give_up_after_s(15) == pytest.approx(924.6)  # Documentation/networking/ip-sysctl.rst, tcp_retries2
    assert LINUX.give_up_after_s(0) == LINUX.rto_s_min
    assert RFC.give_up_after_s(2) == 1 + 2 + 4
    assert LINUX.give_up_after_s(6, 1.0) == 127


BAD = {
    "mss 47, mtu 1500: segments hold 48 to 65535 bytes": {"mss": 47},
    "mss 28, mtu 68: segments hold 48 to 65535 bytes": {"mtu": 68},
    "mss 70000, mtu 1500: segments hold 48 to 65535 bytes": {"mss": 70000},
    "a buffer holds at least a byte": {"send_buffer_bytes": 0},
    "window_scale 15: 0 to 14": {"window_scale": 15},
    "receive_buffer_bytes 100: with window_scale 7 a window is told in units of 128 bytes, and two at least must fit": {
        "receive_buffer_bytes": 100
    },
    "initial_window_segments and duplicate_acks are at least 1": {"duplicate_acks": 0},
    "0 < rto_s_min <= rto_s_initial <= rto_s_max": {"rto_s_min": 2.0},
}


@pytest.mark.parametrize("text", BAD)
def test_numbers_that_no_connection_could_live_with_are_refused(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        Config(**BAD[text])
    assert str(refused.value) == text
