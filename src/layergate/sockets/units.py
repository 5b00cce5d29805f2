"""Units of control groups, by the groups' ids: the tree is walked once, when the first is asked for.

Worked example: `Units()(4711)` is "nginx.service" where the control group with that id is nginx's.
"""

from __future__ import annotations

from layergate.kernel.cgroups import Hierarchy, unit_of
from layergate.model import NotSupportedError


class Units:
    """Gives the unit of a control group's id; None where it has none, is unknown, or the tree can't be had."""

    def __init__(self) -> None:
        self._units: dict[int, str | None] | None = None

    def __call__(self, number: int) -> str | None:
        """Return the unit of the control group *number*. Cost: at first, a walk over the control groups."""
        if self._units is None:
            self._units = _all()
        return self._units.get(number)


def _all() -> dict[int, str | None]:
    try:
        hierarchy = Hierarchy()
    except NotSupportedError:
        return {}
    try:
        return {number: unit_of(path) for number, path in hierarchy.ids().items()}
    finally:
        hierarchy.close()
