"""Which key does what: rustnet's keys, as one table that the help page is drawn from.

While a question stands, y answers it and any other key declines; while words are typed, Enter takes and Escape leaves
them. Everything else is the table.

Worked example: `press(model, "G")` puts the cursor on the last line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from layergate.tui.model import SORTS, TABS, Group, Model


@dataclass(frozen=True, slots=True)
class Key:
    """*keys*: as Textual names them; *shown*: as people do."""

    keys: tuple[str, ...]
    shown: str
    help: str
    act: Callable[[Model], None]


def _quit(model: Model) -> None:
    model.is_over = True


def _next_sort(model: Model) -> None:
    model.sort_by(SORTS[(SORTS.index(model.sort) + 1) % len(SORTS)], is_descending=model.is_descending)


def _turn_sort(model: Model) -> None:
    model.sort_by(model.sort, is_descending=not model.is_descending)


def _first(model: Model) -> None:
    model.move(-len(model.lines()))


def _last(model: Model) -> None:
    model.move(len(model.lines()))


def _enter(model: Model) -> None:
    line = model.selected()
    if isinstance(line, Group):
        model.expanded ^= {line.name}
        model.move(0)
    elif line is not None:
        model.show("details" if model.tab == "list" else "list")


def _back(model: Model) -> None:
    if model.tab != "list":
        model.show("list")
    elif model.words:
        model.choose("")
    model.message = ""


def _toggle_closing(model: Model) -> None:
    model.shows_closing = not model.shows_closing
    model.message = f"endpoints that close are {'shown for a moment' if model.shows_closing else 'gone at once'}"
    model.move(0)


def _toggle_groups(model: Model) -> None:
    model.is_grouped = not model.is_grouped
    model.cursor = model.top = 0
    model.show("list")


def _prompt(model: Model) -> None:
    model.show("list")
    model.prompt = model.words


def _tab(name: str) -> Callable[[Model], None]:
    return lambda model: model.show(name)


def _next_tab(model: Model) -> None:
    model.show(TABS[(TABS.index(model.tab) + 1) % len(TABS)])


KEYS: Final = (
    Key(("q",), "q", "quit", _quit),
    Key(("down", "j"), "↓ j", "one down", lambda model: model.move(1)),
    Key(("up", "k"), "↑ k", "one up", lambda model: model.move(-1)),
    Key(("pagedown", "ctrl+f"), "PgDn", "a page down", lambda model: model.move(model.page)),
    Key(("pageup", "ctrl+b"), "PgUp", "a page up", lambda model: model.move(-model.page)),
    Key(("g", "home"), "g", "to the first", _first),
    Key(("G", "end"), "G", "to the last", _last),
    Key(("enter",), "Enter", "details; of a group: open, shut", _enter),
    Key(("escape",), "Esc", "back; then no filter", _back),
    Key(("slash",), "/", "filter words, as for layergate ls", _prompt),
    Key(("s",), "s", "sort by the next column", _next_sort),
    Key(("S",), "S", "sort the other way round", _turn_sort),
    Key(("a",), "a", "group by process", _toggle_groups),
    Key(("t",), "t", "show what closes for a moment, or not", _toggle_closing),
    Key(("x",), "x", "close it (asks)", lambda model: model.ask("close")),
    Key(("b",), "b", "block its remote address (asks)", lambda model: model.ask("block remote")),
    Key(("B",), "B", "block its application (asks)", lambda model: model.ask("block app")),
    Key(("tab",), "Tab", "the next page", _next_tab),
    *(Key((str(number),), str(number), name, _tab(name)) for number, name in enumerate(TABS, 1)),
    Key(("h", "question_mark"), "h ?", "help", _tab("help")),
)
_BY_KEY: Final = {key: one for one in KEYS for key in one.keys}


def press(model: Model, key: str, character: str | None = None) -> None:
    """Do what *key* does (Textual's name of it; *character* is what it types)."""
    if model.question is not None:
        model.answer(is_yes=key == "y")
    elif model.prompt is not None:
        _type(model, key, character)
    elif (one := _BY_KEY.get(key)) is not None:
        one.act(model)


def _type(model: Model, key: str, character: str | None) -> None:
    assert model.prompt is not None
    if key == "enter":
        words, model.prompt = model.prompt, None
        model.choose(words)
    elif key == "escape":
        model.prompt = None
    elif key == "backspace":
        model.prompt = model.prompt[:-1]
    elif character is not None and character.isprintable():
        model.prompt += character
