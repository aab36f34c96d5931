"""The glossary's words are those of the code: what its last column names exists, and its closed lists are whole."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import pytest

from poolproof.fleet import Role
from poolproof.outcome import Outcome
from tests.docs.pages import ROOT, rows, section, text, word

PAGE = text("docs/glossary.md")


def named() -> Iterator[str]:
    for heading in ("## Who and what", "## What is asked", "## What is seen", "## What follows"):
        for cells in rows(section(PAGE, heading)):
            if len(cells) == 3:
                yield from re.findall(r"`([\w./]+)`", cells[-1])


def exists(name: str) -> bool:
    if name.endswith("/"):
        return (ROOT / name).is_dir()
    for package in ("poolproof", "coordinator", "probe"):
        module, *path = name.split(".")
        try:
            found: object = importlib.import_module(f"{package}.{module}")
        except ModuleNotFoundError:
            continue
        for i, attribute in enumerate(path):
            if attribute in getattr(found, "__dataclass_fields__", {}):
                return i == len(path) - 1
            if not hasattr(found, attribute):
                break
            found = getattr(found, attribute)
        else:
            return True
    return False


@pytest.mark.parametrize("name", sorted(set(named())))
def test_what_the_glossary_names_exists(name: str) -> None:
    assert exists(name)


def test_a_name_that_does_not_exist_is_found() -> None:
    assert not exists("challenge.Row.colour")
    assert not exists("astrology")


def test_outcomes_and_what_they_show_are_those_of_the_code() -> None:
    table = [cells for cells in rows(section(PAGE, "## What is seen")) if len(cells) == 4]
    assert {word(cells[0]): (cells[2] == "yes", cells[3] == "yes") for cells in table} == {
        outcome.value: (outcome.is_answer, outcome.shows_presence) for outcome in Outcome
    }


def test_roles_are_those_of_the_code() -> None:
    (role,) = (cells for cells in rows(section(PAGE, "## What is asked")) if cells[0] == "role")
    assert set(re.findall(r"`([a-z-]+)`", role[1])) == {each.value for each in Role}
