"""What filter words choose, and what is said of words that are none."""

from __future__ import annotations

import pytest

from layergate.model import InputError
from layergate.sockets.columns import row_text
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.filters import parse
from tests.unit.sockets.example import OWNERS, endpoint

WEB = endpoint(inode=101, owners=OWNERS, user=33, rtt_us=120_000, retransmitted=2, data_segments_out=1)
LISTENER = endpoint("LISTEN", "[::]:443", None, inode=101, owners=OWNERS, queues=(3, 128))
CURL = endpoint("CLOSE_WAIT", "192.168.0.5:50000", "10.1.2.3:443", inode=102, owners=OWNERS)
DNS = endpoint("UNCONNECTED", "127.0.0.1:53", None, protocol="udp", namespace="blue")
MAPPED = endpoint("ESTABLISHED", "[::ffff:10.0.0.1]:80", "[::ffff:10.7.7.7]:5000")
ALL = {"web": WEB, "listener": LISTENER, "curl": CURL, "dns": DNS, "mapped": MAPPED}


def unit(number: int) -> str | None:
    return {4711: "nginx.service"}.get(number)


def chosen(*words: str) -> set[str]:
    wanted = parse(words, row_text, unit)
    return {name for name, one in ALL.items() if wanted(one)}


@pytest.mark.parametrize(
    "words, names",
    [
        ("", "web listener curl dns mapped"),
        ("state:established", "web mapped"),
        ("state:estab,listen", "web listener mapped"),
        ("state:close-wait", "curl"),
        ("state:ending", "curl"),
        ("!state:established", "listener curl dns"),
        ("port:443", "listener curl"),
        ("port:https", "listener curl"),
        ("remote_port:443", "curl"),
        ("lport:50-90", "web dns mapped"),
        ("app:nginx", "web listener"),
        ("app:/usr/bin/*", "curl"),
        ("process:NGI*", "web listener"),
        ("pid:811", "web listener"),
        ("user:33", "web"),
        ("unit:nginx", "web listener"),
        ("unit:nginx.service", "web listener"),
        ("remote:10.0.0.0/8", "web curl mapped"),
        ("remote:10.1.2.3:443", "curl"),
        ("remote::443", "curl"),
        ("address:10.0.0.1", "web mapped"),
        ("local:::/0", "listener"),
        ("local:[::]:443", "listener"),
        ("family:6", "listener mapped"),
        ("proto:udp", "dns"),
        ("netns:blue", "dns"),
        ("service:domain", "dns"),
        ("rtt:>100ms", "web"),
        ("rtt:<100ms", ""),
        ("retransmitted:2", "web"),
        ("receive_queue:>=3", "listener"),
        ("curl", "curl"),
        ("/10\\.[17]\\./", "curl mapped"),
        ("!/10\\./ proto:tcp", "listener"),
    ],
)
def test_words_choose(words: str, names: str) -> None:
    assert chosen(*words.split()) == set(names.split())


@pytest.mark.parametrize(
    "word, said",
    [
        ("state:open-ish", "no state is called 'open-ish'"),
        ("colour:red", "no filter word begins with 'colour:'"),
        ("port:99999", "no port is '99999'"),
        ("port:frobnicate", "no port is called 'frobnicate'"),
        ("remote:10.0.0", "'10.0.0' is no address"),
        ("remote:", "names nothing"),
        ("/(/", "is no regular expression"),
        ("rtt:fast", "compares with nothing"),
        ("user:nobody-of-this-name", "there is no user"),
        ("pid:x", "is no process number"),
        ("family:5", "there is no IP version"),
        ("proto:sctp", "no protocol 'sctp' is listed"),
    ],
)
def test_words_that_are_none_are_told_with_what_there_is(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        parse([word], row_text)


def test_figures_are_asked_for_only_where_a_word_looks_at_them() -> None:
    assert not parse(["state:listen", "/rtt:/"], row_text).needs_details
    assert parse(["!rtt:>1s"], row_text).needs_details


def test_an_endpoint_without_figures_is_chosen_by_no_comparison() -> None:
    bare: Endpoint = CURL
    assert not parse(["rtt:<1h"], row_text)(bare)
