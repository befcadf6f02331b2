"""The httpx2 family: clients and transports for httpx2, which are those of `p2plb.httpx` under httpx2's names.

The other files here are written by `python -m tests.generate` from p2plb/httpx/.
"""

from importlib.util import find_spec

if find_spec("httpx2") is None:
    raise ImportError('p2plb.httpx2 needs httpx2: pip install "p2plb[httpx2]"', name="httpx2")

from p2plb.httpx2.client import AsyncClient, Client
from p2plb.httpx2.family import NoInstances
from p2plb.httpx2.transport import AsyncTransport, Transport

__all__ = ["AsyncClient", "AsyncTransport", "Client", "NoInstances", "Transport"]
