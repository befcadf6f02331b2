"""Certificates for tests: an authority made on the spot, contexts for servers that it vouches for and for clients."""

import ssl

import trustme


class Authority:
    """An authority that nobody else trusts."""

    def __init__(self) -> None:
        self.ca = trustme.CA()

    def server(self, *names: str, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
        """Return the context of a server that may call itself so."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(list(alpn))
        return context

    def client(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        return context
