"""What the owner of a target has to do for a challenge, to the letter, for the software that they run.

Pure: a `Request` goes in, `Instructions` come out, `render` makes plain text of them. Every line was tried on the real
program; tests/kernel/test_instructions_lab.py does so again for ntpsec, chrony, nftables, iptables and routes. What
varies in a line is only numbers, and addresses parsed and written anew: owners paste them into a root shell.
"""

from __future__ import annotations

from poolproof.instructions.model import Instructions, InvalidRequestError, Request, Software, Step
from poolproof.instructions.text import render
from poolproof.instructions.write import write

__all__ = ["Instructions", "InvalidRequestError", "Request", "Software", "Step", "render", "write"]
