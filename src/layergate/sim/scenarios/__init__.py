"""The scenarios that come with layergate: a text file each, to be read, run and copied."""

from __future__ import annotations

from importlib import resources
from typing import Final

SUFFIX: Final = ".txt"


def names() -> list[str]:
    """Return the scenarios' names, sorted."""
    folder = resources.files(__name__)
    return sorted(one.name.removesuffix(SUFFIX) for one in folder.iterdir() if one.name.endswith(SUFFIX))


def text(name: str) -> str:
    """Return the text of the scenario *name*. Raises FileNotFoundError."""
    return (resources.files(__name__) / f"{name}{SUFFIX}").read_text(encoding="utf-8")
