"""The world that the runner's tests run in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.probe.virtual import Host
from tests.probe.world import ANSWERING, World, world_of


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make_one(hosts: dict[str, Host] | None = None, *, controls: dict[str, Host] = ANSWERING, **more: Any) -> World:
        made.append(world_of(tmp_path / str(len(made)), {**controls, **(hosts or {})}, **more))
        return made[-1]

    yield make_one
    for each in made:
        each.journal.close()
