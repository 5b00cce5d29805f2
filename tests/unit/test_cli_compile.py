"""`layergate compile`: tables, trees, and filters without a place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layergate.cli import main

POLICY = """
[[filter]]
name = "all"
layer = "ALE_AUTH_CONNECT_V4"
action = "block"
weight = 9
when = { remote_port = "1-65535" }

[[filter]]
name = "ssh"
layer = "ALE_AUTH_CONNECT_V4"
action = "permit"
weight = 1
when = { remote_port = 22 }
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "p.toml"
    path.write_text(POLICY, encoding="utf-8")
    return str(path)


def test_the_report_names_what_hides_a_filter(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", policy, "--report"]) == 0
    head, names, tree, hidden, summary = capsys.readouterr().out.replace(policy, "p.toml").splitlines()
    assert head.startswith("ALE_AUTH_CONNECT_V4  2 filters, 1 sublayer, ")
    assert names.split()[:3] == ["narrow", "in", "entries"]
    assert tree.split()[:3] == ["(the", "rest)", "2"]
    assert hidden == "    'ssh' never decides: hidden by 'all'"
    assert summary.startswith("p.toml: 2 filters in 1 table, ")
    assert summary.endswith("; 1 without a place")


def test_json_has_a_line_a_table_a_removed_filter_and_a_summary(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", policy, "--json"]) == 0
    table, removed, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (table["kind"], table["layer"], table["filters"]) == ("table", "FWPM_LAYER_ALE_AUTH_CONNECT_V4", 2)
    assert (removed["kind"], removed["filter_name"], removed["by_names"]) == ("removed", "ssh", ["all"])
    assert (summary["kind"], summary["removed"], summary["kernel"]) == ("summary", 1, None)


def test_the_steps_of_a_layer_are_listed(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", policy, "--steps", "ALE_AUTH_CONNECT"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["END", "ROOT", "LEAF", "IN", "MATCH", "END"]


def test_a_layer_without_filters_is_answered_with_those_that_have_some(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", policy, "--steps", "STREAM"]) == 2
    assert "no filters at STREAM; one of ALE_AUTH_CONNECT_V4" in capsys.readouterr().err
