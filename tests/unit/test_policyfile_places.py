"""The line of everything in a policy file."""

from __future__ import annotations

import json
import tomllib

import pytest

from layergate.policyfile.places import json_places, toml_places

TOML = '''# a comment with [[filter]] and key = "x"
[[sublayer]]
name = "a [[filter]] # no comment"

[[filter]]
name = """
[[filter]]
name = 'x' ""\\""""
layer = ["A",
  "B",  # "C",

  "D"]
when = { remote_port = [ 80,
  { all = [
    1 ] } ], "local address" = 1.5 }

[filter.extra]
key = \'\'\'two
lines\'\'\'
other = 1979-05-27T07:32:00

[[filter]]
when.app = "/x"
when."quoted" = 'C:\\path'
'''

TOML_LINES = [
    (("sublayer", 0), 2),
    (("sublayer", 0, "name"), 3),
    (("filter", 0), 5),
    (("filter", 0, "name"), 6),
    (("filter", 0, "layer"), 9),
    (("filter", 0, "layer", 0), 9),
    (("filter", 0, "layer", 1), 10),
    (("filter", 0, "layer", 2), 12),
    (("filter", 0, "when"), 13),
    (("filter", 0, "when", "remote_port", 0), 13),
    (("filter", 0, "when", "remote_port", 1), 14),
    (("filter", 0, "when", "remote_port", 1, "all", 0), 15),
    (("filter", 0, "when", "local address"), 15),
    (("filter", 0, "extra"), 17),
    (("filter", 0, "extra", "key"), 18),
    (("filter", 0, "extra", "other"), 20),
    (("filter", 1), 22),
    (("filter", 1, "when"), 23),
    (("filter", 1, "when", "app"), 23),
    (("filter", 1, "when", "quoted"), 24),
    (("filter", 1, "absent"), 22),
    (("filter", 7), 5),
    (("absent",), None),
]


@pytest.mark.parametrize("path, line", TOML_LINES)
def test_toml(path: tuple[str | int, ...], line: int | None) -> None:
    tomllib.loads(TOML)
    assert toml_places(TOML).line(*path) == line


JSON = """{
 "sublayer": [ { "name": "a \\"}], [{" } ],
 "filter": [
  {"name": "x", "layer": ["A",
    "B"]},
  {
   "when": {"remote_port":
     [80, {"all": [
      1]}],
    "": 1}}
 ]
}"""

JSON_LINES = [
    (("sublayer",), 2),
    (("sublayer", 0, "name"), 2),
    (("filter",), 3),
    (("filter", 0), 4),
    (("filter", 0, "layer", 1), 5),
    (("filter", 1), 6),
    (("filter", 1, "when"), 7),
    (("filter", 1, "when", "remote_port", 0), 8),
    (("filter", 1, "when", "remote_port", 1, "all", 0), 9),
    (("filter", 1, "when", ""), 10),
    (("filter", 1, "absent"), 6),
]


@pytest.mark.parametrize("path, line", JSON_LINES)
def test_json(path: tuple[str | int, ...], line: int | None) -> None:
    json.loads(JSON)
    assert json_places(JSON).line(*path) == line


def test_keys_that_repeat_are_told() -> None:
    assert json_places('{"a": 1,\n"b": {"a": 2,\n"a": 3}}').repeated == [(("b", "a"), 3)]
