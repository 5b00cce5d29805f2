"""Generate the WFP catalogue (``src/layergate/model/catalogue_data.py``) from the specification's JSON files.

    python tools/gen_catalogue.py SPEC_DIRECTORY

SPEC_DIRECTORY holds layers.json, conditions.json, guids.json, builtin_objects.json and autoweight_contributions.json.
The result is checked in: the program never reads the specification at run time.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "src" / "layergate" / "model" / "catalogue_data.py"
CONDITION = "FWPM_CONDITION_"
LAYER = "FWPM_LAYER_"
# Builds of Windows that weigh alike, newest first; the generations are named by the age of their dumps.
GENERATIONS = {"2026": "BDEFHI", "2024": "ACJ", "older": "G"}
# Two addresses of one filter, whose sum was halved between them: neither figure is a measurement.
UNSOLVED = ("D", "ALE_AUTH_RECV_ACCEPT_V6")
# One slot lost a bit: what a range earns of 32 is halved, and the half unit dropped (27/32 -> 13/16, 23/32 -> 11/16).
HALVED = ("2024", "ALE_AUTH_RECV_ACCEPT_V6", (32, 40, 41))
UNITS_OF_ADDRESS = {"v4": 8, "v6": 16}
# Solved from the two dumps of windows/, the slots above being known. ORIGINAL and CURRENT_PROFILE_ID always stand
# together at CONNECT: their sum is measured, and parted as the specification or RECV_ACCEPT has it.
_ICMP_ERROR = {
    "OUTBOUND_ICMP_ERROR_V4": {"IP_LOCAL_PORT": (127, 32), "IP_REMOTE_PORT": (127, 25), "FLAGS": (1, 3)},
    "OUTBOUND_ICMP_ERROR_V6": {"IP_LOCAL_PORT": (63, 29), "FLAGS": (1, 3)},
}
SUPPLEMENT: dict[str, dict[str, dict[str, tuple[int, int]]]] = {
    "2026": {
        **_ICMP_ERROR,
        "ALE_AUTH_CONNECT_V4": {
            "ARRIVAL_TUNNEL_TYPE": (1, 31),
            "NEXTHOP_TUNNEL_TYPE": (1, 31),
            "ORIGINAL_PROFILE_ID": (7, 8),
            "CURRENT_PROFILE_ID": (15, 4),
        },
        "ALE_AUTH_CONNECT_V6": {
            "ARRIVAL_TUNNEL_TYPE": (1, 29),
            "NEXTHOP_TUNNEL_TYPE": (1, 29),
            "ORIGINAL_PROFILE_ID": (15, 7),
            "CURRENT_PROFILE_ID": (7, 4),
        },
    },
    "2024": {
        **_ICMP_ERROR,
        "ALE_AUTH_CONNECT_V4": {
            "IP_REMOTE_ADDRESS": (8, 55),
            "FLAGS": (1, 35),
            "ARRIVAL_TUNNEL_TYPE": (1, 30),
            "NEXTHOP_TUNNEL_TYPE": (1, 30),
            "ORIGINAL_PROFILE_ID": (15, 7),
            "CURRENT_PROFILE_ID": (15, 3),
        },
        "ALE_AUTH_CONNECT_V6": {
            "IP_REMOTE_ADDRESS": (16, 54),
            "FLAGS": (1, 34),
            "ARRIVAL_TUNNEL_TYPE": (1, 29),
            "NEXTHOP_TUNNEL_TYPE": (1, 29),
            "ORIGINAL_PROFILE_ID": (15, 6),
            "CURRENT_PROFILE_ID": (7, 3),
        },
        "ALE_AUTH_RECV_ACCEPT_V4": {
            "IP_NEXTHOP_INTERFACE": (1, 52),
            "NEXTHOP_INTERFACE_TYPE": (1, 29),
            "NEXTHOP_TUNNEL_TYPE": (1, 28),
            "CURRENT_PROFILE_ID": (15, 3),
        },
        "ALE_AUTH_RECV_ACCEPT_V6": {
            "IP_NEXTHOP_INTERFACE": (1, 49),
            "NEXTHOP_INTERFACE_TYPE": (1, 28),
            "NEXTHOP_TUNNEL_TYPE": (1, 27),
            "CURRENT_PROFILE_ID": (7, 3),
        },
        "ALE_FLOW_ESTABLISHED_V4": {"DIRECTION": (511, 5)},
        "ALE_FLOW_ESTABLISHED_V6": {"DIRECTION": (255, 5)},
        "ALE_RESOURCE_ASSIGNMENT_V4": {
            "IP_LOCAL_INTERFACE": (1, 47),
            "IP_PROTOCOL": (511, 37),
            "ALE_APP_ID": (1, 36),
            "ALE_PACKAGE_ID": (1, 36),
            "FLAGS": (1, 20),
        },
        "ALE_RESOURCE_ASSIGNMENT_V6": {
            "IP_LOCAL_INTERFACE": (1, 48),
            "IP_PROTOCOL": (127, 40),
            "ALE_APP_ID": (1, 39),
            "ALE_PACKAGE_ID": (1, 39),
            "FLAGS": (1, 23),
        },
    },
}
LAYERS_COUNT = 99
RANGE = re.compile(r"R\[(\d+)-(\d+)\]")
PORT_BITS = 16
SLOT_BITS_MAX = 24


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


def weight_slots(directory: Path) -> dict[str, dict[str, dict[str, tuple[int, int, int]]]]:
    """Return generation -> layer -> field -> slot, as measured in real dumps.

    A slot is (units at the tightest match, shift of a unit, lowest bit that counts).
    """
    measured = load(directory, "autoweight_contributions.json")
    result: dict[str, dict[str, dict[str, tuple[int, int, int]]]] = {}
    for generation, builds in GENERATIONS.items():
        layers = {}
        for layer, entry in measured.items():
            samples: dict[str, dict[str, int]] = {}
            for build in builds:
                for key, text in entry["files"].get(f"build-{build}", {}).items():
                    field, _, how = key.partition(" ")
                    if (build, layer) == UNSOLVED and field.endswith("ADDRESS"):
                        continue
                    known = samples.setdefault(field, {}).setdefault(how, int(text, 16))
                    if known != int(text, 16):
                        sys.exit(f"{layer}, {key}: the builds {builds} of generation {generation} don't agree")
            slots = {field: slot for field, hows in samples.items() if (slot := _slot(field, hows, layer))}
            for field, (units, shift) in SUPPLEMENT.get(generation, {}).get(layer, {}).items():
                if field in slots:
                    sys.exit(f"{layer}, {field}: measured in {generation}, and in the supplement too")
                slots[field] = units, shift, shift
            if layer == HALVED[1] and generation == HALVED[0]:
                slots["IP_LOCAL_PORT"] = HALVED[2]
            if slots:
                layers[layer] = dict(sorted(slots.items(), key=lambda item: -(item[1][0] << item[1][1])))
        result[generation] = layers
    return result


def _slot(field: str, hows: dict[str, int], layer: str) -> tuple[int, int, int] | None:
    """Return the slot that the samples *hows* (how it is tested -> what it earned) tell, None where they tell none."""
    values = [value for value in hows.values() if value > 0]
    if not values:
        return None
    if field.endswith("ADDRESS"):
        # Both an exact match and full alternatives earn a power of two.
        units = UNITS_OF_ADDRESS["v6" if "_V6" in layer else "v4"]
        shift = (max(values) - 1).bit_length() - (units - 1).bit_length()
        return units, shift, shift
    exact = [value for how, value in hows.items() if not RANGE.fullmatch(how) and value > 0]
    shift = min(trailing_zeros(value) for value in values)
    if exact:
        return max(exact) >> shift, shift, shift
    # Ranges alone: the full set of bits that earns each of them what it earned.
    for bits in range(1, SLOT_BITS_MAX):
        units = (1 << bits) - 1
        if all(_earned(units, how) == value >> shift for how, value in hows.items()):
            return units, shift, shift
    return None


def _earned(units: int, how: str) -> int | None:
    """Return what a range of ports earns of *units*, None where *how* is no such range."""
    found = RANGE.fullmatch(how)
    if found is None:
        return None
    low, high = map(int, found.groups())
    return max(1, round(units * (1 - math.log2(high - low + 1) / PORT_BITS)))


def callouts(objects: Any, rows: list[tuple[Any, ...]]) -> list[tuple[str, tuple[str, int, str]]]:
    """Return the platform's own callouts by run-time id: key, (layer, id, display name)."""
    named = {f"{{{row[1]}}}": row[0] for row in rows}  # dumps print some layers as GUIDs
    entries = sorted(objects["builtin_callouts"].items(), key=lambda item: int(item[1]["id"]))
    return [
        (name, (named.get(entry["layer"], entry["layer"]).removeprefix(LAYER), entry["id"], entry["name"]))
        for name, entry in entries
    ]


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
    rows = layer_rows(directory)
    lines = [
        '"""The WFP catalogue as data. Generated by tools/gen_catalogue.py; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "LAYERS: Final = (",
    ]
    for row in rows:
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
        "# name -> (layer, run-time id, display name)",
        "BUILTIN_CALLOUTS: Final = {",
        *(f"    {name!r}: {callout!r}," for name, callout in callouts(objects, rows)),
        "}",
        "",
        "# generation -> layer -> field -> (units at the tightest match, shift of a unit, lowest bit that counts)",
        "WEIGHT_SLOTS: Final[dict[str, dict[str, dict[str, tuple[int, int, int]]]]] = {",
    ]
    for generation, layers in weight_slots(directory).items():
        lines.append(f"    {generation!r}: {{")
        for layer, slots in layers.items():
            lines.append(f"        {layer!r}: {{")
            lines += [f"            {field!r}: {slot!r}," for field, slot in slots.items()]
            lines.append("        },")
        lines.append("    },")
    lines += ["}", ""]
    TARGET.write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
