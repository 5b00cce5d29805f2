"""Generate the WFP catalogue (``src/layergate/model/catalogue_data.py``) from the specification's JSON files.

    python tools/gen_catalogue.py SPEC_DIRECTORY

SPEC_DIRECTORY holds layers.json, conditions.json, guids.json, builtin_objects.json and autoweight_contributions.json.
The result is checked in: the program never reads the specification at run time.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "src" / "layergate" / "model" / "catalogue_data.py"
CONDITION = "FWPM_CONDITION_"
LAYER = "FWPM_LAYER_"
# The build whose weights are preferred, newest first; others fill gaps where all they share with it agrees.
BUILDS_NEWEST_FIRST = ("build-B", "build-D", "build-E", "build-F", "build-A", "build-C")
UNITS_OF_ADDRESS = {"v4": 8, "v6": 16}
LAYERS_COUNT = 99


def load(directory: Path, name: str) -> Any:
    """Return the parsed JSON file *name* of *directory*."""
    return json.loads((directory / name).read_text(encoding="utf-8"))


def layer_rows(directory: Path) -> list[tuple[Any, ...]]:
    """Return a row a layer, ordered by run-time id: name, guid, id, family, direction, discard twin, facts, fields."""
    layers = sorted(load(directory, "layers.json")["layers"], key=lambda layer: layer["runtime_id"])
    conditions = load(directory, "conditions.json")
    if len(layers) != LAYERS_COUNT:
        sys.exit(f"layers.json: {len(layers)} layers found, {LAYERS_COUNT} expected")
    rows = []
    for layer in layers:
        fields = sorted(conditions.get(layer["name"], []), key=lambda field: field["index"])
        rows.append(
            (
                layer["name"],
                layer["guid"].strip("{}"),
                layer["runtime_id"],
                layer["family"],
                layer["direction"],
                layer["discard_layer"],
                layer["discard_of"],
                layer["purpose"],
                layer["kernel_mode"],
                layer["buffered"],
                layer["default_sublayer"],
                tuple(
                    (
                        field["condition"].removeprefix(CONDITION),
                        field["type"].removeprefix("FWP_").removesuffix("_TYPE"),
                        field["field_type"].removeprefix("FWPM_FIELD_"),
                    )
                    for field in fields
                ),
            )
        )
    return rows


def trailing_zeros(number: int) -> int:
    """Return the number of zero bits below the lowest set bit of *number* (> 0)."""
    return (number & -number).bit_length() - 1


def weight_slots(directory: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Return layer -> field -> (units at the tightest match, shift of a unit), as measured in real dumps."""
    measured = load(directory, "autoweight_contributions.json")
    result: dict[str, dict[str, tuple[int, int]]] = {}
    for layer, entry in measured.items():
        builds = entry["files"]
        chosen: dict[str, dict[str, int]] = {}
        for build in BUILDS_NEWEST_FIRST:
            samples = {key: int(value, 16) for key, value in builds.get(build, {}).items()}
            by_field: dict[str, dict[str, int]] = {}
            for key, value in samples.items():
                field, _, how = key.partition(" ")
                by_field.setdefault(field, {})[how] = value
            agrees = all(
                value == chosen[field][how]
                for field, hows in by_field.items()
                if field in chosen
                for how, value in hows.items()
                if how in chosen[field]
            )
            if not agrees:
                continue
            for field, hows in by_field.items():
                chosen.setdefault(field, {}).update(hows)
        family = "v6" if "_V6" in layer else "v4"
        slots: dict[str, tuple[int, int]] = {}
        for field, hows in chosen.items():
            values = [value for value in hows.values() if value > 0]
            exact = [value for how, value in hows.items() if not re.match(r"R\[|.*\|", how) and value > 0]
            if not values:
                continue
            top = max(exact or values)
            shift = min(trailing_zeros(value) for value in values)
            if field.endswith("ADDRESS") and shift == trailing_zeros(top):
                shift = max(0, top.bit_length() - UNITS_OF_ADDRESS[family].bit_length())
            slots[field] = (top >> shift, shift)
        if slots:
            result[layer] = dict(sorted(slots.items(), key=lambda item: -(item[1][0] << item[1][1])))
    return result


def main(arguments: list[str]) -> int:
    """Write the catalogue; return the exit status."""
    if len(arguments) != 1:
        sys.exit(__doc__)
    directory = Path(arguments[0])
    guids = load(directory, "guids.json")
    objects = load(directory, "builtin_objects.json")
    sublayers = {
        name: (next(iter(map(int, entry["weights"]))), entry["name"])
        for name, entry in objects["builtin_sublayers"].items()
    }
    lines = [
        '"""The WFP catalogue as data. Generated by tools/gen_catalogue.py; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "LAYERS: Final = (",
    ]
    for row in layer_rows(directory):
        lines.append("    (")
        lines += [f"        {value!r}," for value in row[:-1]]
        lines.append("        (")
        lines += [f"            {field!r}," for field in row[-1]]
        lines += ["        ),", "    ),"]
    lines += [")", "", "CONDITION_GUIDS: Final = {"]
    lines += [
        f"    {name.removeprefix(CONDITION)!r}: {guid.strip('{}')!r},"
        for name, guid in guids["condition_guids"].items()
    ]
    lines += ["}", "", "SUBLAYER_GUIDS: Final = {"]
    lines += [f"    {name!r}: {guid.strip('{}')!r}," for name, guid in guids["sublayer_guids"].items()]
    lines += ["}", "", "# name -> (weight, display name)", "BUILTIN_SUBLAYERS: Final = {"]
    lines += [f"    {name!r}: {value!r}," for name, value in sorted(sublayers.items(), key=lambda item: -item[1][0])]
    lines += [
        "}",
        "",
        "# layer -> field -> (units at the tightest match, shift of a unit): contributions to automatic weights",
        "WEIGHT_SLOTS: Final[dict[str, dict[str, tuple[int, int]]]] = {",
    ]
    for layer, slots in weight_slots(directory).items():
        lines.append(f"    {layer!r}: {{")
        lines += [f"        {field!r}: {slot!r}," for field, slot in slots.items()]
        lines.append("    },")
    lines += ["}", ""]
    TARGET.write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
