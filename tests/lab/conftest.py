"""Everything in this folder is a lab test, with or without the marker."""

from __future__ import annotations

import pytest

from tests.lab import packages


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(packages.LAB):
            item.add_marker(pytest.mark.lab)
