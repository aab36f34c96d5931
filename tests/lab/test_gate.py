"""Where the lab cannot run its tests say so, and fail where CI insists."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab import gate


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    gate.why_not.cache_clear()
    yield
    gate.why_not.cache_clear()


@pytest.mark.usefixtures("not_root")
def test_without_root_a_lab_test_is_skipped_with_the_reason(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(gate.REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs root: run the tests as root"):
        gate.pytest_runtest_setup(request.node)


@pytest.mark.usefixtures("not_root")
def test_without_root_a_lab_test_fails_where_ci_insists(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gate.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=r"POOLPROOF_REQUIRE_LAB=1.* needs root"):
        gate.pytest_runtest_setup(request.node)


def test_the_gate_stands_before_every_test_of_this_folder(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("lab") is not None
    hooks = request.node.ihook.pytest_runtest_setup.get_hookimpls()
    assert gate.pytest_runtest_setup in [hook.function for hook in hooks]
