"""A sequence chart shows hosts, segments and layers with their verdicts; on a terminal, and as a picture."""

from xml.etree import ElementTree as ET

import pytest

from layergate.policyfile import TableResolver
from layergate.sim import scenarios
from layergate.sim.chart import as_svg, as_text, rows
from layergate.sim.documented import simulate
from layergate.sim.running import play
from layergate.sim.script import parse

HOSTS = ("client", "server")


def plain(text: str, colour: str) -> str:
    del colour
    return text


def drawn(name: str, width: int = 128) -> list[str]:
    played = play(parse(scenarios.text(name), name), TableResolver())
    hosts = tuple(played.hosts)
    return as_text(rows(played.recording.entries, hosts), hosts, width=width, paint=plain)


def test_an_establishment_is_drawn_row_by_row() -> None:
    lines = as_text(rows(simulate("tcp-establishment").recording.entries, HOSTS), HOSTS, width=140, paint=plain)
    text = "\n".join(lines)
    assert lines[0].split() == ["seconds", "client", "server"]
    assert "├── S 0:0(0) win 64240 " in text
    assert "◀── S. 0:0(0) ack 1 win 65160 " in text
    assert "│ connect  CONNECT_REDIRECT ✓  AUTH_CONNECT ✓" in text
    assert text.index("SYN  OUTBOUND_TRANSPORT ✓") < text.index("├── S 0:0(0)") < text.index("AUTH_RECV_ACCEPT ✓")


def test_a_block_is_marked_with_the_filter_that_decided() -> None:
    text = "\n".join(drawn("policy-change"))
    assert "AUTH_RECV_ACCEPT again ✗ by 'nobody is welcome any more'" in text
    assert "── another policy is in force at server ──" in text
    assert "postgres: receive S 100 → ECONNABORTED" in text


def test_what_is_lost_ends_before_it_arrives_and_says_why() -> None:
    text = "\n".join(drawn("half-open-keepalive"))
    assert "the link is cut ─" in text
    assert "─✗ │" in text


@pytest.mark.parametrize("name", scenarios.names())
def test_lines_of_two_hosts_fit_the_terminal_but_for_a_filters_name(name: str) -> None:
    played = play(parse(scenarios.text(name), name), TableResolver())
    if len(played.hosts) == 2:
        assert max(len(line) for line in drawn(name, 120) if " by '" not in line) <= 122


@pytest.mark.parametrize("name", ["policy-change", "stealth-scan", "lossy-transfer"])
def test_the_picture_is_well_formed_and_holds_every_host_and_packet(name: str) -> None:
    played = play(parse(scenarios.text(name), name), TableResolver())
    hosts = tuple(played.hosts)
    root = ET.fromstring(as_svg(rows(played.recording.entries, hosts), hosts, "A <title> & more"))  # noqa: S314 - our own
    text = " ".join(root.itertext())
    assert all(host in text for host in hosts)
    assert "A <title> & more" in text
    arrows = [one for one in root.iter() if one.get("class") in ("arrow", "lost")]
    assert len(arrows) == played.recording.counts["Carried"]


def test_notes_stay_within_the_width_and_need_no_hosts_and_no_wide_terminal() -> None:
    played = play(parse("note " + "word " * 60, "notes.txt"), TableResolver())
    for width, longest in [(80, 80), (200, 200), (1, 42)]:
        lines = as_text(rows(played.recording.entries, ()), (), width=width, paint=plain)
        assert max(map(len, lines)) <= longest
