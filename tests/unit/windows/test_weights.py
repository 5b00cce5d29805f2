"""Recorded weights beside computed ones: the generation, and the misfits with their reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.engine.weights import GENERATIONS, weight_of
from layergate.model import Filter
from layergate.windows import fit, read
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, number


def filters_of(rows: list[Row], generation: str = GENERATIONS[0]) -> tuple[Filter, ...]:
    """The rows' filters, weighed as Windows of *generation* does; those with a recorded weight keep it."""
    found = read([composer.filters(rows).encode()], "f.xml").policy.filters
    return tuple(
        item if item.recorded_weight else replace(item, recorded_weight=weight_of(item, generation)) for item in found
    )


WEB = condition("IP_REMOTE_PORT", number(16, 443))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_dump_fits_the_generation_that_has_weighed_it(generation: str) -> None:
    found = fit(filters_of([replace(row, recorded=0) for row in example.ROWS], generation))
    assert found.is_known
    assert (found.fitting_count, found.automatic_count, found.misfits) == (9, 9, ())
    # Of equals the newest is named.
    assert found.generation == generation or found.fitting[generation] == found.fitting[found.generation]


def test_explicit_weights_do_not_count() -> None:
    rows = [Row(1, weight=number(64, 5), recorded=5), Row(2, weight=number(8, 3), recorded=3 << 60)]
    assert fit(filters_of(rows)).automatic_count == 1


@pytest.mark.parametrize(
    "row, reason",
    [
        (Row(1, conditions=[WEB]), "a build of Windows that was not measured"),
        (
            Row(1, conditions=[condition("IP_REMOTE_PORT", composer.between(number(16, 1), number(16, 99)), "RANGE")]),
            "builds differ in how they round ranges",
        ),
        (
            Row(1, conditions=[WEB, condition("COMPARTMENT_ID", number(32, 1))]),
            "what COMPARTMENT_ID weighs at ALE_AUTH_CONNECT_V4 was not measured",
        ),
        (Row(1, layer="FWPM_LAYER_IPSEC_V4"), "nothing was measured at IPSEC_V4"),
        (Row(1, layer="FWPM_LAYER_INBOUND_TRANSPORT_FAST"), "a layer of the platform's own use"),
    ],
)
def test_a_misfit_is_listed_with_the_likely_reason(row: Row, reason: str) -> None:
    rows = [*(Row(number_, conditions=[WEB]) for number_ in range(2, 30)), replace(row, recorded=12345)]
    found = fit(filters_of(rows))
    (misfit,) = found.misfits
    assert (misfit.filter.id, misfit.recorded, misfit.computed != 12345) == (1, 12345, True)
    assert misfit.reason.startswith(reason)
    assert found.is_known


def test_a_filter_that_was_not_understood_is_a_misfit_for_that_reason() -> None:
    rows = [Row(1, conditions=[condition("NOVELTY", number(8, 1))], recorded=99)]
    dump = read([composer.filters(rows).encode()], "f.xml")
    (misfit,) = fit(dump.policy.filters, dump.not_understood).misfits
    assert misfit.reason.startswith("it was not understood")


def test_a_build_that_was_not_measured_is_not_taken_for_one_that_was() -> None:
    found = fit(filters_of([Row(number_, conditions=[WEB], recorded=number_) for number_ in range(1, 30)]))
    assert not found.is_known
    assert len(found.misfits) == 29
