"""Where verifications, evidence and spans are kept: a port and its adapters.

`port` is what the rest of the coordinator knows: values, limits and the `Store` protocol, with `errors` beside it.
`memory` serves tests and simulation, `sqlite` is the embedded default. Only `compose.py` picks one.
"""
