"""The httpx family: clients and transports for httpx."""

from p2plb.httpx.client import AsyncClient, Client
from p2plb.httpx.family import NoInstances
from p2plb.httpx.transport import AsyncTransport, Transport

__all__ = ["AsyncClient", "AsyncTransport", "Client", "NoInstances", "Transport"]
