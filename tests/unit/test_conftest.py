"""The `live` marker: a test that can't run is skipped with the reason, and fails where live tests are required."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LIVE_TEST = """
import pytest

@pytest.mark.live
def test_live():
    pass

def test_plain():
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    conftest = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(conftest + '\n\ndef why_not_live():\n    return "it is a Tuesday"\n')
    pytester.makeini("[pytest]\nmarkers = live: x\n")
    pytester.makepyfile(LIVE_TEST)
    return pytester


def test_where_it_cannot_run_it_is_skipped_with_the_reason(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAYERGATE_REQUIRE_LIVE", raising=False)
    result = suite.runpytest_subprocess("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*it is a Tuesday*"])


def test_where_live_tests_are_required_it_fails_with_the_reason(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERGATE_REQUIRE_LIVE", "1")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*live tests are required here (LAYERGATE_REQUIRE_LIVE=1), but it is a Tuesday*"])
