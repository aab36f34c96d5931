"""A process to be killed: begins, 'sends' and finishes jobs for ever, and tells each step before and after.

Run as `python -m tests.probe.journal_victim DIRECTORY SEED`. What it appends to the file `sent` stands for packets.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

from poolproof.exchange import LocalFault
from poolproof.ids import JobId
from probe.faulted import faulted_report
from probe.journal import Journal
from probe.settings import JournalSettings
from tests.probe.jobs import decode, encode, job


def main(directory: Path, seed: int) -> None:
    chance = random.Random(seed)
    journal = Journal(JournalSettings(directory=directory), encode=encode, decode=decode)
    sent = os.open(directory / "sent", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    acknowledged = os.open(directory / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in count():
        each = replace(job(), id=JobId(f"{seed}.{number}"))
        journal.begin(each, time.time_ns())
        os.write(sent, f"{each.id}\n".encode())
        print("sent", flush=True)
        if chance.random() < 0.8:
            journal.finish(faulted_report(each, LocalFault.SEND_FAILED, "done"), time.time_ns())
            print("finished", flush=True)
            if chance.random() < 0.5:
                os.write(acknowledged, f"{each.id}\n".encode())
                journal.acknowledge(each.id, time.time_ns())
                print("acknowledged", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
