"""Bytes, encodings, and files that nobody should have made: an error with its place, soon, and little memory."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from layergate.model import InputError
from layergate.windows import Dump, load_file, read
from layergate.windows.reading import LIMITS, Limits, records
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, element

STATE = example.state()
KIB, MIB = 1 << 10, 1 << 20


def dump_of(data: bytes, size: int = 64 * KIB, limits: Limits = LIMITS) -> Dump:
    return read((data[place : place + size] for place in range(0, len(data), size)), "f.xml", None, limits)


def error_of(data: bytes, limits: Limits = LIMITS) -> InputError:
    with pytest.raises(InputError) as caught:
        dump_of(data, limits=limits)
    assert str(caught.value).startswith("f.xml")
    return caught.value


# --- encodings --------------------------------------------------------------------------------------------------------

ENCODED = {
    "UTF-8": STATE.encode(),
    "UTF-8 with a mark": STATE.encode("utf-8-sig"),
    "UTF-16, little end first, with a mark": b"\xff\xfe" + STATE.encode("utf-16-le"),
    "UTF-16, little end first, without": STATE.encode("utf-16-le"),
    "UTF-16, big end first, with a mark": b"\xfe\xff" + STATE.encode("utf-16-be"),
    "UTF-16, big end first, without": STATE.encode("utf-16-be"),
    "UTF-16 with two marks": b"\xff\xfe" + f"\ufeff{STATE}".encode("utf-16-le"),
    "UTF-16 with a mark that a console garbled": b"\xff\xfe" + f"∩╗┐{STATE}".encode("utf-16-le"),
    "CRLF": STATE.replace("\n", "\r\n").encode("utf-8-sig"),
    "no declaration": STATE.partition("?>\n")[2].encode(),
    "blank lines in front": b"\n\n" + STATE.encode(),
    "a declaration of another encoding": STATE.replace("UTF-8", "UTF-16").encode(),
}


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("size", [1, 7, 64 * KIB])
def test_the_bytes_tell_the_encoding_whatever_the_declaration_says(name: str, size: int) -> None:
    plain = dump_of(STATE.encode())
    dump = dump_of(ENCODED[name], size)
    assert len(dump.policy.filters) == len(example.ROWS)
    assert dump.policy == plain.policy
    assert dump.connections[0].app == plain.connections[0].app


def test_lines_are_those_of_the_file_in_every_encoding() -> None:
    wrong = STATE.replace("<filterId>70002</filterId>", "<filterId>x</filterId>")
    line = wrong[: wrong.index("<filterId>x")].count("\n") + 1
    for data in (wrong.encode(), wrong.encode("utf-16"), wrong.replace("\n", "\r\n").encode("utf-8-sig")):
        assert error_of(data).line == line


def test_names_are_kept_in_any_language_and_as_character_data() -> None:
    rows = [Row(1, "Réglage – 設定 & <Regel>"), Row(2, "plain")]
    text = composer.filters(rows).replace("<name>plain</name>", "<name><![CDATA[a <b> & c]]></name>")
    assert [item.name for item in dump_of(text.encode("utf-16")).policy.filters] == [rows[0].name, "a <b> & c"]


def test_a_name_that_is_an_indirect_string_stays_one() -> None:
    text = composer.filters([Row(1, "@FirewallAPI.dll,-25000")])
    assert dump_of(text.encode()).policy.filters[0].name == "@FirewallAPI.dll,-25000"


# --- what is no dump --------------------------------------------------------------------------------------------------

BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE wfpstate [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<wfpstate><timeStamp>&b;</timeStamp></wfpstate>"
)
NO_DUMPS = [
    (b"", "an empty file"),
    (b"\xef\xbb\xbf \n", "nothing but white space"),
    (b"MSCF\0\0\0\0 a cabinet", "unpack it with cabextract"),
    (b"\xff\xfe\0\0<\0\0\0", "UTF-32"),
    (b"filterId 5", "no XML: it begins with 'filterId 5'"),
    (b'{"filters": []}', "no XML"),
    (b"<html><body/></html>", "the root element <html>; a root element <wfpstate>, <wfpdiag>, <netEvents>"),
    (b"<?xml version='1.0'", "an XML declaration without end"),
    (b"<wfpstate>", "the file ends inside <wfpstate>; </wfpstate>"),
    (b"<wfpstate><sessions></wfpstate>", "mismatched tag; text, an element or </sessions>"),
    (b"<wfpstate></wfpstate></wfpstate>", "no well-formed XML: mismatched tag"),
    (b"</netsh>", "no well-formed XML"),
    (b"<wfpstate/></netsh><netsh>", "no well-formed XML"),
    (b"<wfpstate>words</wfpstate>", "text between elements: 'words'"),
    (b"words<wfpstate/>", "no XML"),
    (b"<wfpstate/>words", "text between elements: 'words'"),
    (b"<wfpstate>\xff\xfe</wfpstate>", "bytes that are no UTF-8"),
    ("<wfpstate>".encode("utf-16-le") + b"\x00\xd8\x00\xd8", "bytes that are no UTF-16-LE"),
    (BILLION_LAUGHS.encode(), "a declaration, <!DOCTYPE; XML without document type and entities"),
    (b"<wfpstate><!ENTITY a 'b'></wfpstate>", "a declaration, <!ENTITY"),
    (b"<wfpstate><timeStamp>&nbsp;</timeStamp></wfpstate>", "undefined entity"),
    (b"<wfpstate><timeStamp>&#0;</timeStamp></wfpstate>", "invalid character number"),
    (b"<wfpstate " + b"a='1' " * 2 + b"/>", "duplicate attribute"),
    (b"<wfpstate>" + b"<x>" * 1000, "elements nested 32 deep"),
    (b"<wfpstate><timeStamp>" + b"<x>" * 1000, "elements nested 32 deep"),
    (b"<wfpstate><timeStamp>" + b"7" * (MIB + 2), "a text of more than 1048576 characters"),
    (b"<wfpstate><sysInfo>" + b"7" * (MIB + 2), "a text of more than 1048576 characters"),
    (b"<wfpstate><timeStamp>words<x/></timeStamp></wfpstate>", "text beside the elements of <timeStamp>: 'words'"),
]


@pytest.mark.parametrize("data, message", NO_DUMPS, ids=lambda part: repr(part[:30]))
def test_what_is_no_dump_is_refused_with_the_reason(data: bytes, message: str) -> None:
    assert message in str(error_of(data))


def test_a_file_that_is_not_there_is_an_error_of_the_input(tmp_path: Path) -> None:
    for path in (tmp_path / "none.xml", tmp_path):
        with pytest.raises(InputError, match="can't be read"):
            load_file(str(path))


def test_every_truncation_is_an_error_that_says_where_the_file_ends() -> None:
    data = STATE.encode()
    end = data.index(b"</wfpstate>")
    for place in range(0, end, 701):
        error = error_of(data[:place])
        assert place < 200 or error.line or error.place
    assert "the file ends inside <wfpstate><layers><item><filters>" in str(error_of(data[: data.index(b"71011")]))
    # The second root may be missing: older builds don't write it.
    assert dump_of(data[: end + len(b"</wfpstate>")]).policy.filters


def test_random_bytes_are_an_error() -> None:
    source = random.Random(7)
    for _ in range(200):
        error_of(source.randbytes(source.randrange(1, 4000)))


# --- limits -----------------------------------------------------------------------------------------------------------


class Endless:
    """Chunks without end, counted."""

    def __init__(self, opening: bytes, chunk: bytes) -> None:
        self.opening, self.chunk, self.size = opening, chunk, 0

    def __iter__(self) -> Iterator[bytes]:
        for data in itertools.chain([self.opening], itertools.repeat(self.chunk, MIB * 1024 // len(self.chunk))):
            self.size += len(data)
            yield data


@pytest.mark.parametrize(
    "opening, chunk, message, bytes_max",
    [
        (b"<wfpstate>", b" " * 65536, "more than 65536 characters of white space", MIB),
        (b"<wfpstate>", b"\n\t" * 32768, "more than 65536 characters of white space", MIB),
        (b"", b"\r\n" * 32768, "nothing but white space", MIB),
        (b"<wfpstate/>", b"\n" * 65536, "more than 65536 characters of white space", MIB),
        (b"<wfpstate><filters><item>", b" " * 65536, "more than 65536 characters of white space", MIB),
        (b"<wfpstate><x>", b"7" * 65536, "a text of more than 1048576 characters", 3 * MIB),
        (b"<wfpstate><", b"a" * 65536, "a tag or comment of more than 1048576 bytes", 3 * MIB),
        (b"<wfpstate><a b='", b"a" * 65536, "a tag or comment of more than 1048576 bytes", 3 * MIB),
        (b"<wfpstate><!--", b"a" * 65536, "a tag or comment of more than 1048576 bytes", 3 * MIB),
        (b"<wfpstate><?a ", b"a" * 65536, "a tag or comment of more than 1048576 bytes", 3 * MIB),
        (b"<wfpstate><x>", b"<y/>" * 16384, "more than 16 MiB", 17 * MIB),
        (b"<wfpstate><timeStamp>", b"<y/>" * 16384, "an item of more than 250000 elements", 3 * MIB),
        (b"<wfpstate><timeStamp>", b"<y>7777777777777777777777</y>" * 2000, "an item of more than", 16 * MIB),
        (b"<wfpstate><sessions>", b"<item/>" * 9000, "more than 200000 items", 3 * MIB),
    ],
)
def test_a_gigabyte_of_anything_ends_soon(opening: bytes, chunk: bytes, message: str, bytes_max: int) -> None:
    stream = Endless(opening, chunk)
    begin = time.monotonic()
    with pytest.raises(InputError, match=message):
        for _ in records(stream, "f.xml", replace(LIMITS, file_bytes=16 * MIB)):
            pass
    assert time.monotonic() - begin < 10
    assert stream.size <= bytes_max


def test_a_gigabyte_of_white_space_in_a_file_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "big.xml"
    with path.open("wb") as file:
        file.write(b"<wfpstate>")
        for _ in range(256):
            file.write(b" " * 4096)
        file.truncate(MIB * 1024)  # the rest is a hole: it takes no place, and is never read
    begin = time.monotonic()
    with pytest.raises(InputError, match="white space"):
        load_file(str(path))
    assert time.monotonic() - begin < 1


def test_limits_say_which_it_was_and_what_to_do() -> None:
    error = error_of(STATE.encode(), Limits(file_bytes=MIB // 128))
    assert (error.found, error.accepted[:26]) == ("more than 8 KiB", "a dump of at most that siz")
    assert "more than 20 items" in str(error_of(STATE.encode(), Limits(item_count=20)))
    assert "more than 500 elements" in str(error_of(STATE.encode(), Limits(file_elements=500)))
    assert "an item of more than 30 elements" in str(error_of(STATE.encode(), Limits(item_elements=30)))


# --- what nobody knows ------------------------------------------------------------------------------------------------


def test_elements_that_nobody_knows_are_passed_over_and_told() -> None:
    more = element("novelty", element("inside", "1")) * 3
    dump = dump_of(composer.state(example.ROWS, more=more).encode())
    assert len(dump.policy.filters) == len(example.ROWS)
    (problem,) = dump.unknown
    assert (problem.found, problem.accepted) == (
        "the element <novelty> (3 times, here first)",
        "passed over, with all that it holds",
    )
    assert problem.line is not None


@pytest.mark.parametrize("tag", ["timeStamp", "sessions", "item", "novelty"])
def test_a_second_root_that_is_none_is_passed_over_and_told(tag: str) -> None:
    dump = dump_of((STATE + element(tag, "7")).encode())
    assert dump.time == "2026-04-01T10:01:00.000Z"
    assert [problem.found for problem in dump.unknown] == [f"the element <{tag}>"]


def test_a_list_that_is_shorter_than_it_says_is_a_doubt() -> None:
    text = example.state().replace('<subLayers numItems="4">', '<subLayers numItems="5">')
    (problem,) = dump_of(text.encode()).doubts
    assert problem.found == "<subLayers> should have '5' items and has 4"


def test_problems_beyond_a_number_are_counted() -> None:
    more = "".join(element(f"novelty{number}") for number in range(2000))
    dump = dump_of(composer.state(more=more).encode())
    assert len(dump.unknown) == 501
    assert dump.unknown[-1].found == "more of the kind (1500 times, here first)"
