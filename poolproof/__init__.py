"""The shared kernel of poolproof: what is asked, what was seen, and what follows from it.

Everything here is pure but for its edge: `wire` translates to and from the generated protobuf types of `poolproof.v1`;
`tracing`, `metering` and `logs` set up telemetry for both processes. The pure modules import no I/O, no clock and no
randomness: time and entropy are arguments (import contracts in `pyproject.toml` hold this).
"""
