"""What a policy is: layers, fields, conditions, filters, sublayers; indications and verdicts.

Frozen, typed values; no I/O, no clock. The catalogue (99 layers with their fields) is data generated from the
specification. What the values mean is said in `layergate.engine`; where a session meets the layers, in
`layergate.path`. An **Indication** is "at this layer, with these values, for this flow"; a **Verdict** is "this action,
decided by this filter of this sublayer, and this is why". Every source makes indications, every sink takes verdicts.
"""

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
    Direction,
    Flag,
    Indication,
    Process,
    ReauthorizeReason,
    SublayerVerdict,
    Verdict,
)
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

__all__ = [
    "FIELD_ALIASES",
    "LAYERS",
    "SUBLAYER_INSPECTION",
    "SUBLAYER_UNIVERSAL",
    "Action",
    "AddressMask",
    "AddressType",
    "Callout",
    "CalloutFlag",
    "Condition",
    "DataType",
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
    "Layer",
    "LayergateError",
    "MatchType",
    "NotSupportedError",
    "Policy",
    "PolicyError",
    "Problem",
    "Process",
    "Provider",
    "ProviderContext",
    "Range",
    "ReauthorizeReason",
    "RefusedError",
    "Sublayer",
    "SublayerVerdict",
    "Token",
    "Value",
    "Verdict",
    "layer_by_id",
    "layer_named",
    "layers_named",
]
