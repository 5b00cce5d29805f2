"""The simulator's scenarios give the findings of the same name; and a simulated host that is well gives none."""

import pytest

from layergate.policyfile import TableResolver
from layergate.sim import scenarios
from layergate.sim.running import Run
from layergate.sim.script import parse
from layergate.sockets.diagnosis import Evidence, Finding, diagnose
from layergate.sockets.diagnosis.evidence import Limits, View
from layergate.sockets.simulated import settings, view


def views(text: str, host: str, at_s: float, seconds: float = 2.0, version: int = 4) -> tuple[Run, list[View]]:
    """Play a scenario, and look at *host* at *at_s* and *seconds* later."""
    run = Run(parse(text, "scenario"), TableResolver(), version=version)
    taken: list[View] = []
    for moment in (at_s, at_s + seconds):
        run.world.at(moment, lambda: taken.append(view(run.hosts[host])))
    run.play()
    run.world.run(until=at_s + seconds + 1)
    return run, taken


def found(text: str, host: str, at_s: float, limits: Limits | None = None, version: int = 4) -> list[Finding]:
    run, (before, after) = views(text, host, at_s, version=version)
    return diagnose(Evidence(before, after, settings(run.hosts[host]), limits or Limits()))


@pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
@pytest.mark.parametrize(
    "name, host, at_s, limits, finding, figures",
    [
        ("close-wait-leak", "server", 60, Limits(), "close-wait-leak", {"count": 5}),
        ("fin-wait-2-stall", "client", 120, Limits(count=1), "fin-wait-2-stuck", {"count": 1}),
        ("time-wait-pile-up", "client", 5, Limits(), "ports-exhausted", {"used": 20, "range": 20, "time_wait": 20}),
        ("time-wait-pile-up", "client", 5, Limits(short=20), "short-connections", {"count": 20}),
        ("accept-queue-overflow", "server", 0.5, Limits(), "accept-queue-full", {}),
        ("syn-flood", "server", 4, Limits(), "syn-flood", {"half_open": 65, "sources": 65}),
        ("syn-flood", "server", 4, Limits(), "syn-queue-full", {"tcp_syncookies": 0}),
        ("syn-queue-overflow", "client", 4, Limits(), "syn-sent-stuck", {"count": 1}),
        ("half-open-cable-pulled", "client", 100, Limits(), "dead-peer", {"unacknowledged_bytes": 100}),
        ("half-open-cable-pulled", "client", 8000, Limits(), "idle-unprobed", {"count": 1}),
        ("half-open-keepalive", "client", 145, Limits(), "dead-peer", {}),
        ("firewall-forgets", "client", 365, Limits(), "dead-peer", {"unacknowledged_bytes": 200}),
    ],
)
def test_a_scenario_gives_the_finding_of_the_same_name(
    *, name: str, host: str, at_s: float, limits: Limits, finding: str, figures: dict[str, int], version: int
) -> None:
    told = {one.id: one for one in found(scenarios.text(name), host, at_s, limits, version)}
    assert finding in told
    assert {key: told[finding].figures[key] for key in figures} == figures


@pytest.mark.parametrize(
    "name, host, at_s, app",
    [
        ("close-wait-leak", "server", 60, "/usr/local/bin/leaky"),
        ("accept-queue-overflow", "server", 0.5, "/usr/local/bin/busy"),
        ("half-open-cable-pulled", "client", 100, "/usr/bin/ssh"),
    ],
)
def test_the_finding_names_whose_it_is(name: str, host: str, at_s: float, app: str) -> None:
    (first, *_) = found(scenarios.text(name), host, at_s)
    assert first.process is not None
    assert first.process.app == app


HEALTHY = """# A session.
host client 10.9.0.1/24
host server 10.9.0.2/24
link client server delay 5ms
program curl at client app /usr/bin/curl
program nginx at server app /usr/sbin/nginx user 33
nginx: listen L 80
repeat 3:
    curl: connect C{i} server:80
    nginx: accept S{i} from L
    curl: send C{i} 1000
    nginx: receive S{i} 1000
    nginx: send S{i} 50000
    curl: receive C{i} 50000
wait 10s
"""


@pytest.mark.parametrize("host", ["client", "server"])
def test_a_host_that_is_well_gives_no_finding(host: str) -> None:
    assert found(HEALTHY, host, 5) == []


def test_the_table_is_what_a_kernel_would_tell() -> None:
    _, (taken, _) = views(HEALTHY, "server", 5)
    rows = [(one.state, one.local, one.remote_address, one.send_queue) for one in taken.endpoints]
    assert rows[0] == ("LISTEN", "0.0.0.0:80", None, 128)
    assert rows[1:] == [("ESTABLISHED", "10.9.0.2:80", "10.9.0.1", 0)] * 3
    last = taken.endpoints[-1]
    assert last.process is not None
    assert (last.process.name, last.user) == ("nginx", 33)
    assert last.info is not None
    assert last.info.rtt_us == pytest.approx(10_000, rel=0.6)  # acknowledgments wait for company
    assert last.idle_s == pytest.approx(5, abs=0.2)
