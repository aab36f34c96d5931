"""The shared kernel of poolproof: what is asked, what was seen, and what follows from it.

Everything here is pure but for two modules at its edge: `wire` translates to and from the generated
protobuf types of `poolproof.v1`, and `tracing` sets up OpenTelemetry for both processes. The pure modules
import no I/O, no clock and no randomness: time and entropy are arguments (an import contract in
`pyproject.toml` holds this).
"""
