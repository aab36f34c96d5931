"""Lab tests run where the lab can run; elsewhere they are skipped with the reason, or fail where CI insists.

`tests/conftest.py` takes this in, so that it holds for every test with the marker `lab`, wherever it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import pytest

from tests.lab import packages
from tests.lab.net import Network

REQUIRE = "POOLPROOF_REQUIRE_LAB"


@cache
def why_not() -> str:
    """Why the lab cannot run here, or nothing. Makes it ready on the way: the first call may download packages."""
    try:
        packages.prepare()
    except packages.LabUnavailableError as error:
        return str(error)
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Comes before all fixtures, so that none meets a machine without a lab."""
    if item.get_closest_marker("lab") is None:
        return
    reason = why_not()
    if reason and os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{REQUIRE}=1, and the lab cannot run: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"no lab: {reason}")


@pytest.fixture
def net() -> Iterator[Network]:
    """An empty network that is gone after the test."""
    with Network() as network:
        yield network
