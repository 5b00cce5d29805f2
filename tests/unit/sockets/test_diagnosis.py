"""What the rules find, and don't, in evidence that is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from layergate.sockets.diagnosis import diagnose, is_bad, lines
from layergate.sockets.diagnosis.evidence import Counters, Evidence, Limits, View, most_common
from layergate.sockets.diagnosis.finding import IDS, Finding
from layergate.sockets.endpoint import Endpoint
from tests.unit.sockets.example import CURL, OWNERS, endpoint

DOCS = Path(__file__).parents[3] / "docs" / "connections.md"
SETTINGS = {
    "core.somaxconn": "128",
    "ipv4.ip_local_port_range": "40000 40099",
    "ipv4.tcp_mem": "100 200 300",
    "ipv4.tcp_max_orphans": "1000",
    "ipv4.tcp_max_tw_buckets": "1000",
}


def evidence(
    *endpoints: Endpoint,
    before: tuple[Endpoint, ...] | None = None,
    counters: Counters | None = None,
    counters_before: Counters | None = None,
) -> Evidence:
    first = View(0.0, endpoints if before is None else before, counters_before or {})
    return Evidence(first, View(2.0, endpoints, counters or {}), SETTINGS, Limits())


def ids(seen: Evidence) -> list[str]:
    return [finding.id for finding in diagnose(seen)]


def only(seen: Evidence) -> Finding:
    (finding,) = diagnose(seen)
    return finding


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    healthy = evidence(
        endpoint("LISTEN", "0.0.0.0:80", None, queues=(3, 128), inode=101, owners=OWNERS),
        endpoint(
            rtt_us=20_000, rtt_min_us=15_000, data_segments_out=1000, retransmitted=3, last_ack_received_ms=90_000
        ),
        endpoint("TIME_WAIT", "10.0.0.1:40001", "10.0.0.2:80", timer=(3, 50_000, 0)),
        endpoint("CLOSE_WAIT", inode=102, owners=OWNERS, last_ack_received_ms=600_000),
        counters={"sockstat TCP": {"mem": 50, "tw": 3, "orphan": 0}},
    )
    assert ids(healthy) == []
    assert not is_bad(diagnose(healthy))


def close_wait(count: int, *, ms: int) -> list[Endpoint]:
    return [
        endpoint(
            "CLOSE_WAIT", remote=f"10.0.0.{number}:5", inode=102, owners=OWNERS, last_ack_received_ms=ms, cookie=number
        )
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize("count, ms, found", [(5, 31_000, True), (4, 31_000, False), (5, 29_000, False)])
def test_a_leak_is_many_and_long(count: int, ms: int, found: bool) -> None:  # noqa: FBT001 - a row's outcome
    assert ids(evidence(*close_wait(count, ms=ms))) == ["close-wait-leak"] * found


def test_a_finding_is_told_with_its_owner_and_numbers() -> None:
    finding = only(evidence(*close_wait(6, ms=41_000)))
    (line,) = lines([finding])
    assert (line["kind"], line["id"], line["severity"]) == ("finding", "close-wait-leak", "error")
    assert line["process"] == {"pid": 900, "app": "/usr/bin/curl", "user": 1000, "unit": None}
    assert line["figures"] == {"count": 6, "seconds_min": 41.0, "unread_bytes": 0}
    assert finding.process == CURL
    assert is_bad([finding])


def test_memory_pressure_is_told_by_its_limits_and_by_what_has_grown() -> None:
    counters = {"sockstat TCP": {"mem": 250}, "TcpExt": {"TCPMemoryPressures": 3, "TCPAbortOnMemory": 0}}
    finding = only(evidence(counters=counters, counters_before={"TcpExt": {"TCPMemoryPressures": 2}}))
    assert (finding.id, finding.severity, finding.figures["pages"]) == ("memory-pressure", "warning", 250)
    assert only(evidence(counters={"sockstat TCP": {"mem": 300}})).severity == "error"


def test_orphans_near_their_limit_are_told() -> None:
    assert only(evidence(counters={"sockstat TCP": {"orphan": 800}})).id == "orphans"
    assert ids(evidence(counters={"sockstat TCP": {"orphan": 799}})) == []


def test_keepalive_probes_without_an_answer_are_a_dead_peer() -> None:
    silent = endpoint(timer=(2, 5000, 3), probes=3, last_ack_received_ms=200_000)
    finding = only(evidence(silent))
    assert (finding.id, finding.subject) == ("dead-peer", "10.0.0.9:40112")
    assert "3 probes" in finding.evidence


def test_loss_is_judged_by_what_happened_meanwhile_where_that_is_enough() -> None:
    was = endpoint(data_segments_out=1000, retransmitted=500)
    assert ids(evidence(endpoint(data_segments_out=1100, retransmitted=501), before=(was,))) == []
    assert ids(evidence(endpoint(data_segments_out=1100, retransmitted=510), before=(was,))) == ["retransmission"]


def test_a_counter_that_stands_still_is_no_finding() -> None:
    counters = {"TcpExt": {"SyncookiesSent": 9, "TCPReqQFullDrop": 1}}
    assert ids(evidence(counters=counters, counters_before=counters)) == []
    assert ids(evidence(counters=counters, counters_before={})) == ["syn-queue-full"]


def test_the_commonest_come_first_and_the_rest_is_counted() -> None:
    assert most_common(["a", "b", "a", None, "c"], 2) == "a (2), - (1), 2 more"


def test_the_docs_list_every_id_and_no_other() -> None:
    section = DOCS.read_text(encoding="utf-8").partition("## What is wrong")[2].partition("\n## ")[0]
    listed = {
        word.strip("`, ") for row in section.splitlines() if row.startswith("| `") for word in row.split("|")[1].split()
    }
    assert listed == set(IDS)
