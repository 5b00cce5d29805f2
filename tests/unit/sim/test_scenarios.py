"""The scenarios that come with layergate: each ends as it says, over both families; the same seed, the same bytes."""

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest

from layergate.policyfile import TableResolver
from layergate.sim import scenarios
from layergate.sim.recording import Called, Carried, Indicated, Noted
from layergate.sim.running import Run, play
from layergate.sim.script import parse

GOLDEN = Path(__file__).parents[2] / "golden" / "scenario-packets.json"
EVERY = scenarios.names()
DEMANDED = {
    "lossy-transfer", "half-open-power-cut", "half-open-cable-pulled", "half-open-keepalive", "firewall-forgets",
    "old-duplicate-syn", "simultaneous-open", "simultaneous-close", "close-wait-leak", "fin-wait-2-stall",
    "time-wait-pile-up", "syn-queue-overflow", "accept-queue-overflow", "syn-flood", "slow-clients",
    "long-and-short-connections", "nagle-delayed-ack", "policy-change", "stealth-scan",
}  # fmt: skip
both_families = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
every_scenario = pytest.mark.parametrize("name", EVERY)


@cache
def played(name: str, version: int = 4, seed: int = 0) -> Run:
    return again(name, version, seed)


def again(name: str, version: int = 4, seed: int = 0) -> Run:
    return play(parse(scenarios.text(name), f"{name}.txt"), TableResolver(), version=version, seed=seed)


def digest(run: Run) -> str:
    """Return a digest of every packet: when it left, from where, and its bytes."""
    whole = hashlib.sha256()
    for entry in run.recording.entries:
        if isinstance(entry, Carried):
            whole.update(f"{entry.time:.9f} {entry.sender} {entry.receiver} {entry.why}\n".encode() + entry.packet)
    return whole.hexdigest()[:16]


def notes(run: Run) -> list[str]:
    return [entry.text for entry in run.recording.entries if isinstance(entry, Noted)]


def calls(run: Run) -> dict[str, str]:
    """Return how each call ended, by its text."""
    return {entry.call: entry.error or entry.result for entry in run.recording.entries if isinstance(entry, Called)}


def test_every_scenario_that_is_spoken_of_is_there() -> None:
    assert set(EVERY) >= DEMANDED


@both_families
@every_scenario
def test_a_scenario_ends_as_it_says_over_both_families_and_the_same_again(name: str, version: int) -> None:
    # Calls and states that a scenario expects are checked as it is played.
    first = played(name, version)
    assert first.recording.counts["Indicated"]
    assert digest(first) == digest(again(name, version))


@every_scenario
def test_a_scenario_says_what_it_shows(name: str) -> None:
    script = parse(scenarios.text(name), f"{name}.txt")
    assert script.title.endswith(".")
    assert len(script.title) < 120
    assert script.about


