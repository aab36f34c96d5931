"""Translation between the kernel's types and the generated protobuf types of `poolproof.v1`.

Generated types stop here. What comes from outside is checked on the way in: a zero enum value, a missing field or a
number out of range raises `WireError`, which names the field, the value and the remedy. What goes out comes from the
kernel's own types and is only translated.
"""

from poolproof.wire.checks import WireError
from poolproof.wire.evidence import (
    MAX_FAULT_DETAIL,
    MAX_PAYLOAD_BYTES,
    MAX_REPLIES,
    clock_from_wire,
    clock_to_wire,
    exchange_from_wire,
    exchange_to_wire,
    job_from_wire,
    job_to_wire,
    report_from_stored,
    report_from_wire,
    report_to_wire,
    target_from_wire,
    target_to_wire,
)
from poolproof.wire.judgement import (
    METHODS,
    VARIANTS,
    challenge_from_wire,
    challenge_to_wire,
    observation_from_wire,
    observation_to_wire,
    vantage_from_wire,
    vantage_to_wire,
    verdict_from_wire,
    verdict_to_wire,
)
from poolproof.wire.record import STATES, from_record, to_record
from poolproof.wire.session import (
    MAX_LEASED_JOBS,
    PROTOCOL_VERSION,
    Capabilities,
    Hello,
    Welcome,
    hello_from_wire,
    hello_to_wire,
    job_ids_from_wire,
    lease_from_wire,
    lease_to_wire,
    welcome_from_wire,
    welcome_to_wire,
)
from poolproof.wire.view import CreateRequest, create_request_from_wire, verdict_to_view, verification_to_view

__all__ = [
    "MAX_FAULT_DETAIL",
    "MAX_LEASED_JOBS",
    "MAX_PAYLOAD_BYTES",
    "MAX_REPLIES",
    "METHODS",
    "PROTOCOL_VERSION",
    "STATES",
    "VARIANTS",
    "Capabilities",
    "CreateRequest",
    "Hello",
    "Welcome",
    "WireError",
    "challenge_from_wire",
    "challenge_to_wire",
    "clock_from_wire",
    "clock_to_wire",
    "create_request_from_wire",
    "exchange_from_wire",
    "exchange_to_wire",
    "from_record",
    "hello_from_wire",
    "hello_to_wire",
    "job_from_wire",
    "job_ids_from_wire",
    "job_to_wire",
    "lease_from_wire",
    "lease_to_wire",
    "observation_from_wire",
    "observation_to_wire",
    "report_from_stored",
    "report_from_wire",
    "report_to_wire",
    "target_from_wire",
    "target_to_wire",
    "to_record",
    "vantage_from_wire",
    "vantage_to_wire",
    "verdict_from_wire",
    "verdict_to_view",
    "verdict_to_wire",
    "verification_to_view",
    "welcome_from_wire",
    "welcome_to_wire",
]
