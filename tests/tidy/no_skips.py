"""A pytest plugin for CI: a test that is skipped or expected to fail counts as failed.

Loaded with `-p tests.tidy.no_skips`. A suite that quietly skips its lab looks exactly like one that passes.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = [*terminalreporter.stats.get("skipped", ()), *terminalreporter.stats.get("xfailed", ())]
    if left_out:
        terminalreporter.section("left out, which is a failure here", sep="=", red=True)
        for report in left_out:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and (reporter.stats.get("skipped") or reporter.stats.get("xfailed")):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
