"""Settings for all tests: Hypothesis draws the same examples in every run, so that a failure is never news of the day.

`HYPOTHESIS_PROFILE=search` draws new ones, for looking further than CI does.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.lab.gate import net, pytest_runtest_setup

__all__ = ["net", "pytest_runtest_setup"]

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
