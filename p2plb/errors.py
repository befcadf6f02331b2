"""The errors that p2plb raises, without a word of httpx.

    P2PError
    ├── NoInstances        nobody can serve the call (each httpx family raises its own subclass, also a ConnectError)
    ├── DiscoveryError     the registry can't be reached, refuses us, or holds nonsense; raised by explicit calls only
    ├── MissingKey         a call without a key, and its strategy wants one; also a ValueError
    └── RegistrationError  what waiting can't heal: denied, identity taken

Failures of the network are the family's own `TransportError`s. Wrong arguments are `ValueError` or `TypeError`.
"""


class P2PError(Exception):
    """Anything that p2plb itself has to report."""


class NoInstances(P2PError):
    """No instance can serve the call; the text says what was looked for, where, and why nobody was found."""


class MissingKey(P2PError, ValueError):
    """A call has no key, and the strategy of its service was told that each has one (`without_key="error"`)."""


class DiscoveryError(P2PError):
    """The registry can't be reached, refuses us, or holds nonsense."""


class RegistrationError(P2PError):
    """A registration has failed in a way that waiting can't heal."""
