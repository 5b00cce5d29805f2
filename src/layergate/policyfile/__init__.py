"""Policy as text: TOML and JSON in, the same out, every problem of a file in one go.

`load_text` and `load_file` give a `Loaded` policy or raise `PolicyError` with all problems: file, line, object, what
was found, what would be accepted. `compose` writes a policy that loads to the same filters; `schema` describes the
JSON form. Names (users, services, executables, units) are resolved by the `Resolver` that the caller gives: this
room has no world but the one file that `load_file` reads. `FIELD_NAMES` is the table of short names, used by the
command line too.
"""

from layergate.policyfile.composing import compose
from layergate.policyfile.conditions import value_from_text
from layergate.policyfile.loading import Loaded, load_file, load_text
from layergate.policyfile.names import FIELD_NAMES, Resolver, TableResolver, field_name, friendly_name
from layergate.policyfile.schemas import schema

__all__ = [
    "FIELD_NAMES",
    "Loaded",
    "Resolver",
    "TableResolver",
    "compose",
    "field_name",
    "friendly_name",
    "load_file",
    "load_text",
    "schema",
    "value_from_text",
]
