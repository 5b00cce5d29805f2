"""What an endpoint tells, as lines, as CSV, as rows; what changed between two lists."""

from __future__ import annotations

import json

import pytest

from layergate.sockets import states
from layergate.sockets.changes import changes
from layergate.sockets.columns import BY_NAME, process_words, size_words, time_words
from layergate.sockets.lines import csv_line, endpoint_line
from layergate.sockets.owners import NOBODY, Holder, Owners
from layergate.sockets.states import states_called
from layergate.sockets.tcp_info import tcp_info
from layergate.tcp.states import State
from tests.unit.sockets.example import CURL, INFO, NGINX, OWNERS, endpoint


def test_states_of_tcp_are_called_as_rfc_9293_calls_them() -> None:
    assert {*states.TCP_STATES} - {"UNKNOWN", "BOUND"} == {str(state) for state in State}
    assert states_called("time-wait") == ("TIME_WAIT",)
    assert states_called("LISTENING") == ("LISTEN",)


def test_a_socket_that_is_shared_has_all_its_holders_and_is_the_last_one_s() -> None:
    shared = endpoint(inode=101, owners=OWNERS)
    assert shared.holders == (Holder(811, 6), Holder(812, 6))
    assert shared.process == NGINX
    assert process_words(shared) == "nginx[812] +1"


def test_a_socket_that_nobody_holds_has_no_process() -> None:
    assert endpoint("TIME_WAIT", owners=OWNERS).process is None
    assert endpoint("TIME_WAIT", owners=OWNERS).holders == ()


def test_owners_hold_what_they_are_given() -> None:
    owners = Owners([(5, 1, 3), (6, 2, 4)], [])
    assert (owners.pid_of(5), owners.pid_of(6), owners.pid_of(7)) == (1, 2, 0)
    assert (owners.has(1), owners.has(3)) == (True, False)


def test_a_line_has_always_the_same_keys() -> None:
    lines = [
        endpoint_line(endpoint(inode=102, owners=OWNERS, rtt_us=20_000, bytes_sent=5)),
        endpoint_line(endpoint("TIME_WAIT")),
        endpoint_line(endpoint("LISTEN", "[::]:80", None, queues=(1, 128))),
        endpoint_line(endpoint("UNCONNECTED", "127.0.0.1:53", None, protocol="udp")),
    ]
    assert len({tuple(line) for line in lines}) == 1
    connected, gone, listening, udp = (json.loads(json.dumps(line)) for line in lines)
    assert list(connected)[:6] == ["kind", "protocol", "state", "local", "remote", "process"]
    assert connected["process"] == {"pid": 900, "app": "/usr/bin/curl", "user": 1000, "unit": None}
    assert (connected["rtt_ms"], connected["bytes_sent"]) == (20.0, 5)
    assert gone["process"] is gone["bytes_sent"] is None
    assert (listening["remote"], listening["local"]) == (None, "[::]:80")
    assert (listening["accept_queue"], listening["backlog"], listening["service"]) == (1, 128, "http")
    assert (udp["state"], udp["service"], udp["tcp"]) == ("UNCONNECTED", "domain", None)


def test_a_mapped_address_is_ipv4() -> None:
    mapped = endpoint(local="[::ffff:10.0.0.1]:80", remote="[::ffff:10.0.0.2]:999")
    assert (mapped.local, mapped.remote, mapped.family) == ("10.0.0.1:80", "10.0.0.2:999", 6)


@pytest.mark.parametrize(
    "one, line",
    [
        (
            endpoint("LISTEN", "0.0.0.0:80", None, inode=101, owners=OWNERS),
            "TCP,nginx,812,LISTENING,0.0.0.0:80,0.0.0.0:0",
        ),
        (endpoint("TIME_WAIT"), "TCP,[System Process],0,TIME_WAIT,10.0.0.1:80,10.0.0.9:40112"),
        (endpoint("UNCONNECTED", "[::1]:53", None, protocol="udp"), "UDP,[System Process],0,*,[::1]:53,*:*"),
    ],
)
def test_csv_is_tcpvcon_s(one: object, line: str) -> None:
    assert csv_line(one) == line  # type: ignore[arg-type]


def test_age_is_exact_until_both_sides_have_sent() -> None:
    silent = endpoint(last_data_sent_ms=5000, last_data_received_ms=9000)
    assert (silent.age_s, silent.age_is_exact) == (9.0, True)
    asked = endpoint(last_data_sent_ms=100, last_data_received_ms=9000, data_segments_out=1)
    assert (asked.age_s, asked.age_is_exact, asked.idle_s) == (9.0, True, 0.1)
    answered = endpoint(last_data_sent_ms=100, last_data_received_ms=50, data_segments_out=1, data_segments_in=1)
    assert (answered.age_s, answered.age_is_exact) == (0.1, False)
    assert BY_NAME["age"].cell(answered) == ">100ms"
    assert endpoint("SYN_SENT", last_data_sent_ms=99999).age_s is None


def test_figures_of_an_older_kernel_are_zero_where_it_sends_none() -> None:
    info = tcp_info(bytes([1]) + bytes(103))
    assert (info.state, info.send_window, info.timeout_ms) == (1, 0, 0)
    longer = tcp_info(INFO.pack(*range(59)) + bytes(40))
    assert longer.state == 0


def test_what_changed_is_told_once() -> None:
    before = [
        endpoint(cookie=1),
        endpoint(remote="10.0.0.9:1", cookie=2),
        endpoint("LISTEN", "0.0.0.0:1", None, cookie=9),
    ]
    now = [endpoint("TIME_WAIT", cookie=7), endpoint(remote="10.0.0.9:3", cookie=3), before[2]]
    told = [
        (change.what, change.endpoint.remote, change.was.state if change.was else None)
        for change in changes(before, now)
    ]
    assert told == [
        ("changed", "10.0.0.9:40112", "ESTABLISHED"),
        ("new", "10.0.0.9:3", None),
        ("gone", "10.0.0.9:1", "ESTABLISHED"),
    ]


@pytest.mark.parametrize("count, words", [(0, "0"), (999, "999"), (1200, "1.2k"), (34_000_000, "34M"), (5e15, "5000T")])
def test_sizes_are_short(count: float, words: str) -> None:
    assert size_words(count) == words


@pytest.mark.parametrize(
    "seconds, words", [(None, ""), (0.0004, "0.4ms"), (0.012, "12ms"), (3.44, "3.4s"), (300, "5.0m"), (90000, "1d")]
)
def test_times_are_short(seconds: float | None, words: str) -> None:
    assert time_words(seconds) == words


def test_a_holder_that_is_gone_is_no_change_and_another_one_is() -> None:
    held, left, passed_on = (
        endpoint(state="LISTEN", remote=None, inode=101, owners=owners)
        for owners in (OWNERS, NOBODY, Owners([(101, 900, 3)], [CURL]))
    )
    assert [change.what for change in changes([held], [left])] == []
    assert [change.what for change in changes([held], [passed_on])] == ["changed"]
    assert [change.what for change in changes([left], [])] == ["gone"]