def test_the_packets_of_every_scenario_are_those_that_were_reviewed(request: pytest.FixtureRequest) -> None:
    """The digests are of one machine, and must be the same on any. `make golden` writes them anew, to be reviewed."""
    found = {f"{name} v{version}": digest(played(name, version)) for name in EVERY for version in (4, 6)}
    if request.config.getoption("--golden"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert json.loads(GOLDEN.read_text()) == found


def test_another_seed_gives_another_run() -> None:
    assert digest(played("lossy-transfer", seed=1)) != digest(played("lossy-transfer", seed=2))


# --- what some of them show -------------------------------------------------------------------------------------------


def test_ten_requests_cost_least_where_they_are_sent_ahead() -> None:
    cost = [tuple(map(float, _figures(note))) for note in notes(played("long-and-short-connections"))]
    apart, together, ahead = cost
    assert apart[0] > 2 * together[0] > 4 * ahead[0]
    assert apart[1] > 2 * together[1] > 2 * ahead[1]


def test_nagle_against_delayed_acks_costs_forty_milliseconds_each_time() -> None:
    figures = [_figures(note) for note in notes(played("nagle-delayed-ack")) if "five times" in note]
    hasty, one_write, no_delay = (float(seconds) for seconds, _ in figures)
    assert 5 * 0.040 < hasty < 5 * 0.050
    assert one_write == pytest.approx(0.010)
    assert no_delay == pytest.approx(0.010)


def _figures(note: str) -> tuple[str, str]:
    """Return the seconds and the packets that a measurement tells."""
    seconds, packets = note.rsplit(": ", 1)[1].split(", ")
    return seconds.removesuffix(" s"), packets.removesuffix(" packets")


def test_keepalive_finds_a_pulled_cable_after_its_probes() -> None:
    (note,) = [note for note in notes(played("half-open-keepalive")) if note.startswith("from the cut")]
    # 55 s to the next probe is due, 3 probes 10 s apart, and 10 s after the last.
    assert float(_figures(note)[0]) == pytest.approx(85, abs=0.1)


def test_a_silent_peer_is_given_up_after_the_time_that_linux_takes() -> None:
    run = played("half-open-cable-pulled")
    ended = next(entry for entry in run.recording.entries if isinstance(entry, Called) and entry.error == "ETIMEDOUT")
    assert ended.time == pytest.approx(924.6, rel=0.15)  # the last timeout is waited for to its end


def test_in_stealth_mode_nothing_is_answered_where_nobody_listens() -> None:
    run = played("stealth-scan")
    answers = [entry for entry in run.recording.entries if isinstance(entry, Carried) and entry.sender == "stealthy"]
    honest = [entry for entry in run.recording.entries if isinstance(entry, Carried) and entry.sender == "honest"]
    assert len(honest) == 5
    assert len(answers) == 1  # the SYN-ACK of the port that is open
    blocked = [
        entry.decided for entry in run.recording.entries if isinstance(entry, Indicated) and entry.decided.filter
    ]
    assert {one.filter and one.filter.name for one in blocked} == {"stealth"}


def test_a_flood_fills_the_syn_queue_and_keeps_a_client_out() -> None:
    run = played("syn-flood")
    (listener,) = run.hosts["server"].tcp.listeners.values()
    assert listener.listener.drops > 500
    assert calls(run)["curl: connect C server:80 within 8s -> timeout"] == "timeout"


def blamed(run: Run) -> set[str]:
    """Return the names of the filters that blocked."""
    told = (entry.decided.filter for entry in run.recording.entries if isinstance(entry, Indicated))
    return {one.name for one in told if one is not None}


@both_families
def test_a_limit_on_half_open_connections_lets_a_client_in_through_the_same_flood(version: int) -> None:
    run = played("syn-flood-guarded", version)
    (listener,) = run.hosts["server"].tcp.listeners.values()
    assert listener.listener.drops == 0
    assert blamed(run) == {"six handshakes a network"}
    assert calls(run)["curl: connect C server:80 within 8s"] == ""


@both_families
def test_a_limit_on_concurrent_connections_leaves_places_and_follows_the_sockets(version: int) -> None:
    run = played("connect-flood-guarded", version)
    assert blamed(run) == {"three at once an address"}
    (past,) = (text for text in notes(run) if "is past" in text)
    assert past.endswith("4 with a limit of 3")
    assert calls(run)["curl: connect C server:80"] == ""
    assert calls(run)["flood: connect Z server:80 within 2s"] == ""


@both_families
def test_who_tries_many_ports_is_banned_and_let_in_again_on_time(version: int) -> None:
    run = played("port-scan-banned", version)
    begun, ended = (
        entry.time
        for entry in run.recording.entries
        if isinstance(entry, Noted) and ("is banned" in entry.text or "is over" in entry.text)
    )
    assert ended - begun == pytest.approx(60)
    assert calls(run)["nmap: connect U server:81 within 2s"] == ""


@both_families
def test_an_application_that_tries_many_endpoints_is_stopped_and_another_is_not(version: int) -> None:
    run = played("worm-outbound", version)
    blocked = {
        entry.decided.indication.process.app
        for entry in run.recording.entries
        if isinstance(entry, Indicated) and entry.decided.filter and entry.decided.indication.process
    }
    assert blocked == {"/var/spool/.x"}
    assert calls(run)["curl: connect C victim:22"] == ""


def test_attacks_are_told_by_what_the_limits_counted() -> None:
    told = {
        "port-scan-banned": "10.9.0.1 is banned by 'three ports an address': 4 with a limit of 3",
        "closed-ports-banned": "10.9.0.1 is banned by 'three closed ports an address': 4 with a limit of 3",
        "slowloris-guarded": "10.9.1.1 is banned by 'a hundred bytes in ten seconds': 6 with a limit of 100",
        "resets-banned": "10.9.1.1 is banned by 'four connections that are not normal': 4 with a limit of 3",
        "refused-at-the-limit": "10.9.0.1 is past 'two at once an address': 3 with a limit of 2",
    }
    for name, words in told.items():
        assert [note for note in notes(played(name)) if "with a limit" in note] == [f"server: {words}"]
    (silent,) = (note for note in notes(played("silent-clients-reset")) if "with a limit" in note)
    assert silent.startswith("server: 10.9.0.1 port ")
    assert silent.endswith("is past 'silent for five seconds': 0 with a limit of 0")


def test_only_tcp_is_counted() -> None:
    text = """# UDP passes a limit.
host a 10.9.0.1/24 fd09::1/64
host b 10.9.0.2/24 fd09::2/64
link a b delay 1ms
program dig at a app /usr/bin/dig
program named at b app /usr/sbin/named
policy b:
    [[filter]]
    name = "one at once"
    layer = "ALE_AUTH_RECV_ACCEPT"
    action = "block"
    limit = { per = "remote_address", concurrent = 1 }

named: open S 53
"""
    text += "".join(f"dig: send-to C{n} b:53 10\nnamed: receive-from S\n" for n in range(3))
    assert not blamed(play(parse(text, "udp.txt"), TableResolver(), version=4, seed=0))
