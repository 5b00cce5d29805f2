"""`layergate ls` against `ss -tunapie`, field by field, over thousands of sockets in every state.

ss is asked before and after: what stands still must be equal, what moves must lie between.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.lab import LAYERGATE, Line, inside, namespace

pytestmark = pytest.mark.live

CROWD = Path(__file__).with_name("crowd.py")
CONNECTIONS = 700
STATES = {
    "ESTAB": {"tcp": "ESTABLISHED", "udp": "CONNECTED"}, "UNCONN": {"udp": "UNCONNECTED"},
    "SYN-RECV": {"tcp": "SYN_RECEIVED"}, "FIN-WAIT-1": {"tcp": "FIN_WAIT_1"}, "FIN-WAIT-2": {"tcp": "FIN_WAIT_2"},
}  # fmt: skip
TIMERS = {"on": "retransmit", "timewait": "time_wait", "keepalive": "keepalive", "persist": "persist"}
USER = re.compile(r'\("([^"]*)",pid=(\d+),fd=(\d+)\)')
NUMBER = re.compile(r"(\w+):(\d+(?:\.\d+)?)(?:ms|bps)?")
# ss's names of figures: ours, and ours in ss's unit.
FIGURES = {
    "rto": ("rto_us", 1000), "ato": ("ato_us", 1000), "mss": ("send_mss", 1), "pmtu": ("path_mtu", 1),
    "rcvmss": ("receive_mss", 1), "advmss": ("advertised_mss", 1), "cwnd": ("congestion_window", 1),
    "backoff": ("backoff", 1), "bytes_sent": ("bytes_sent", 1), "bytes_retrans": ("bytes_retransmitted", 1),
    "bytes_acked": ("bytes_acked", 1), "bytes_received": ("bytes_received", 1), "segs_out": ("segments_out", 1),
    "segs_in": ("segments_in", 1), "data_segs_out": ("data_segments_out", 1),
    "data_segs_in": ("data_segments_in", 1), "lastsnd": ("last_data_sent_ms", 1),
    "lastrcv": ("last_data_received_ms", 1), "lastack": ("last_ack_received_ms", 1), "delivered": ("delivered", 1),
    "busy": ("busy_us", 1000), "unacked": ("unacked", 1), "lost": ("lost", 1), "sacked": ("sacked", 1),
    "reordering": ("reordering", 1), "rcv_rtt": ("receive_rtt_us", 1000), "rcv_space": ("receive_space", 1),
    "rcv_ssthresh": ("receive_ssthresh", 1), "notsent": ("bytes_unsent", 1), "minrtt": ("rtt_min_us", 1000),
    "snd_wnd": ("send_window", 1), "dsack_dups": ("dsack_duplicates", 1), "rcv_ooopack": ("out_of_order_in", 1),
}  # fmt: skip
MOVING_MS = 5  # between two lists of ss, clocks of the kernel go on


@pytest.fixture(scope="module")
def crowd() -> Iterator[str]:
    """A namespace with the crowd in it."""
    with namespace("crowd") as name:
        running = subprocess.Popen(
            inside(name, sys.executable, str(CROWD), str(CONNECTIONS)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield name
        finally:
            running.communicate("", timeout=20)


def listed(netns: str, *words: str) -> list[Line]:
    done = subprocess.run(
        inside(netns, LAYERGATE, "ls", "--json", *words), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain(end: str) -> str:
    """Return an end as ss writes it in our words: mapped addresses are IPv4, * is the address of all."""
    address, _, port = end.rpartition(":")
    address = address.replace("[::ffff:", "").rstrip("]") if address.startswith("[::ffff:") else address
    return f"{'[::]' if address == '*' else address}:{port}"


def told_by_ss(netns: str) -> dict[int, tuple[list[str], str]]:
    """Return ss's rows by cookie: its columns, and the rest of the row."""
    done = subprocess.run(
        inside(netns, "ss", "-HOtunapie"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    rows = {}
    for line in done.stdout.splitlines():
        *columns, rest = line.split(maxsplit=6)
        cookie = re.search(r"\bsk:([0-9a-f]+)", rest)
        assert cookie is not None, line
        rows[int(cookie[1], 16)] = (columns, rest)
    return rows


def columns_of(row: Line) -> list[str]:
    """Return what ss's columns should be: protocol, state, queues, ends."""
    remote = row["remote"] or ("0.0.0.0:*" if row["family"] == 4 else "[::]:*")
    return [*(str(row[name]) for name in ("protocol", "state", "receive_queue", "send_queue", "local")), str(remote)]


def differences(row: Line, before: tuple[list[str], str], after: tuple[list[str], str]) -> Iterator[str]:
    """Yield what is not as ss has it."""
    ours = columns_of(row)
    for columns, _ in (before, after):
        protocol, state, *queues, local, remote = columns
        words = STATES.get(state, {protocol: state.replace("-", "_")})[protocol]
        if [protocol, words, *queues, plain(local), plain(remote)] != ours:
            yield f"{columns} {ours}"
    rest = before[1]
    yield from marks(row, rest)
    info = row["tcp"]
    if not isinstance(info, dict) or row["protocol"] != "tcp":
        if " rto:" in rest:
            yield "no figures"
        return
    if row["congestion"] not in rest.split():
        yield f"congestion {row['congestion']}"
    text_before, text_after = (re.sub(r"bbr:\(.*?\)", "", text).partition("sk:")[2] for text in (rest, after[1]))
    first, last = (dict(NUMBER.findall(text)) for text in (text_before, text_after))
    assert not first.keys() - FIGURES.keys() - {"uid", "v6only", "cgroup", "rtt", "wscale", "retrans", "ssthresh",
                                                "unreachable", "sk", "ino"}, first  # fmt: skip
    for name, (key, unit) in FIGURES.items():
        if row["state"] == "LISTEN" and name in ("unacked", "sacked", "reordering", "lastsnd", "lastrcv", "lastack"):
            continue
        bounds = sorted(float(found.get(name, implied(name, key, info, unit))) for found in (first, last))
        if (
            not bounds[0] - MOVING_MS * (name in ("lastsnd", "lastrcv", "lastack", "busy")) - 0.001
            <= info[key] / unit
            <= bounds[1] + 0.001
        ):
            yield f"{name}: {bounds} {info[key]}"
    rtt = re.search(r" rtt:([\d.]+)/([\d.]+)", rest)
    if rtt and (round(float(rtt[1]) * 1000), round(float(rtt[2]) * 1000)) != (info["rtt_us"], info["rtt_variance_us"]):
        yield f"rtt: {rtt[0]}"
    scales = re.search(r"wscale:(\d+),(\d+)", rest)
    if scales and (int(scales[1]), int(scales[2])) != (info["window_scales"] & 15, info["window_scales"] >> 4):
        yield f"wscale: {scales[0]}"
    totals = [int(found[1]) if (found := re.search(r"retrans:\d+/(\d+)", text)) else 0 for text in (rest, after[1])]
    if not totals[0] <= info["retransmitted"] <= totals[1]:
        yield f"retrans: {totals}"


def implied(name: str, key: str, info: dict[str, int], unit: int) -> float:
    """Return what it means that ss does not name a figure: mostly 0, and the usual for some."""
    usual = {"reordering": 3, "minrtt": info[key] / unit, "rto": info[key] / unit}
    return usual.get(name, 0)


def marks(row: Line, rest: str) -> Iterator[str]:
    """Yield what differs of owners, timer, user, inode, shut directions."""
    holders = {(int(pid), int(fd)) for _, pid, fd in USER.findall(rest)}
    ours = {(one["pid"], one["fd"]) for one in row["holders"]}  # type: ignore[attr-defined]
    if holders != ours:
        yield f"users {holders} {ours}"
    if {name for name, _, _ in USER.findall(rest)} - {row["name"]}:
        yield f"name {row['name']}"
    timer = re.search(r"timer:\((\w+),[^,]*,(\d+)\)", rest)
    ours_timer = row["timer"]
    if (TIMERS[timer[1]] if timer else None) != (ours_timer["kind"] if ours_timer else None):  # type: ignore[index]
        yield f"timer {ours_timer}"
    uid, inode = re.search(r"\buid:(\d+)", rest), re.search(r"\bino:(\d+)", rest)
    if int(uid[1] if uid else 0) != row["user"] or int(inode[1] if inode else 0) != (row["inode"] or 0):
        yield f"user or inode {row['user']} {row['inode']}"
    arrow = re.search(r" (<->|-->|<--|---)(?= |$)", rest)
    if arrow:
        shut = [word for word, sign in (("receive", "<"), ("send", ">")) if sign not in arrow[1]]
        if shut != row["shut"]:
            yield f"shut {arrow[1]} {row['shut']}"
    only = re.search(r"v6only:(\d)", rest)
    if only and bool(int(only[1])) != row["v6_only"]:
        yield f"v6only {row['v6_only']}"


def test_the_list_is_that_of_ss_field_by_field(crowd: str) -> None:
    before, rows, after = told_by_ss(crowd), listed(crowd), told_by_ss(crowd)
    bound = [row for row in rows if row["state"] == "BOUND"]  # which this ss doesn't ask for
    assert [row["local"] for row in bound] == ["127.0.0.1:8011"]
    ours = {row["cookie"]: row for row in rows if row["state"] != "BOUND"}
    assert ours.keys() == before.keys() == after.keys()
    assert len(ours) >= 2000
    assert Counter(str(row["state"]) for row in rows).keys() == {
        "ESTABLISHED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING",
        "LAST_ACK", "TIME_WAIT", "BOUND", "CONNECTED", "UNCONNECTED",
    }  # fmt: skip
    wrong = {}
    for cookie, row in ours.items():
        found = list(differences(row, before[cookie], after[cookie]))  # type: ignore[index]
        if found:
            wrong[cookie] = (found, before[cookie])  # type: ignore[index]
    assert not wrong, f"{len(wrong)} differ: {list(wrong.items())[:5]}"


def test_a_socket_that_was_inherited_or_passed_on_is_that_of_its_holders(crowd: str) -> None:
    rows = listed(crowd, "state:established")
    shared = [row for row in rows if len({one["pid"] for one in row["holders"]}) == 2]  # type: ignore[attr-defined]
    first = {one["pid"] for row in rows for one in row["holders"]}  # type: ignore[attr-defined]
    assert len(first) == 2
    child = max(first)
    (inherited,) = shared
    assert inherited["process"]["pid"] == child  # type: ignore[index]
    only = [row for row in rows if {one["pid"] for one in row["holders"]} == {child}]  # type: ignore[attr-defined]
    (given,) = only
    assert given["process"]["pid"] == child  # type: ignore[index]


@pytest.mark.parametrize(
    "words, count",
    [
        (["state:listen"], 7),
        (["state:syn-recv", "port:8020"], 5),
        (["state:time_wait", "local_port:8001"], 0),
        (["state:ending", "family:6"], 0),
        (["proto:udp", "state:unconn"], 2),
        (["remote:127.0.0.1:8021"], 5),
        (["state:listen", "!local:127.0.0.0/8", "family:4"], 1),
        (["port:8004", "receive_queue:>0"], 2),
        (["/8021/"], 5),
    ],
)  # fmt: skip
def test_filter_words_choose(crowd: str, words: list[str], count: int) -> None:
    rows = listed(crowd, *words)
    if words[0] == "port:8004":
        assert sum(int(str(row["accept_queue"])) for row in rows) == 5
        assert {row["backlog"] for row in rows} <= {7, 9}
    else:
        assert len(rows) == count


def test_other_namespaces_are_listed_by_name(crowd: str) -> None:
    done = subprocess.run(
        [LAYERGATE, "ls", "--netns", crowd, "--csv", "state:listen"], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 7
    assert all(re.fullmatch(r"TCP,python[\d.]*,\d+,LISTENING,\S+:\d+,\S+:0", line) for line in done.stdout.splitlines())
    everywhere = subprocess.run(
        [LAYERGATE, "ls", "--all", "--json", "state:listen"], capture_output=True, text=True, check=True
    )
    names = Counter(json.loads(line)["namespace"] for line in everywhere.stdout.splitlines())
    assert names[crowd] == 7


def test_a_watched_list_tells_what_comes_and_goes(crowd: str) -> None:
    watching = subprocess.Popen(
        inside(crowd, LAYERGATE, "ls", "port:8055", "--watch", "--json", "--interval", "0.1"),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        script = (
            "import socket, time; s = socket.socket(); time.sleep(1); s.bind(('127.0.0.1', 8055)); time.sleep(0.5); "
            "s.listen(); time.sleep(0.5); s.close()"
        )
        subprocess.run(inside(crowd, sys.executable, "-c", script), check=True)
        assert watching.stdout is not None
        told = [json.loads(watching.stdout.readline()) for _ in range(3)]
    finally:
        watching.terminate()
        watching.communicate(timeout=10)
    assert [(line["change"], line["state"]) for line in told] == [
        ("new", "BOUND"),
        ("changed", "LISTEN"),
        ("gone", "LISTEN"),
    ]
    assert told[0]["process"]["app"].rpartition("/")[2].startswith("python")
