"""What a policy is: layers, fields, conditions, filters, sublayers, limits; indications and verdicts.

Frozen, typed values; no I/O, no clock. The catalogue (99 layers with their fields) is data generated from the
specification. What the values mean is said in `layergate.engine`; where a session meets the layers, in
`layergate.path`. An **Indication** is "at this layer, with these values, for this flow"; a **Verdict** is "this action,
decided by this filter of this sublayer, and this is why". Every source makes indications, every sink takes verdicts.

A name is imported when it is first asked for: the catalogue takes longer to make than a list of sockets to print.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from layergate.model.catalogue import (
        FIELD_ALIASES,
        LAYERS,
        SUBLAYER_INSPECTION,
        SUBLAYER_UNIVERSAL,
        Family,
        Field,
        Layer,
        layer_by_id,
        layer_named,
        layers_named,
    )
    from layergate.model.errors import (
        FwpError,
        InputError,
        InternalError,
        LayergateError,
        NotSupportedError,
        PolicyError,
        Problem,
        RefusedError,
    )
    from layergate.model.indication import (
        AddressType,
        Decided,
        Direction,
        Flag,
        Indication,
        Process,
        ReauthorizeReason,
        SublayerVerdict,
        Verdict,
    )
    from layergate.model.limits import Ban, Counted, Key, Limit, Per, Response, Standing
    from layergate.model.policy import (
        Action,
        Callout,
        CalloutFlag,
        Condition,
        Filter,
        FilterFlag,
        Policy,
        Provider,
        ProviderContext,
        Sublayer,
    )
    from layergate.model.values import AddressMask, DataType, MatchType, Range, Token, Value

_HOMES: Final = {
    "catalogue": (
        "FIELD_ALIASES",
        "LAYERS",
        "SUBLAYER_INSPECTION",
        "SUBLAYER_UNIVERSAL",
        "Family",
        "Field",
        "Layer",
        "layer_by_id",
        "layer_named",
        "layers_named",
    ),
    "errors": (
        "FwpError",
        "InputError",
        "InternalError",
        "LayergateError",
        "NotSupportedError",
        "PolicyError",
        "Problem",
        "RefusedError",
    ),
    "indication": (
        "AddressType",
        "Decided",
        "Direction",
        "Flag",
        "Indication",
        "Process",
        "ReauthorizeReason",
        "SublayerVerdict",
        "Verdict",
    ),
    "limits": (
        "Ban",
        "Counted",
        "Key",
        "Limit",
        "Per",
        "Response",
        "Standing",
    ),
    "policy": (
        "Action",
        "Callout",
        "CalloutFlag",
        "Condition",
        "Filter",
        "FilterFlag",
        "Policy",
        "Provider",
        "ProviderContext",
        "Sublayer",
    ),
    "values": (
        "AddressMask",
        "DataType",
        "MatchType",
        "Range",
        "Token",
        "Value",
    ),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a checker knows the names, and tells the ones that are none

    def __getattr__(name: str) -> object:
        """Import *name* from the module that defines it, once."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


__all__ = [
    "FIELD_ALIASES",
    "LAYERS",
    "SUBLAYER_INSPECTION",
    "SUBLAYER_UNIVERSAL",
    "Action",
    "AddressMask",
    "AddressType",
    "Ban",
    "Callout",
    "CalloutFlag",
    "Condition",
    "Counted",
    "DataType",
    "Decided",
    "Direction",
    "Family",
    "Field",
    "Filter",
    "FilterFlag",
    "Flag",
    "FwpError",
    "Indication",
    "InputError",
    "InternalError",
    "Key",
    "Layer",
    "LayergateError",
    "Limit",
    "MatchType",
    "NotSupportedError",
    "Per",
    "Policy",
    "PolicyError",
    "Problem",
    "Process",
    "Provider",
    "ProviderContext",
    "Range",
    "ReauthorizeReason",
    "RefusedError",
    "Response",
    "Standing",
    "Sublayer",
    "SublayerVerdict",
    "Token",
    "Value",
    "Verdict",
    "layer_by_id",
    "layer_named",
    "layers_named",
]
