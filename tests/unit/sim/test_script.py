"""Scenarios as text: every wrong line is named, with what was found and what would be accepted."""

import pytest

from layergate.model import PolicyError
from layergate.policyfile import TableResolver
from layergate.sim import world
from layergate.sim.recording import Called, Noted
from layergate.sim.running import Run, play
from layergate.sim.script import parse

HOSTS = """# A scenario for a test.
# And why.
host a 10.9.0.1/24 fd09::1/64
host b 10.9.0.2/24 fd09::2/64
link a b delay 1ms
program client at a app /usr/bin/client
program server at b app /usr/bin/server user 7 unit web.service
"""
SESSION = """server: listen L 80
client: connect C b:80
server: accept S from L
"""


def run(statements: str, plans: str = "") -> Run:
    return play(parse(HOSTS + plans + statements, "test.txt"), TableResolver())


def outcomes(played: Run) -> list[str]:
    return [entry.error or entry.result for entry in played.recording.entries if isinstance(entry, Called)]


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as raised:
        run(text)
    return [str(problem) for problem in raised.value.problems]


def test_the_first_comment_is_the_title_and_the_rest_explains() -> None:
    script = parse(HOSTS, "test.txt")
    assert (script.title, script.about) == ("A scenario for a test.", "And why.")


@pytest.mark.parametrize(
    "line, found, accepted",
    [
        ("jump", "'jump'", "a program that was named, with a colon, or one of host, link"),
        ("nobody: close C", "'nobody:'", "a program that was named"),
        ("client: fly C", "'fly'", "a call: bind, listen, connect"),
        ("client: connect C", "nothing", "HOST:PORT"),
        ("client: connect C b", "'b'", "HOST:PORT"),
        ("client: connect C b:65536", "'b:65536'", "HOST:PORT"),
        ("client: connect C nowhere:80", "'nowhere'", "a host that was named, or an address of either family"),
        ("client: connect C b:80 soon", "'soon'", "from or within"),
        ("client: connect C b:80 within 5", "'5'", "a time, such as 5ms"),
        ("client: connect C b:80 -> A B", "A B", "one word behind ->"),
        ("client: send C many", "'many'", "a number of bytes, such as 500"),
        ("server: accept S", "nothing", "from"),
        ("wait", "nothing", "a time"),
        ("wait 5ms more", "'more'", "nothing more on this line"),
        ("cut a nobody", "'nobody'", "a host that was named: a, b"),
        ("cut a a", "a a", "two hosts with a link between them"),
        ("expect C WAITING", "'WAITING'", "a state: CLOSED, LISTEN"),
        ("forge a X from a:1 to b:2", "'X'", "flags as tcpdump writes them"),
        ("forge a S from 300.0.0.0:1 to b:2", "'300.0.0.0'", "an address of either family"),
        ("repeat three:", "'three'", "how often, 0 to 10000000"),
        ("repeat 3", "no colon", "a colon at the end, and a block below"),
        ("repeat 3:", "no block below", "lines that are indented by 4 spaces"),
        ("host c 10.9.0.300/24", "'10.9.0.300/24'", "an address with its prefix"),
        ("host c 10.9.0.3/24 ports 9-1", "'9-1'", "two ports, LOW-HIGH"),
        ("link a b loss 101%", "'101%'", "a share, such as 1%, 100% at most"),
        ("link a b speed 5", "'speed'", "delay or rate or loss"),
        ("program x at a", "nothing", "app"),
        ("tcp a magic 5", "'magic'", "an option of TCP: mtu, mss"),
        ("tcp a nagle maybe", "'maybe'", "on or off"),
        ("host a 10.9.0.9/24", "another host a", "a name for each host"),
        ("program client at b app /x", "another program client", "a name for each program"),
        ("link b a", "another link between b and a", "a link for each pair of hosts"),
        ("link a a", "a link from a to itself", "two hosts"),
        ("client: connect C b:80 -> EFOO", "'EFOO'", "an errno's name, such as ECONNREFUSED, or timeout"),
        ("note \x1b[31mred", "a control character", "text that can be printed"),
        ("client: connect C{i} b:80", "{i}", "only in a block that is repeated"),
        ("client: send C 2G", "'2G'", "1G at most in a call"),
        ("client: send C " + "9" * 5000, "999'", "a number of bytes"),
        ("client: listen C " + "9" * 5000, "999'", "a port, 0 to 65535"),
        ("client: connect C b:" + "9" * 5000, "999'", "HOST:PORT"),
        ("host c 10.9.0.3/24 ports 1-" + "9" * 5000, "999'", "two ports, LOW-HIGH"),
        ("wait " + "9" * 5000 + "s", "999s'", "a time, such as 5ms"),
        ("tcp a rto_s_min 0s", "0 < rto_s_min <= rto_s_initial <= rto_s_max", "a connection could live with"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_found_and_what_would_be_accepted(
    line: str, found: str, accepted: str
) -> None:
    (problem,) = problems(line + "\n")
    assert problem.startswith("test.txt:8: ")
    assert found in problem
    assert accepted in problem


def test_a_rate_of_nothing_is_named() -> None:
    with pytest.raises(PolicyError, match="a rate of nothing; a byte a second at least"):
        parse("host a\nhost b\nlink a b rate 0\n", "test.txt")


def test_the_world_is_not_made_in_a_block() -> None:
    told = problems("repeat 2:\n    host c\nbeside:\n    policy b:\n        x = 1\n")
    assert ["'host' in a block" in told[0], "'policy' in a block" in told[1]] == [True, True]


def test_a_block_below_a_line_that_has_none_is_named() -> None:
    (problem,) = problems("wait 1s\n    wait 2s\n")
    assert problem.startswith("test.txt:8: wait 1s: an indented block below it; only policy, change, repeat")


def test_all_wrong_lines_are_named_at_once_and_nothing_is_played() -> None:
    told = problems("jump\nwait\nrepeat 2:\n    fall\n")
    assert [problem.split(":")[1] for problem in told] == ["8", "9", "11"]


def test_a_policy_within_is_checked_like_any_other_with_the_scenarios_lines() -> None:
    policy = ':\n    # A comment.\n\n    [[filter]]\n    name = "x"\n\n    layer = "NOWHERE"\n    action = "permit"\n'
    told = problems(f"policy b{policy}change b{policy}")
    assert [one.startswith(f"test.txt:{line}: filter 'x'") for one, line in zip(told, (14, 22), strict=True)] == [
        True
    ] * 2


def test_a_call_that_ends_otherwise_than_expected_is_an_error_of_the_scenario() -> None:
    (problem,) = problems("client: connect C b:80 -> ETIMEDOUT\n")
    assert "test.txt:8: client: connect C b:80 -> ETIMEDOUT: ECONNREFUSED; ETIMEDOUT" in problem


def test_a_state_that_is_not_there_is_an_error_of_the_scenario() -> None:
    assert "ESTABLISHED; LISTEN" in problems(SESSION + "expect S LISTEN\n")[0]


def test_a_call_that_waits_for_what_never_comes_is_an_error_that_names_it() -> None:
    (problem,) = problems("server: listen L 80\nserver: accept S from L\n")
    assert problem.startswith("test.txt:9: server: accept S from L: it waits for what never comes")


def test_a_call_that_fails_without_an_expectation_is_told_and_the_scenario_goes_on() -> None:
    assert outcomes(run("client: connect C b:81\nclient: connect D b:82\n")) == ["ECONNREFUSED", "ECONNREFUSED"]


def test_repeats_count_each_for_itself_also_within_each_other() -> None:
    played = run("repeat 2:\n    note outer {i}\n    repeat 2:\n        note inner {i}\n")
    noted = [entry.text for entry in played.recording.entries if isinstance(entry, Noted)]
    assert noted == ["outer 0", "inner 0", "inner 1", "outer 1", "inner 0", "inner 1"]
    played = run("repeat 2:\n    measure outer {i}:\n        repeat 2:\n            note inner {i}\n")
    noted = [entry.text.split(":")[0] for entry in played.recording.entries if isinstance(entry, Noted)]
    assert noted == ["inner 0", "inner 1", "outer 0", "inner 0", "inner 1", "outer 1"]


def test_what_runs_beside_goes_on_while_the_rest_does() -> None:
    played = run(SESSION + "beside:\n    server: receive S 10\nwait 1s\nclient: send C 10\n")
    assert outcomes(played)[-2:] == ["", "10 bytes"]


def test_a_measurement_tells_the_time_and_the_packets() -> None:
    played = run("server: listen L 80\nmeasure a handshake:\n    client: connect C b:80\n")
    assert [entry.text for entry in played.recording.entries if isinstance(entry, Noted)] == [
        "a handshake: 0.002 s, 3 packets"
    ]


def test_datagrams_have_words_too() -> None:
    played = run(
        "server: open U 53\nclient: send-to D b:53 30\nserver: receive-from U\n"
        "client: send-to E b:54 30\nclient: receive-from E within 1s -> ECONNREFUSED\n"
    )
    assert outcomes(played) == ["", "", "30 bytes", "", "ECONNREFUSED"]


def test_a_datagram_that_comes_in_the_moment_of_the_call_that_waits_for_it_is_received() -> None:
    played = run("client: open U 53\nclient: send-to D a:53 30\nclient: receive-from U within 1s\n")
    assert outcomes(played)[-1] == "30 bytes"


def test_a_program_has_the_user_and_the_unit_that_it_was_given() -> None:
    played = run(SESSION)
    process = next(one.indication.process for one in played.recording.indications if one.indication.host == "server")
    assert process is not None
    assert (process.app, process.user, process.unit) == ("/usr/bin/server", 7, "web.service")


def test_a_router_drops_what_it_has_no_route_for() -> None:
    text = (
        "host a 10.9.0.1/24\nhost r fd09::2/64 forwards\nlink a r\nprogram client at a app /usr/bin/client\n"
        "client: connect C 198.51.100.7|2001:db8::7:80 within 2s\n"
    )
    played = play(parse(text, "test.txt"), TableResolver())
    assert outcomes(played) == ["timeout"]
    assert played.hosts["r"].counts["no route"] > 0


@pytest.mark.parametrize(
    "calls, ends",
    [
        ("client: close C\nclient: close C\nclient: send C 5\n", ["", "EBADF", "EBADF"]),
        ("client: close C\nclient: connect C b:80\nserver: accept T from L\nclient: send C 5\n", [""] * 4),
        ("server: listen L 80 backlog 5\nserver: listen L 81\nclient: listen C 82\n", ["", "EINVAL", "EINVAL"]),
        ("server: connect L a:80\n", ["EISCONN"]),
        ("client: send-to D b:9 65507\nclient: send-to E b:9 65508\n", ["", "EMSGSIZE"]),
        ("server: open U 53\nserver: close U\nserver: receive-from U\nserver: open U 53\n", ["", "", "EBADF", ""]),
    ],
)
def test_calls_in_an_odd_order_end_as_linux_has_them(calls: str, ends: list[str]) -> None:
    for version in (4, 6):
        played = play(parse(HOSTS + SESSION + calls, "test.txt"), TableResolver(), version=version)
        assert outcomes(played)[3:] == ends


@pytest.mark.parametrize(
    "line, found",
    [
        ("server: open L 53", "L is a TCP socket; one for UDP"),
        ("server: send C 5", "a socket at a; one of the program's host"),
        ("wait 500h", "the scenario lasts more than 7 days; one that ends before"),
        ("forge a S from a:1 to c:80", "a can't send it over IPv4: Network is unreachable"),
    ],
)
def test_what_can_not_be_done_is_an_error_of_its_line(line: str, found: str) -> None:
    with pytest.raises(PolicyError) as raised:
        run(SESSION + line + "\n", plans="host c\n")
    assert str(raised.value.problems[0]).startswith("test.txt:12: ")
    assert found in str(raised.value.problems[0])


def test_a_host_without_addresses_is_reached_from_nowhere_but_itself() -> None:
    plans = "host c\nprogram own at c app /usr/bin/own\n"
    played = run("own: listen L 80\nown: connect D c:80\nclient: connect C c:80\n", plans)
    assert outcomes(played) == ["", "", "ENETUNREACH"]


def test_a_scenario_in_which_too_much_happens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "EVENTS_MAX", 10)
    assert "10 events by" in problems("repeat 100 every 1s:\n    wait 1s\n")[0]


def test_what_went_wrong_beside_is_named_before_what_waits_for_it() -> None:
    (problem,) = problems(
        "beside:\n    client: connect C b:80 -> EPERM\nserver: listen L 80\nserver: accept S from L\n"
        "server: receive S 5\n"
    )
    assert problem.startswith("test.txt:9: client: connect C b:80 -> EPERM: it went well; EPERM")
