"""The names of our services, and how they get onto a server: generated code stops here."""

from __future__ import annotations

import grpc

from coordinator.service import Verifications
from coordinator.session import AgentSessions
from poolproof.v1 import agent_pb2, agent_pb2_grpc, verification_pb2, verification_pb2_grpc

AGENT_SERVICE: str = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
VERIFICATION_SERVICE: str = verification_pb2.DESCRIPTOR.services_by_name["VerificationService"].full_name


def add_services(server: grpc.aio.Server, sessions: AgentSessions, verifications: Verifications) -> None:
    """Makes the server answer both services' calls."""
    agent_pb2_grpc.add_AgentServiceServicer_to_server(sessions, server)
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(verifications, server)
