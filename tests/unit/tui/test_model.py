"""The view model by keys: what is shown, what is asked, what stays where; and its frames as text, at 80×24."""

from __future__ import annotations

from pathlib import Path

import pytest

from layergate.sockets.diagnosis import diagnose
from layergate.sockets.endpoint import Endpoint
from layergate.tui.frame import frame, page_lines, sparkline
from layergate.tui.keys import KEYS, press
from layergate.tui.model import Model
from layergate.tui.rows import HOLD_S
from tests.unit.sockets.example import NO_INFO, OWNERS, endpoint
from tests.unit.sockets.test_diagnosis import close_wait, evidence
from tests.unit.sockets.test_histograms import transition


def connections(count: int) -> list[Endpoint]:
    made = [endpoint("LISTEN", "0.0.0.0:80", None, inode=101, owners=OWNERS, cookie=1)]
    for number in range(2, count + 1):
        inode, state = (101, "ESTABLISHED") if number % 2 else (102, "CLOSE_WAIT")
        made.append(
            endpoint(
                state,
                remote=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:5000",
                inode=inode,
                owners=OWNERS,
                cookie=number,
            )
        )
    return made


def shown(count: int = 40) -> Model:
    model = Model()
    model.rows.take(connections(count), 0.0)
    model.arrange()
    model.set_page(page_lines(24))
    return model


def keys(model: Model, *names: str) -> Model:
    for name in names:
        press(model, name, name if len(name) == 1 else None)
    return model


def typed(model: Model, text: str) -> Model:
    press(model, "slash", "/")
    for character in text:
        press(model, character, character)
    press(model, "enter")
    return model


def text(model: Model, width: int = 80, height: int = 24) -> list[str]:
    return ["".join(words for words, _ in line).rstrip() for line in frame(model, width, height)]


def styles(model: Model, number: int) -> set[str]:
    return {style for _, style in frame(model, 80, 24)[number]}


@pytest.mark.parametrize("width, height", [(80, 24), (40, 8), (200, 60), (1, 1)])
@pytest.mark.parametrize("tab", ["1", "2", "3", "4", "5"])
def test_every_page_fits_every_screen(width: int, height: int, tab: str) -> None:
    lines = text(keys(shown(), tab), width, height)
    assert len(lines) == max(height, 8)
    assert max(map(len, lines)) <= max(width, 40)


def test_the_cursor_moves_by_lines_pages_and_to_both_ends() -> None:
    model = shown()
    assert (keys(model, "j", "down").cursor, keys(model, "k").cursor) == (2, 1)
    assert (keys(model, "G").cursor, model.top) == (39, 40 - model.page)
    assert keys(model, "pageup").cursor == 39 - model.page
    assert (keys(model, "g").cursor, model.top) == (0, 0)
    assert keys(model, "up").cursor == 0


def test_words_choose_what_is_shown_and_escape_shows_all_again() -> None:
    model = typed(shown(), "state:close_wait")
    assert len(model.order) == 20
    assert "20 of 40 endpoints" in text(model)[0]
    assert len(keys(model, "escape").order) == 40


def test_words_that_are_none_are_told_and_change_nothing() -> None:
    model = typed(shown(), "state:nonsense")
    assert "no state is called 'nonsense'" in text(model)[-2]
    assert len(model.order) == 40
    assert "figures" in typed(model, "rtt:>1s").message


def test_sorting_goes_through_the_columns_and_turns() -> None:
    model = keys(shown(), "s", "s", "s")
    assert model.sort == "remote"
    first = model.order[0]
    assert keys(model, "S").order[-1] == first
    assert "sort: remote ↓" in text(model)[0]


def test_the_cursor_stays_on_its_row_when_the_order_changes() -> None:
    model = keys(shown(), "j", "j", "j")
    cookie = model.selected_cookie()
    keys(model, "s", "s", "S")
    assert model.selected_cookie() == cookie


def test_groups_open_and_shut() -> None:
    model = keys(shown(), "a")
    assert len(model.lines()) == 2
    assert text(model)[3].startswith("▸ curl[900]: 20 CLOSE_WAIT")
    assert len(keys(model, "enter").lines()) == 22
    assert text(model)[3].startswith("▾ curl[900]")
    assert len(keys(model, "enter").lines()) == 2


