"""What the command says when it is not given what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from layergate import __version__
from layergate.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"layergate {__version__}\n"


def test_no_words_list_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "explain" in capsys.readouterr().err


def test_a_mistyped_verb_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trcae"]) == 2
    assert "did you mean 'trace'?" in capsys.readouterr().err


POLICY = """
[[filter]]
name = "no redirect"
layer = "{layer}"
action = "block"
when = {{ {when} }}
"""


def explained(tmp_path: Path, layer: str, when: str, *words: str) -> int:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(layer=layer, when=when), encoding="utf-8")
    return main(["explain", "--policy", str(policy), *words])


def test_a_call_is_blocked_by_any_of_its_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connect = ("connect", "tcp", "10.0.0.1", "to", "10.0.0.2:80")
    assert explained(tmp_path, "ALE_CONNECT_REDIRECT", "remote_port = 80", *connect) == 1
    assert "blocked at ALE_CONNECT_REDIRECT_V4" in capsys.readouterr().out
    assert explained(tmp_path, "ALE_BIND_REDIRECT", "local_port = 80", "bind", "tcp", "10.0.0.1:80") == 1
    assert explained(tmp_path, "ALE_BIND_REDIRECT", "local_port = 81", "bind", "tcp", "10.0.0.1:80") == 0
    assert "permitted at ALE_RESOURCE_ASSIGNMENT_V4" in capsys.readouterr().out


def test_an_arrow_that_the_shell_took_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(tmp_path, "ALE_AUTH_CONNECT", "remote_port = 80", "connect", "tcp", "10.0.0.1", "-") == 2
    assert "the shell took '>'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "layer,when,finding",
    [
        ("ALE_AUTH_CONNECT", 'protocol = "udp"', "protocol-not-shown"),
        ("ALE_ENDPOINT_CLOSURE", 'protocol = "tcp"', "block-without-effect"),
    ],
)
def test_what_would_do_nothing_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: str, when: str, finding: str
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(layer=layer, when=when), encoding="utf-8")
    assert main(["check", str(policy)]) == 0
    assert f"warning {finding}" in capsys.readouterr().out
