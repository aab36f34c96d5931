"""Tests of the lab run where it can run; elsewhere they are skipped with the reason, or fail where CI insists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import pytest

from tests.lab import packages
from tests.lab.net import Network

REQUIRE = "POOLPROOF_REQUIRE_LAB"


@cache
def _why_not() -> str:
    """Why the lab cannot run here, or nothing. Makes it ready on the way: the first call may download packages."""
    try:
        packages.prepare()
    except packages.LabUnavailableError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True, scope="session")
def lab_is_ready() -> None:
    """Comes before every other fixture here, so that none meets a machine without a lab."""
    reason = _why_not()
    if reason and os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{REQUIRE}=1, and the lab cannot run: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"no lab: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a lab test, with or without the marker."""
    for item in items:
        if item.path.is_relative_to(packages.LAB):
            item.add_marker(pytest.mark.lab)


@pytest.fixture
def net() -> Iterator[Network]:
    """An empty network that is gone after the test."""
    with Network() as network:
        yield network