def test_what_comes_changes_and_goes_is_marked_for_a_moment() -> None:
    model = Model()
    model.rows.take(connections(4), 0.0)
    changed = [one for one in connections(5) if one.cookie != 2]
    changed[1] = endpoint("FIN_WAIT_1", remote="10.0.0.3:5000", cookie=3)
    model.rows.take(changed, 1.0)
    model.arrange()
    assert {cookie: row.mark for cookie, row in model.rows.by_cookie.items() if row.mark} == {
        2: "closing", 3: "changed", 5: "new",
    }  # fmt: skip
    assert "+1 ~1 -1" in text(model)[0]
    marked = {style for number in range(3, 10) for style in styles(model, number)}
    assert {"new", "changed", "closing"} <= marked
    assert model.rows.expire(1.0 + HOLD_S)
    model.refresh()
    assert (len(model.order), model.rows.count("new")) == (4, 0)
    assert 2 not in model.rows.by_cookie


def test_what_closes_can_be_left_out_at_once() -> None:
    model = Model()
    model.rows.take(connections(4), 0.0)
    model.rows.take(connections(3), 1.0)
    model.arrange()
    assert (len(model.lines()), len(keys(model, "t").lines())) == (4, 3)


def test_events_change_rows_between_two_lists() -> None:
    model = Model()
    model.rows.take(connections(3), 0.0)
    model.arrange()
    model.rows.change(transition(cookie=3, **{"from": 1, "to": 8}), 1.0)
    model.rows.change(transition(cookie=99, **{"from": 2, "to": 1}), 1.0)
    model.rows.change(transition(cookie=2, **{"from": 1, "to": 7}), 1.0)
    model.refresh()
    assert [model.rows.by_cookie[cookie].mark for cookie in (3, 99, 2)] == ["changed", "new", "closing"]
    assert model.rows.by_cookie[3].subject.state == "CLOSE_WAIT"
    model.cursor = model.order.index(3)
    assert "ESTABLISHED  → CLOSE_WAIT   after 5.0ms" in "\n".join(text(keys(model, "enter")))


def test_closing_is_asked_for_and_done_only_after_a_yes() -> None:
    model = keys(shown(), "j", "x")
    assert text(model)[-2] == "Close 10.0.0.1:80 - 10.0.0.2:5000? y/n"
    keys(model, "n")
    assert model.take_request() is None
    keys(model, "x", "y")
    request = model.take_request()
    assert request is not None
    assert (request.what, len(request.rows)) == ("close", 1)
    assert model.take_request() is None


def test_a_whole_group_can_be_closed() -> None:
    model = keys(shown(), "a", "x")
    assert model.question is not None
    assert model.question.text == "Close 20 connections? y/n"


def test_what_can_t_be_blocked_is_told() -> None:
    model = keys(shown(), "b")  # the listener
    assert "no remote address" in model.message
    assert keys(shown(), "j", "b").question is not None
    assert "curl from connecting" in text(keys(shown(), "j", "B"))[-2]


def test_rates_of_rows_on_the_screen_are_shown_with_their_course() -> None:
    model = shown(3)
    for second, sent in enumerate((0, 1000, 3000, 3000)):
        model.rows.watch(3, NO_INFO._replace(bytes_sent=sent, rtt_us=20_000), float(second))
    assert "0/s ▄█" in text(model)[5]
    keys(model, "j", "j", "enter")
    details = "\n".join(text(model))
    assert "round trip  20ms" in details
    assert "round trips, smoothed" in details


@pytest.mark.parametrize("idle_s, style", [(10, "plain"), (100, "idle"), (400, "stale")])
def test_idle_connections_go_from_white_over_yellow_to_red(idle_s: int, style: str) -> None:
    model = shown(3)
    idle = NO_INFO._replace(last_data_sent_ms=idle_s * 1000, last_data_received_ms=idle_s * 1000)
    model.rows.watch(3, idle, 0.0)
    assert styles(model, 5) == {style}


def test_findings_have_a_page() -> None:
    model = shown()
    model.findings = diagnose(evidence(*close_wait(6, ms=41_000)))
    page = "\n".join(text(keys(model, "4")))
    assert "4 findings (1)" in page
    assert "error: close-wait-leak  curl[900]" in page


def test_help_names_every_key() -> None:
    page = "\n".join(text(keys(shown(), "h")))
    assert [key.help for key in KEYS if key.help not in page] == []


def test_a_sparkline_is_as_high_as_its_greatest() -> None:
    assert sparkline([0, 1, 2, 4], 4) == " ▂▄█"
    assert sparkline([0, 0], 2) == "  "
    assert sparkline([], 3) == ""


def test_a_name_that_would_command_the_terminal_is_harmless() -> None:
    model = shown(1)
    model.message = "\x1b[2J"
    assert text(model)[-2] == "?[2J"


def test_100_000_endpoints_are_drawn_as_fast_as_ten(tmp_path: Path) -> None:
    del tmp_path
    model = shown(100_000)
    assert len(model.visible()) == model.page
    assert len(text(keys(model, "G"))) == 24
