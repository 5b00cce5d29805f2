"""What is wrong with a policy file: every problem with its line, what was found and what would be accepted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from layergate.model import PolicyError, Problem
from layergate.policyfile import TableResolver, load_file, load_text

RESOLVER = TableResolver(users={"alice": 1000}, services={"https": 443}, missing=frozenset({"/nowhere"}))


def problems_of(text: str | bytes, file: str = "p.toml") -> tuple[Problem, ...]:
    with pytest.raises(PolicyError) as raised:
        load_text(text, file=file, resolver=RESOLVER)
    return raised.value.problems


def filter_with(body: str, layer: str = '"ALE_AUTH_CONNECT"') -> str:
    """A file whose first filter is fine but for *body*, which begins in line 5."""
    return f'[[filter]]\nname = "f"\nlayer = {layer}\naction = "block"\n{body}\n'


# sentence; body from line 5; line; object; found; accepted (parts)
WHEN = [
    (
        "an unknown field",
        "when = { remote_prt = 1 }",
        5,
        "when.remote_prt",
        "unknown field 'remote_prt'",
        "remote_port",
    ),
    ("a wrong type", "when = { remote_port = true }", 5, "when.remote_port", "true is no number", "0 to 65535"),
    ("a float", "when = { remote_port = 80.5 }", 5, "when.remote_port", "80.5 is no number", "0 to 65535"),
    (
        "a number too big",
        "when = { remote_port = 65536 }",
        5,
        "when.remote_port",
        "65536 is out of range",
        "0 to 65535",
    ),
    ("a negative number", "when = { protocol = -1 }", 5, "when.protocol", "-1 is out of range", "0 to 255"),
    (
        "an unknown service",
        'when = { remote_port = "frob" }',
        5,
        "when.remote_port",
        "unknown value 'frob'",
        "a service",
    ),
    (
        "an unknown protocol",
        'when = { protocol = "tpc" }',
        5,
        "when.protocol",
        "unknown value 'tpc'",
        "did you mean 'tcp'",
    ),
    ("a range upside down", 'when = { remote_port = "9-3" }', 5, "when.remote_port", "is upside down", "'3-9'"),
    ("a range too far", 'when = { remote_port = "9-99999" }', 5, "when.remote_port", "99999 is too much", "0 to 65535"),
    (
        "a list's third",
        "when.remote_port = [\n 80,\n 81,\n 'x',\n]",
        8,
        "when.remote_port",
        "unknown value 'x'",
        "a number",
    ),
    ("an empty list", "when = { remote_port = [] }", 5, "when.remote_port", "an empty list", "at least one value"),
    ("a list in a list", "when = { remote_port = [[80]] }", 5, "when.remote_port", "a list in a list", "a number"),
    ("no address", 'when = { remote_address = "10.0.0.256" }', 5, "when.remote_address", "is no address", "10.0.0.0/8"),
    ("a number as address", "when = { remote_address = 1 }", 5, "when.remote_address", "1 is no address", "an address"),
    ("a zone", 'when = { remote_address = "fe80::1%eth0" }', 5, "when.remote_address", "is no address", "an address"),
    ("a prefix too long", 'when = { remote_address = "10.0.0.0/33" }', 5, "when.remote_address", "is no address", "/8"),
    (
        "addresses upside down",
        'when = { remote_address = "10.0.0.9-10.0.0.1" }',
        5,
        "when.remote_address",
        "is upside down",
        "'10.0.0.1-10.0.0.9'",
    ),
    (
        "a range over both families",
        'when = { remote_address = "10.0.0.1-fe80::1" }',
        5,
        "when.remote_address",
        "from one family into the other",
        "within one family",
    ),
    ("an unknown user", 'when = { user = "mallory" }', 5, "when.user", "unknown user 'mallory'", "a user id"),
    ("a range of users", 'when = { user = "1-9" }', 5, "when.user", "unknown user '1-9'", "a user id"),
    ("a relative path", 'when = { app = "curl" }', 5, "when.app", "'curl' is no absolute path", "an absolute path"),
    ("a list of not", 'when.app.not = ["/a", "/b"]', 5, "when.app", "'not' of", "one value"),
    ("not in not", "when = { remote_port = { not = { not = 1 } } }", 5, "when.remote_port", "in a 'not'", "a range"),
    ("not of everything", 'when.remote_port.not = "0-65535"', 5, "when.remote_port", "leaves nothing over", "others"),
    (
        "not beside another",
        "when.remote_port = { not = 1, all = [1] }",
        5,
        "when.remote_port",
        "'not' beside 'all'",
        "alone",
    ),
    (
        "an unknown form",
        "when = { remote_port = { min = 1 } }",
        5,
        "when.remote_port",
        "unknown key 'min'",
        "not, all, any",
    ),
    ("bits of a path", 'when.app.all = ["x"]', 5, "when.app", "which has no bits", "an absolute path"),
    (
        "an unknown flag",
        'when.flags.all = ["loopbak"]',
        5,
        "when.flags",
        "unknown flag 'loopbak'",
        "did you mean 'loopback'",
    ),
    (
        "a flag as value",
        'when.flags = "loopback"',
        5,
        "when.flags",
        "'loopback' alone is no test",
        'all = ["loopback"]',
    ),
    ("no flag", "when.flags.any = []", 5, "when.flags", "any of no bit", "loopback"),
    (
        "any and none",
        'when.flags = { any = ["loopback"], none = ["reauthorize"] }',
        5,
        "when.flags",
        "would have to hold at once",
        "a heavier filter of the opposite action",
    ),
    (
        "a bit set and clear",
        'when.flags = { all = ["loopback"], none = ["loopback"] }',
        5,
        "when.flags",
        "both set and clear",
        "different bits",
    ),
    (
        "one field twice",
        "when = { remote_port = 1, IP_REMOTE_PORT = 2 }",
        5,
        "when.IP_REMOTE_PORT",
        "tested twice",
        "one list",
    ),
    ("an alias twice", "when = { local_port = 1, icmp_type = 2 }", 5, "when.icmp_type", "tested twice", "one list"),
    ("no table", "when = 1", 5, "filter 'f'", "when = 1", "when = { field = value"),
    (
        "no family in common",
        'when = { remote_address = "10.0.0.1", local_address = "::1" }',
        5,
        "filter 'f'",
        "no filter at all",
        "addresses of one family",
    ),
]


@pytest.mark.parametrize(
    "body, line, subject, found, accepted", [row[1:] for row in WHEN], ids=[row[0] for row in WHEN]
)
def test_a_condition_that_is_wrong(*, body: str, line: int | None, subject: str, found: str, accepted: str) -> None:
    (problem,) = problems_of(filter_with(body))
    assert problem.file == "p.toml"
    assert problem.line == line
    assert subject in problem.object
    assert found in problem.found
    assert accepted in problem.accepted


KEYS = [
    ("an unknown key", "colour = 1", 5, "unknown key 'colour'", "one of name, layer"),
    ("a key misspelt", 'sublaier = "x"', 5, "unknown key 'sublaier'", "did you mean 'sublayer'"),
    ("an unknown sublayer", 'sublayer = "univresal"', 5, "unknown sublayer 'univresal'", "did you mean 'UNIVERSAL'"),
    ("a hard block", "hard = true", 5, "hard = true on a block", "hard only on a permit"),
    ("a hard number", "hard = 1", 5, "hard = 1", "true or false"),
    ("an unknown errno", 'error = "ECONREFUSED"', 5, "error = 'ECONREFUSED'", "did you mean 'ECONNREFUSED'"),
    ("an errno's number", "error = 111", 5, "error = 111", "ECONNREFUSED"),
    ("a negative weight", "weight = -1", 5, "weight = -1", "0 to 0xffffffffffffffff"),
    ("a weight of 65 bits", 'weight = "0x10000000000000000"', 5, "weight = '0x10000000000000000'", "0 to 0xfff"),
    ("a weight in words", 'weight = "heavy"', 5, "weight = 'heavy'", "0 to"),
    ("a weight range of 16", "weight_range = 16", 5, "weight_range = 16", "0 to 15"),
    ("two weights", "weight = 1\nweight_range = 2", 6, "weight and weight_range together", "one of the two"),
    ("a description that is none", "description = 1", 5, "description = 1", "text"),
]


@pytest.mark.parametrize("body, line, found, accepted", [row[1:] for row in KEYS], ids=[row[0] for row in KEYS])
def test_a_key_that_is_wrong(body: str, line: int | None, found: str, accepted: str) -> None:
    (problem,) = problems_of(filter_with(body))
    assert (problem.line, problem.object) == (line, "filter 'f'")
    assert found in problem.found
    assert accepted in problem.accepted


LAYERS = [
    ("an unknown layer", '"ALE_AUTH_CONECT"', "unknown layer 'ALE_AUTH_CONECT'", "did you mean 'ALE_AUTH_CONNECT'"),
    ("an unknown layer in full", '"FWPM_LAYER_STREAMS_V4"', "unknown layer", "did you mean 'STREAM_V4'"),
    ("a number", "48", "unknown layer 48", "a layer of WFP"),
    ("an empty list", "[]", "no layer in the list", "at least one"),
    ("a layer twice", '["STREAM", "STREAM_V4"]', "STREAM_V4 is named twice", "every layer once"),
]


@pytest.mark.parametrize("layer, found, accepted", [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
def test_a_layer_that_is_wrong(layer: str, found: str, accepted: str) -> None:
    (problem,) = problems_of(filter_with("", layer))
    assert problem.line == 3
    assert found in problem.found
    assert accepted in problem.accepted


def test_a_field_that_the_layer_lacks_names_those_that_it_has() -> None:
    (problem,) = problems_of(filter_with('when = { protocol = "tcp" }', '"ALE_AUTH_LISTEN"'))
    assert problem.found == "ALE_AUTH_LISTEN has no field protocol"
    assert problem.accepted.startswith("its fields: app, user, unit, local_address, local_port, flags")


def test_an_address_of_the_other_family_is_the_wrong_type_at_an_explicit_layer() -> None:
    (problem,) = problems_of(filter_with('when = { remote_address = "10.0.0.1" }', '"ALE_AUTH_CONNECT_V6"'))
    assert problem.found == "'10.0.0.1' is IPv4, and the layer is of IPv6 only"
    (problem,) = problems_of(filter_with('when = { remote_address = ["10.0.0.1", "::1"] }', '"ALE_AUTH_CONNECT_V4"'))
    assert problem.found == "'::1' is IPv6, and the layer is of IPv4 only"


def test_an_errno_needs_a_block_and_a_call_that_fails() -> None:
    (problem,) = problems_of(filter_with('error = "EPERM"', '"ALE_AUTH_LISTEN"'))
    assert problem.found == "error at ALE_AUTH_LISTEN, where no call fails"
    (problem,) = problems_of('[[filter]]\nname = "f"\nlayer = "ALE_AUTH_CONNECT"\naction = "permit"\nerror = "EPERM"\n')
    assert (problem.line, problem.found) == (5, "error on a permit")


def test_what_a_filter_must_have() -> None:
    problems = problems_of("[[filter]]\n")
    assert [problem.found for problem in problems] == ["no name", "no layer", "no action"]
    assert {(problem.line, problem.object) for problem in problems} == {(1, "filter #1")}


@pytest.mark.parametrize("name", ["", "a\\nb", "a\\u007fb"])
def test_a_name_must_be_printable(name: str) -> None:
    (problem,) = problems_of(f'[[filter]]\nname = "{name}"\nlayer = "STREAM"\naction = "permit"\n')
    assert (problem.line, problem.object) == (2, "filter #1")


def test_a_name_is_taken_once() -> None:
    text = '[[filter]]\nname = "f"\nlayer = "STREAM"\naction = "permit"\n' * 2
    (problem,) = problems_of(text)
    assert (problem.line, problem.object) == (6, "filter 'f'")
    assert problem.found == "the name is taken (line 1)"


def test_what_a_sublayer_must_have() -> None:
    text = (
        '[[sublayer]]\nname = "a"\n[[sublayer]]\nname = "a"\nweight = 65536\n'
        '[[sublayer]]\nname = "universal"\nweight = 1\n'
    )
    problems = problems_of(text)
    assert [(problem.line, problem.found) for problem in problems] == [
        (1, "no weight"),
        (4, "the name is taken (line 1)"),
        (5, "weight = 65536"),
        (7, "FWPM_SUBLAYER_UNIVERSAL is the platform's own, of weight 32768"),
    ]


def test_all_problems_of_a_file_come_at_once_and_in_order() -> None:
    text = (
        "colour = 1\n"
        '[[sublayer]]\nname = "a"\nweight = "x"\n'
        '[[filter]]\nname = "f"\nlayer = "NOWHERE"\naction = "deny"\n'
        '[[filter]]\nname = "g"\nlayer = "STREAM"\naction = "permit"\nsublayer = "a"\n'
        '[filter.when]\nprotocol = "tcp"\n'
    )
    assert [problem.line for problem in problems_of(text)] == [1, 4, 7, 8, 15]


def test_one_table_is_no_list_of_tables() -> None:
    (problem,) = problems_of('[filter]\nname = "f"\n')
    assert (problem.line, problem.found, problem.accepted) == (1, "[filter], one table", "[[filter]] for each filter")
    (problem,) = problems_of('{"filter": [\n1]}', "p.json")
    assert (problem.line, problem.found) == (2, "1")


SYNTAX = [
    ("TOML that breaks off", "p.toml", 'a = 1\nb = "', 2, "no TOML"),
    ("TOML with a key twice", "p.toml", "a = 1\na = 2\n", 2, "no TOML: Cannot overwrite a value"),
    ("JSON that breaks off", "p.json", '{"filter": [\n\n', 3, "no JSON"),
    ("JSON with a key twice", "p.json", '{"filter": [],\n "filter": []}', 2, "the key 'filter' is there twice"),
    ("JSON that is no object", "p.json", "[]", 1, "no JSON object"),
    ("JSON with NaN", "p.json", '{"filter": NaN}', None, "no JSON: NaN is no JSON"),
    ("JSON of depth", "p.json", '{"filter": ' + "[" * 100_000, None, "nested too deep"),
    ("TOML of depth", "p.toml", "a = " + "[" * 100_000, None, "nested too deep"),
    ("TOML with a key of depth", "p.toml", "\n" + "a." * 100_000, 2, "a key of more than 16 parts"),
    ("a number without end", "p.json", '{"filter": ' + "1" * 10_000 + "}", None, "no JSON: Exceeds the limit"),
    ("bytes that are no text", "p.toml", b"a = 1\n\xff\xfe", 2, "byte 0xff is no UTF-8"),
    ("a binary", "p.toml", b"\x7fELF\x00\x00", 1, "a NUL byte"),
    ("a binary as JSON", "p.json", b"\n\x00", 2, "a NUL byte"),
]


@pytest.mark.parametrize("file, text, line, found", [row[1:] for row in SYNTAX], ids=[row[0] for row in SYNTAX])
def test_what_is_no_policy_gives_one_clear_problem(file: str, text: str | bytes, line: int | None, found: str) -> None:
    (problem,) = problems_of(text, file)
    assert (problem.file, problem.line) == (file, line)
    assert found in problem.found
    assert problem.accepted


SIZE = 10_000_000
GARBAGE = {
    "letters": b"a" * SIZE,
    "dots": b"a." * (SIZE // 2),
    "brackets": b"[" * SIZE,
    "quotes": b'x = """' + b'""' * (SIZE // 2),
    "bytes": bytes(range(256)) * (SIZE // 256),
    "prose": b"lorem ipsum\n" * (SIZE // 12),
}


@pytest.mark.parametrize("file", ["p.toml", "p.json"])
@pytest.mark.parametrize("kind", GARBAGE)
def test_ten_megabytes_of_garbage_give_one_problem_quickly(kind: str, file: str) -> None:
    start = time.monotonic()
    assert len(problems_of(GARBAGE[kind], file)) == 1
    assert time.monotonic() - start < 10


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(PolicyError) as raised:
            load_file(str(path), RESOLVER)
        (problem,) = raised.value.problems
        assert problem.found.startswith("can't be read: ")


def test_a_file_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layergate.policyfile.reading.SIZE_BYTES_MAX", 1000)
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * 1001)
    with pytest.raises(PolicyError, match="more than"):
        load_file(str(big), RESOLVER)


def test_a_lone_surrogate_is_no_text() -> None:
    problems = problems_of('{"filter": [{"name": "\\ud800", "layer": "STREAM", "action": "permit"}]}', "p.json")
    assert problems[0].object == "filter #1"
