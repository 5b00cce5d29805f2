"""What an object must be before the store takes it; every refusal has the platform's name and says what to do.

`completed` fills in what the platform fills in (the layer's own sublayer, a run-time id, a key); `check` refuses. Where
the documentation is silent: conditions on one field that stand apart are refused, and so is a filter that can match
nothing.

Source: Microsoft, FwpmProviderAdd0, FwpmSubLayerAdd0, FwpmCalloutAdd0, FwpmFilterAdd0, "WFP Error Codes".
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NoReturn

from layergate.engine import condition_problem, groups
from layergate.engine.regions import is_nothing, region
from layergate.engine.weights import is_fast
from layergate.model import (
    SUBLAYER_INSPECTION,
    Action,
    AddressMask,
    Callout,
    DataType,
    Filter,
    FilterFlag,
    FwpError,
    RefusedError,
    Sublayer,
)
from layergate.store.records import KIND_OF, NOT_FOUND, Kind, Lifetime, Object, Record, View, named, references

SUBLAYER_WEIGHT_MAX: Final = 0xFFFF
SUBLAYERS_MAX: Final = 0x10000
CALLOUTS_MAX: Final = 100_000
WEIGHT_RANGE_MAX: Final = 15
_WEIGHTS: Final = (DataType.EMPTY, DataType.UINT8, DataType.UINT64)
_ENGINE_FLAGS: Final = FilterFlag.DISABLED
_ADDRESS_BITS: Final = {DataType.V4_ADDR_MASK: 32, DataType.V6_ADDR_MASK: 128}


def refuse(code: FwpError, item: Object | str, found: str, remedy: str) -> NoReturn:
    """Raise RefusedError about *item*."""
    raise RefusedError(code, item if isinstance(item, str) else named(item), found, remedy)


def check(item: Object, lifetime: Lifetime, session: int | None, view: View) -> None:
    """Refuse *item* where it can't be added to *view* with *lifetime* by *session* (None: not a dynamic one).

    Raises RefusedError. Cost: O(conditions).
    """
    kind = KIND_OF[type(item)]
    if not item.name:
        refuse(FwpError.NULL_DISPLAY_NAME, item, f"the {kind} has no name", "every object has a name, for people")
    if view.get(kind, item.key):
        refuse(
            FwpError.ALREADY_EXISTS, item, f"the key {item.key} is taken", f"another key, or delete the {kind} first"
        )
    if isinstance(item, Sublayer):
        _check_sublayer(item, view)
    elif isinstance(item, Callout):
        if len(view.records[Kind.CALLOUT]) >= CALLOUTS_MAX:
            refuse(FwpError.TOO_MANY_CALLOUTS, item, f"there are {CALLOUTS_MAX} callouts", "delete one first")
    elif isinstance(item, Filter):
        _check_filter(item, view)
    for reference in references(item):
        _check_reference(item, lifetime, session, reference, view)


def _check_reference(
    item: Object, lifetime: Lifetime, session: int | None, reference: tuple[Kind, str], view: View
) -> None:
    kind, key = reference
    record = view.get(kind, key)
    if record is None:
        refuse(NOT_FOUND[kind], item, f"there is no {kind} {key}", f"add the {kind} first")
    other = record.object
    if record.lifetime is Lifetime.DYNAMIC and record.session != session:
        found = f"{named(other)} is dynamic, and another session's"
        refuse(
            FwpError.LIFETIME_MISMATCH, item, found, "refer to an object of this session, or to one that lives longer"
        )
    if record.lifetime < lifetime:
        found = f"it is {lifetime.word}, and {named(other)} is only {record.lifetime.word}"
        refuse(
            FwpError.LIFETIME_MISMATCH,
            item,
            found,
            f"make {named(other)} {lifetime.word} too, or this one shorter-lived",
        )
    mine, its = _provider(item), _provider(other)
    if lifetime is record.lifetime is Lifetime.PERSISTENT and its and mine != its and kind is not Kind.PROVIDER:
        found = f"{named(other)} is persistent, and of another provider ({its})"
        refuse(FwpError.LIFETIME_MISMATCH, item, found, "persistent objects refer to those of their own provider")


def _provider(item: Object) -> str:
    return str(getattr(item, "provider", ""))


def _check_sublayer(item: Sublayer, view: View) -> None:
    if not 0 <= item.weight <= SUBLAYER_WEIGHT_MAX:
        refuse(FwpError.OUT_OF_BOUNDS, item, f"weight {item.weight}", f"0 to {SUBLAYER_WEIGHT_MAX}")
    if len(view.records[Kind.SUBLAYER]) >= SUBLAYERS_MAX:
        refuse(FwpError.TOO_MANY_SUBLAYERS, item, f"there are {SUBLAYERS_MAX} sublayers", "delete one first")


def _check_filter(item: Filter, view: View) -> None:
    _check_action(item, view.get(Kind.CALLOUT, item.callout))
    _check_flags(item)
    if is_fast(item.layer):
        found = f"{item.layer.short} is internal to the platform"
        refuse(FwpError.INCOMPATIBLE_LAYER, item, found, f"{item.layer.base.removesuffix('_FAST')}, the layer itself")
    if item.weight.type not in _WEIGHTS:
        found = f"a weight of type {item.weight.type.name}"
        refuse(
            FwpError.INVALID_WEIGHT, item, found, "EMPTY (automatic), UINT8 0 to 15 (automatic in a range) or UINT64"
        )
    if item.weight.type is DataType.UINT8 and int(item.weight.data) > WEIGHT_RANGE_MAX:  # type: ignore[arg-type]
        refuse(FwpError.INVALID_WEIGHT, item, f"the weight range {item.weight.data!r}", f"0 to {WEIGHT_RANGE_MAX}")
    _check_conditions(item)


def _check_action(item: Filter, callout: Record | None) -> None:
    if item.action is Action.CONTINUE:
        refuse(FwpError.INVALID_ACTION_TYPE, item, "the action continue", "permit, block, or a callout's action")
    if item.action.is_callout and not item.callout:
        refuse(
            FwpError.CALLOUT_NOT_FOUND, item, f"{item.action} without a callout", "the key of a callout that was added"
        )
    if not item.action.is_callout and item.callout:
        refuse(FwpError.INVALID_ACTION_TYPE, item, f"{item.action} with a callout", "a callout's action, or no callout")
    if callout and isinstance(callout.object, Callout) and callout.object.layer.id != item.layer.id:
        found = f"{named(callout.object)} answers at {callout.object.layer.short}, not at {item.layer.short}"
        refuse(FwpError.INCOMPATIBLE_LAYER, item, found, "a callout of the filter's own layer")
    if item.sublayer == SUBLAYER_INSPECTION and item.action is not Action.CALLOUT_INSPECTION:
        found = f"{item.action} in the inspection sublayer"
        refuse(FwpError.ACTION_INCOMPATIBLE_WITH_SUBLAYER, item, found, "another sublayer: that one only looks on")


def _check_flags(item: Filter) -> None:
    flags = item.flags
    if FilterFlag.BOOTTIME in flags and FilterFlag.PERSISTENT in flags:
        refuse(FwpError.INVALID_FLAGS, item, "both boot-time and persistent", "one of the two, in two filters")
    if flags & _ENGINE_FLAGS:
        refuse(FwpError.INVALID_FLAGS, item, "DISABLED is the engine's word", "leave it out")
    if FilterFlag.BOOTTIME in flags and not item.layer.kernel_mode:
        found = f"a boot-time filter at {item.layer.short}, which is no layer of the kernel's"
        refuse(FwpError.INCOMPATIBLE_LAYER, item, found, "a layer of the kernel's")
    if FilterFlag.PERMIT_IF_CALLOUT_UNREGISTERED in flags and item.action not in (
        Action.CALLOUT_TERMINATING,
        Action.CALLOUT_UNKNOWN,
    ):
        found = f"PERMIT_IF_CALLOUT_UNREGISTERED with {item.action}"
        refuse(FwpError.INVALID_FLAGS, item, found, "only with callout-terminating and callout-unknown")


def _check_conditions(item: Filter) -> None:
    names = [name for name, _ in groups(item.conditions)]
    for name, run in groups(item.conditions):
        field = item.layer.field(name)
        if field is None:
            found = f"{item.layer.short} has no field {name}"
            refuse(FwpError.CONDITION_NOT_FOUND, item, found, f"its fields: {', '.join(item.layer.field_by_name)}")
        for condition in run:
            problem = condition_problem(field, condition)
            if problem:
                code, _, found = problem.partition(": ")
                refuse(
                    FwpError[code.removeprefix("FWP_E_")], item, found, "a value and a match type that the field takes"
                )
            mask = condition.value.data
            if field.is_address and isinstance(mask, AddressMask):
                _check_mask(item, name, mask, _ADDRESS_BITS[condition.value.type])
        if names.count(name) > 1:
            found = f"the conditions on {name} stand apart"
            refuse(FwpError.DUPLICATE_CONDITION, item, found, "put them together: then they are alternatives")
        if is_nothing(region(run)):
            refuse(
                FwpError.NEVER_MATCH, item, f"no value meets the conditions on {name}", "a condition that can be met"
            )


def _check_mask(item: Filter, name: str, mask: AddressMask, bits: int) -> None:
    digits = f"{mask.mask:0{bits}b}"
    if mask.mask >> bits or any(left < right for left, right in pairwise(digits)):
        refuse(FwpError.INVALID_NET_MASK, item, f"the mask {mask.mask:#x} on {name} has holes", "a prefix")
