"""Blocks from the view become filters in a policy file, or a message; never half a file."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from layergate.live.names import SystemResolver
from layergate.live.record import Record
from layergate.model import InputError, PolicyError
from layergate.policyfile import load_file
from layergate.tui.blocking import add_filters
from layergate.tui.model import Request
from layergate.tui.rows import Row
from tests.unit.sockets.example import OWNERS, endpoint

ROW = Row(endpoint("ESTABLISHED", remote="203.0.113.9:5000", inode=102, owners=OWNERS))


@pytest.mark.parametrize("what, condition", [("block remote", "203.0.113.9"), ("block app", "/usr/bin/curl")])
def test_a_block_is_two_filters(tmp_path: Path, what: str, condition: str) -> None:
    policy = tmp_path / "policy.toml"
    assert "2 filters added" in add_filters(policy, Request(what, (ROW,)))
    loaded = load_file(str(policy), SystemResolver()).policy
    assert {item.layer.base for item in loaded.filters} == {"ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT"}
    assert condition in policy.read_text()
    assert "already" in add_filters(policy, Request(what, (ROW,)))


def test_what_stood_in_the_file_stays(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('# ours\n[[filter]]\nname = "a"\nlayer = "ALE_AUTH_LISTEN"\naction = "permit"\n')
    policy.chmod(0o640)
    add_filters(policy, Request("block remote", (ROW,)))
    assert policy.read_text().startswith("# ours\n")
    assert policy.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["policy.toml"]


def test_a_file_with_an_error_is_left_as_it_is(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("nonsense = 1\n")
    with pytest.raises(PolicyError):
        add_filters(policy, Request("block remote", (ROW,)))
    assert policy.read_text() == "nonsense = 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["policy.toml"]


@pytest.fixture(autouse=True)
def nobody_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests see no run of this machine."""
    monkeypatch.setattr("layergate.live.record.read_all", list)


def test_without_a_file_the_user_is_told_how_to_name_one() -> None:
    with pytest.raises(InputError, match="--policy FILE"):
        add_filters(None, Request("block remote", (ROW,)))


def test_filters_that_stand_in_the_file_already_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.toml"
    add_filters(policy, Request("block remote", (ROW,)))
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: told.append((pid, number)))
    names = {1: "view: connects to 203.0.113.9", 2: "view: accepts from 203.0.113.9"}
    run = Record(4711, 1, str(policy), "/", filters=names)
    monkeypatch.setattr("layergate.live.record.read_all", lambda: [run])
    said = add_filters(policy, Request("block remote", (ROW,)))
    assert said.startswith("in force (layergate run, 4711)")
    assert told == [(4711, signal.SIGHUP)]
