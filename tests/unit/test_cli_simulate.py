"""`layergate simulate`: lines for programs, charts for people, files for Wireshark and for pages."""

import ipaddress
import json
import struct
from pathlib import Path

import pytest

from layergate.cli import main
from layergate.sim import scenarios
from layergate.sim.documented import FLOWS

BLOCKS = '[[filter]]\nname = "no SYN comes in"\nlayer = "INBOUND_TRANSPORT"\naction = "block"\n'


def lines(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> list[dict[str, object]]:
    assert main(["simulate", *words, "--json"]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_flows_lines_are_its_indications_and_a_summary_last(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, "tcp-establishment", "--ip", "6")
    assert [line["kind"] for line in told] == ["indication"] * 22 + ["summary"]
    first, last = told[0], told[-1]
    assert (first["host"], first["event"], first["layer"]) == ("server", "bind", "FWPM_LAYER_ALE_BIND_REDIRECT_V6")
    assert (last["indications"], last["permitted"], last["blocked"], last["flows"]) == (22, 22, 0, 1)


def test_the_seed_alone_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "tcp-data", "--seed", "5") == lines(capsys, "tcp-data", "--seed", "5")
    assert lines(capsys, "tcp-data", "--seed", "5") != lines(capsys, "tcp-data", "--seed", "6")


def test_a_policy_ends_the_flow_where_it_blocks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(BLOCKS)
    *told, _ = lines(capsys, "tcp-establishment", "--policy", str(policy))
    assert [line["layer"] for line in told[-2:]] == [
        "FWPM_LAYER_INBOUND_TRANSPORT_V4",
        "FWPM_LAYER_INBOUND_TRANSPORT_V4_DISCARD",
    ]
    assert (told[-2]["action"], told[-2]["filter_name"]) == ("block", "no SYN comes in")


def test_a_scenarios_lines_tell_calls_and_notes_too(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, "policy-change")
    calls = [line for line in told if line["kind"] == "call"]
    assert calls[0]["call"] == "postgres: listen L 5432"
    assert calls[-1]["error"] == "ECONNRESET"
    assert [line["text"] for line in told if line["kind"] == "note"] == ["another policy is in force at server"]


def test_every_flow_and_scenario_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, "--list")
    assert {str(line["name"]) for line in told} == {*FLOWS, *scenarios.names()}
    assert main(["simulate", "--list"]) == 0
    assert "tcp-establishment" in capsys.readouterr().out
    assert main(["simulate"]) == 2


def test_a_scenario_can_be_shown_copied_and_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["simulate", "refused-nowhere"]) == 2
    assert "simulate --list names them" in capsys.readouterr().err
    assert main(["simulate", "simultaneous-close", "--show"]) == 0
    copy = tmp_path / "mine.txt"
    copy.write_text(capsys.readouterr().out)
    assert lines(capsys, str(copy)) == lines(capsys, "simultaneous-close")


def test_a_slip_of_the_pen_is_met_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "tcp-establishmnt"]) == 2
    assert "did you mean 'tcp-establishment'?" in capsys.readouterr().err


def test_a_wrong_scenario_is_refused_with_each_wrong_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "wrong.txt"
    file.write_text("jump\nwait\n")
    told = lines(capsys, str(file), status=2)
    assert [(line["kind"], line["line"]) for line in told] == [("error", 1), ("error", 2)]
    file.write_bytes(b"\xff\xfe")
    assert lines(capsys, str(file), status=2)[0]["found"] == "byte 0 is no UTF-8"


def test_people_see_a_chart_and_may_have_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "tcp-data"]) == 0
    assert "├── P. 1:19(18) ack 1" in capsys.readouterr().out
    assert main(["simulate", "tcp-data", "--lines"]) == 0
    assert "STREAM_V4" in capsys.readouterr().out


def test_a_long_chart_leaves_its_middle_out_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "lossy-transfer"]) == 0
    short = capsys.readouterr().out
    assert "rows more; --all draws them" in short
    assert main(["simulate", "lossy-transfer", "--all"]) == 0
    assert len(capsys.readouterr().out) > len(short)


def test_the_packets_are_written_as_pcapng_with_the_hosts_as_interfaces(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "session.pcapng"
    assert main(["simulate", "half-open-keepalive", "--pcapng", str(file), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    names, packets = read(file.read_bytes())
    assert names == [b"client", b"server"]
    assert len(packets) == summary["packets"]
    interface, time_ns, packet = packets[0]
    assert (interface, time_ns) == (0, 0)
    assert ipaddress.ip_address(packet[12:16]) == ipaddress.ip_address("10.9.0.1")
    assert [time for _, time, _ in packets] == sorted(time for _, time, _ in packets)


def read(data: bytes) -> tuple[list[bytes], list[tuple[int, int, bytes]]]:
    """Return the interfaces and the packets of a pcapng file. Source: draft-ietf-opsawg-pcapng, 4."""
    names, packets, at = [], [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        if kind == 1:  # interface description: link type 101 (raw IP), then options; if_name is 2
            assert struct.unpack_from("<H", data, at + 8) == (101,)
            code, size = struct.unpack_from("<HH", data, at + 16)
            assert code == 2
            names.append(data[at + 20 : at + 20 + size])
        elif kind == 6:  # enhanced packet
            interface, high, low, captured, original = struct.unpack_from("<IIIII", data, at + 8)
            assert captured == original
            packets.append((interface, high << 32 | low, data[at + 28 : at + 28 + captured]))
        at += length
    return names, packets


def test_the_chart_is_drawn_into_a_file(tmp_path: Path) -> None:
    file = tmp_path / "chart.svg"
    assert main(["simulate", "udp-establishment", "--svg", str(file), "--lines"]) == 0
    assert file.read_text().startswith("<svg ")


def test_a_scenario_that_a_policy_ends_is_shown_up_to_there_and_then_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(BLOCKS)
    words = ("simultaneous-close", "--policy", str(policy))
    told = lines(capsys, *words, status=2)
    assert "no SYN comes in" in [line.get("filter_name") for line in told]
    assert ([line["kind"] for line in told].count("error"), told[-1]["kind"]) == (1, "error")
    assert main(["simulate", *words]) == 2
    shown = capsys.readouterr()
    assert "✗ by 'no SYN comes in'" in shown.out
    assert "it waits for what never comes" in shown.err
