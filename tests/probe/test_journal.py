"""Whatever moment the probe dies at, no report is lost and no job is done twice."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from poolproof.exchange import LocalFault
from poolproof.ids import JobId
from poolproof.job import Job, Report
from probe.faulted import faulted_report
from probe.guard import Guard, Permit
from probe.journal import (
    PERMITS_KEPT_NS,
    EntryState,
    Journal,
    JournalCorruptError,
    JournalError,
    JournalFullError,
    JournalInUseError,
)
from probe.settings import JournalSettings
from tests.probe.jobs import decode, encode, job, settings
from tests.probe.virtual import EPOCH_NS, S


def opened(directory: Path, **bounds: int) -> Journal:
    return Journal(JournalSettings(directory=directory, **bounds), encode=encode, decode=decode)


def named(name: str) -> Job:
    return replace(job(offsets_s=(0, 8)), id=JobId(name))


def done(each: Job) -> Report:
    return faulted_report(each, LocalFault.SEND_FAILED, "done")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(opened(tmp_path)) as each:
        yield each


def test_a_report_goes_through_its_three_states(journal: Journal) -> None:
    each = named("a")
    assert journal.find(each.id) is None
    journal.begin(each, EPOCH_NS)
    begun = journal.find(each.id)
    assert begun is not None
    assert begun.state is EntryState.STARTED
    assert journal.unacknowledged(10) == ()
    journal.finish(done(each), EPOCH_NS)
    assert journal.unacknowledged(10) == (done(each),)
    journal.acknowledge(each.id, EPOCH_NS)
    assert journal.unacknowledged(10) == ()
    remembered = journal.find(each.id)
    assert remembered is not None
    assert (remembered.state, remembered.report) == (EntryState.ACKNOWLEDGED, done(each))


def test_a_known_job_cannot_be_begun_again(journal: Journal) -> None:
    journal.begin(named("a"), EPOCH_NS)
    with pytest.raises(ValueError, match="'a' is in the journal already"):
        journal.begin(named("a"), EPOCH_NS)


def test_a_job_begun_and_not_finished_comes_back_interrupted_in_every_step(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as first:
        first.begin(named("a"), EPOCH_NS)
    with closing(opened(tmp_path)) as second:
        (report,) = second.unacknowledged(10)
        assert report.job == "a"
        assert [each.fault for each in report.exchanges] == [LocalFault.INTERRUPTED] * 2


def test_reports_come_oldest_first_and_no_more_than_asked_for(journal: Journal) -> None:
    for name in "abc":
        journal.finish(done(named(name)), EPOCH_NS)
    assert [report.job for report in journal.unacknowledged(2)] == ["a", "b"]


def test_the_first_report_of_a_job_stands(journal: Journal) -> None:
    journal.finish(done(named("a")), EPOCH_NS)
    journal.finish(faulted_report(named("a"), LocalFault.DRAINING, "other"), EPOCH_NS)
    journal.acknowledge(JobId("a"), EPOCH_NS)
    journal.finish(faulted_report(named("a"), LocalFault.DRAINING, "other"), EPOCH_NS)
    entry = journal.find(JobId("a"))
    assert entry is not None
    assert entry == type(entry)(EntryState.ACKNOWLEDGED, done(named("a")))


def test_a_tombstone_is_forgotten_after_its_time_and_not_before(tmp_path: Path) -> None:
    with closing(opened(tmp_path, keep_acknowledged_ns=60 * S)) as journal:
        for name in "ab":
            journal.finish(done(named(name)), EPOCH_NS)
        journal.acknowledge(JobId("a"), EPOCH_NS)
        journal.acknowledge(JobId("b"), EPOCH_NS + 60 * S)
        assert journal.find(JobId("a")) is not None
        journal.acknowledge(JobId("none"), EPOCH_NS + 61 * S)
        assert journal.find(JobId("a")) is None
        assert journal.find(JobId("b")) is not None


def test_full_by_count_refuses_new_work_and_keeps_every_report(tmp_path: Path) -> None:
    with closing(opened(tmp_path, max_reports=2)) as journal:
        journal.begin(named("a"), EPOCH_NS)
        journal.finish(done(named("b")), EPOCH_NS)
        with pytest.raises(JournalFullError, match=r"journal.max_reports is 2"):
            journal.begin(named("c"), EPOCH_NS)
        journal.finish(done(named("a")), EPOCH_NS)
        assert [report.job for report in journal.unacknowledged(10)] == ["a", "b"]
        journal.acknowledge(JobId("a"), EPOCH_NS)
        journal.begin(named("c"), EPOCH_NS)
        assert journal.find(JobId("a")) is None, "the tombstone made room"


def test_full_by_bytes_refuses_new_work_but_stores_what_was_begun(tmp_path: Path) -> None:
    room = len(encode(faulted_report(named("a"), LocalFault.INTERRUPTED, "x" * 100)))
    with closing(opened(tmp_path, max_bytes=room)) as journal:
        journal.begin(named("a"), EPOCH_NS)
        with pytest.raises(JournalFullError, match=r"journal.max_bytes"):
            journal.begin(named("b"), EPOCH_NS)
        longer = faulted_report(named("a"), LocalFault.SEND_FAILED, "y" * 900)
        journal.finish(longer, EPOCH_NS)
        assert journal.unacknowledged(1) == (longer,)


def test_a_full_disk_is_told_as_such_and_loses_nothing(tmp_path: Path) -> None:
    with closing(opened(tmp_path, max_bytes=1_000_000)) as journal:
        # The database's own page limit fails exactly as a full disk does (SQLITE_FULL).
        journal._db.execute("PRAGMA max_page_count = 8")
        names = [f"{number:03}" for number in range(100)]
        begun = []
        with pytest.raises(JournalFullError, match="make room on the disk"):
            for name in names:
                journal.begin(named(name), EPOCH_NS)
                begun.append(name)
        assert 0 < len(begun) < len(names)
        assert journal.find(JobId(names[len(begun)])) is None
    with closing(opened(tmp_path)) as journal:
        assert [report.job for report in journal.unacknowledged(200)] == begun


def test_each_change_is_on_the_disk_and_not_only_in_its_cache(journal: Journal) -> None:
    # No test can cut the power; SQLite promises an fsync for each commit with synchronous=FULL (2).
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    with closing(opened(tmp_path)), pytest.raises(JournalInUseError, match="give each its own"):
        opened(tmp_path)


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"not a database, for certain. " * 100)
    with pytest.raises(JournalCorruptError, match=r"journal\.sqlite3.*move the file away"):
        opened(tmp_path)


def test_damage_within_the_file_is_found_when_it_is_opened(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as journal:
        for number in range(50):
            journal.finish(done(named(str(number))), EPOCH_NS)
    content = bytearray((tmp_path / "journal.sqlite3").read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    (tmp_path / "journal.sqlite3").write_bytes(content)
    with pytest.raises(JournalCorruptError, match="move the file away"):
        opened(tmp_path)


def test_a_report_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as journal:
        journal.finish(done(named("a")), EPOCH_NS)
        journal._db.execute("UPDATE jobs SET report = x'ff'")
        with pytest.raises(JournalCorruptError, match="report of job 'a' cannot be read"):
            journal.unacknowledged(10)


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as database:
        database.execute("PRAGMA user_version = 3")
    with pytest.raises(JournalCorruptError, match="schema version 3, this software knows 2"):
        opened(tmp_path)


def test_a_directory_that_cannot_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file/state.*give a writable directory"):
        opened(tmp_path / "file" / "state")


operation = st.tuples(st.sampled_from(["begin", "finish", "acknowledge"]), st.sampled_from("abcd"))


@examples(max_examples=25)
@given(st.lists(operation, max_size=12))
def test_after_each_operation_the_disk_alone_tells_the_same(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]]
) -> None:
    """A copy of the directory is what a power cut leaves: each operation's effect must be in it when it returns."""
    live, states = tmp_path_factory.mktemp("live"), dict[str, EntryState]()
    with closing(opened(live)) as journal:
        for number, (what, name) in enumerate(operations):
            match what:
                case "begin" if name not in states:
                    journal.begin(named(name), EPOCH_NS)
                    states[name] = EntryState.STARTED
                case "finish":
                    journal.finish(done(named(name)), EPOCH_NS)
                    states[name] = max(states.get(name, EntryState.STORED), EntryState.STORED)
                case "acknowledge":
                    journal.acknowledge(JobId(name), EPOCH_NS)
                    if states.get(name) is EntryState.STORED:
                        states[name] = EntryState.ACKNOWLEDGED
            copy = live.with_name(f"{live.name}-{number}")
            shutil.copytree(live, copy)
            with closing(opened(copy)) as after:
                waiting = {report.job: report for report in after.unacknowledged(10)}
                assert set(waiting) == {each for each, state in states.items() if state < EntryState.ACKNOWLEDGED}
                for each, state in states.items():
                    assert after.find(JobId(each)) is not None
                    if state is EntryState.STORED:
                        assert waiting[JobId(each)] == done(named(each))
            shutil.rmtree(copy)


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment_nothing_is_lost_and_nothing_could_run_twice(tmp_path: Path, seed: int) -> None:
    """Two lives of a probe on one directory, each ended by SIGKILL after a random number of steps."""
    chance = random.Random(seed)
    for life in range(2):
        command = [sys.executable, "-m", "tests.probe.journal_victim", str(tmp_path), str(seed * 10 + life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            try:
                for _ in range(chance.randrange(1, 40)):
                    assert victim.stdout.readline(), "the victim died by itself"
            finally:
                victim.send_signal(signal.SIGKILL)
    sent = set((tmp_path / "sent").read_text().split())
    acknowledging = tmp_path / "acknowledged"
    acknowledged = set(acknowledging.read_text().split()) if acknowledging.exists() else set()
    with closing(opened(tmp_path)) as journal:
        waiting = {report.job for report in journal.unacknowledged(10_000)}
        for each in sent:
            assert journal.find(JobId(each)) is not None, f"{each} would run twice"
            assert each in waiting or each in acknowledged, f"the report of {each} is lost"


def permitted(name: str, start_at_ns: int) -> tuple[Job, Permit]:
    asked = replace(named(name), start_at_ns=start_at_ns)
    permit = Guard(settings()).admit(asked, start_at_ns - S)
    assert isinstance(permit, Permit)
    return asked, permit


def test_what_a_job_was_allowed_to_send_outlives_its_process_and_its_report(tmp_path: Path) -> None:
    asked, permit = permitted("a", EPOCH_NS)
    with closing(opened(tmp_path, max_reports=1)) as journal:
        journal.begin(asked, EPOCH_NS, permit)
        journal.finish(done(asked), EPOCH_NS + S)
        journal.acknowledge(asked.id, EPOCH_NS + S)
        # No tombstone is left of it: whoever made the probe refuse much cannot make it forget what it sent.
        journal.finish(done(named("b")), EPOCH_NS + S)
        assert journal.find(asked.id) is None
    with closing(opened(tmp_path)) as later:
        assert later.permits(EPOCH_NS + 2 * S) == (permit,)


def test_permits_are_kept_longer_than_any_budgets_window_and_then_dropped(journal: Journal) -> None:
    first, second = permitted("a", EPOCH_NS), permitted("b", EPOCH_NS + 2 * PERMITS_KEPT_NS)
    last_at_ns = first[1].times[-1]
    journal.begin(first[0], EPOCH_NS, first[1])
    assert journal.permits(last_at_ns + PERMITS_KEPT_NS) == (first[1],)
    assert journal.permits(last_at_ns + PERMITS_KEPT_NS + 1) == ()
    journal.begin(second[0], second[1].times[0], second[1])
    assert journal.permits(EPOCH_NS) == (second[1],), "the first is gone from the disk"
    assert PERMITS_KEPT_NS > 2 * 60 * S


def test_a_journal_of_the_first_schema_learns_to_keep_permits(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as journal:
        journal.finish(done(named("old")), EPOCH_NS)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as database:
        database.executescript("DROP TABLE permits; PRAGMA user_version = 1")
    asked, permit = permitted("a", EPOCH_NS)
    with closing(opened(tmp_path)) as journal:
        assert journal.held() == ("old",)
        journal.begin(asked, EPOCH_NS, permit)
        assert journal.permits(EPOCH_NS) == (permit,)


def test_a_permit_that_cannot_be_read_is_an_error_that_says_what_to_do(journal: Journal) -> None:
    journal.begin(*_begun("a"))
    journal._db.execute("UPDATE permits SET permit = '[1]'")
    with pytest.raises(JournalCorruptError, match=r"a permit cannot be read .*move the file away"):
        journal.permits(EPOCH_NS)


def _begun(name: str) -> tuple[Job, int, Permit]:
    asked, permit = permitted(name, EPOCH_NS)
    return asked, EPOCH_NS, permit
