"""The quick plain list shows what the slow one shows."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from layergate.model import NotSupportedError
from layergate.sockets import plain
from layergate.sockets.asking import Datagram, Question
from layergate.sockets.columns import PLAIN, by_name
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.namespaces import HERE, Place
from layergate.sockets.owners import Facts, Owners
from tests.unit.sockets.example import OWNERS, endpoint

ENDPOINTS = [
    endpoint("LISTEN", "0.0.0.0:80", None, inode=101, owners=OWNERS, queues=(3, 128)),
    endpoint(inode=102, owners=OWNERS),
    endpoint("TIME_WAIT", "10.0.0.1:40000", "10.0.0.2:443", owners=OWNERS),
    endpoint("BOUND", "10.0.0.1:90", None, owners=OWNERS),
    endpoint("LISTEN", "[::]:80", None, inode=101, owners=OWNERS),
    endpoint(local="[fd00::1]:80", remote="[fd00::2]:5000", owners=OWNERS),
    endpoint(local="[::ffff:10.0.0.1]:80", remote="[::ffff:10.0.0.2]:999", owners=OWNERS),
    endpoint("UNCONNECTED", "127.0.0.1:53", None, protocol="udp", owners=OWNERS),
    endpoint("CONNECTED", "127.0.0.1:53", "127.0.0.2:54", protocol="udp", inode=101, owners=OWNERS),
]


def cells(one: Endpoint) -> list[str]:
    return " ".join(column.cell(one) for column in by_name(PLAIN)).split()


def datagrams(*endpoints: Endpoint) -> list[Datagram]:
    return [(one.protocol, one.address_family, one._datagram) for one in endpoints]


def test_every_kind_of_row_is_the_same_in_both_lists() -> None:
    lines = "\n".join(plain.lines(datagrams(*ENDPOINTS), OWNERS.words())).split("\n")
    assert [line.split() for line in lines] == [cells(one) for one in ENDPOINTS]


def test_messages_of_one_length_or_of_several_share_a_datagram() -> None:
    four = [one for one in ENDPOINTS if one.address_family == socket.AF_INET and one.protocol == "tcp"]
    alike = b"".join(one._datagram for one in four)
    odd = endpoint(rtt_us=1, owners=OWNERS)
    for together, expected in ((alike, four), (alike + odd._datagram, [*four, odd])):
        (text,) = plain.lines([("tcp", socket.AF_INET, together)], OWNERS.words())
        assert [line.split() for line in text.split("\n")] == [cells(one) for one in expected]


def test_the_end_of_a_dump_is_no_row() -> None:
    done = (20).to_bytes(4, "little") + (3).to_bytes(2, "little") + bytes(14)
    (text,) = plain.lines([("tcp", socket.AF_INET, ENDPOINTS[0]._datagram + done)], OWNERS.words())
    assert len(text.split("\n")) == 1


def written(told: list[Datagram], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines of the list where the kernel tells *told*."""

    def answers(question: Question, place: Place, torn: list[Place]) -> list[Datagram]:
        del place, torn
        return [one for one in told if one[0] in question.protocols and one[1] in question.families]

    monkeypatch.setattr(plain, "datagrams", answers)
    monkeypatch.setattr(plain.owners, "read", lambda: OWNERS)
    place = tmp_path / "list"
    fd = os.open(place, os.O_CREAT | os.O_WRONLY)
    assert not plain.write(HERE, fd)
    os.close(fd)
    return place.read_text().splitlines()


def test_columns_are_as_wide_as_the_longest_ipv6_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = endpoint(local="[fd00:1111:2222:3333:4444:5555:6666:7777]:80", remote="[fd00::2]:5000", owners=OWNERS)
    title, first, second = written(datagrams(ENDPOINTS[0], long), tmp_path, monkeypatch)
    assert title.split() == list(plain.TITLES)
    assert first.index(" - ") + 1 == second.index("[fd00::2]") == title.index("REMOTE")


def test_the_whole_list_is_in_the_order_of_protocols_and_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, *rows = written(datagrams(*reversed(ENDPOINTS)), tmp_path, monkeypatch)
    shown = [(line.split()[0], line.split()[4].startswith("[")) for line in rows]
    assert shown == sorted(shown)
    assert len(rows) == len(ENDPOINTS)


def test_what_the_kernel_refuses_is_raised_where_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> list[Datagram]:
        raise NotSupportedError("sock_diag", "no", "yes")

    monkeypatch.setattr(plain, "datagrams", refused)
    monkeypatch.setattr(plain.owners, "read", lambda: OWNERS)
    with (tmp_path / "list").open("wb") as file, pytest.raises(NotSupportedError, match="sock_diag"):
        plain.write(HERE, file.fileno())


@pytest.mark.parametrize("name, shown", [("a\nb", r"a\nb[7]"), ("\x1b[2J", r"\x1b[2J[7]"), ("naïve", "naïve[7]")])
def test_a_process_s_name_stays_in_its_line(name: str, shown: str) -> None:
    owners = Owners([(5, 7, 3)], [Facts(7, name, None, None, 0)])
    assert owners.words() == {5: shown}
