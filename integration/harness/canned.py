"""A server that answers every connection with the same bytes, piece by piece: for answers that no real server gives."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def canned(pieces: Iterable[bytes], *, pause: float = 0.0, linger: float = 0.0) -> Iterator[str]:
    """Serve these pieces, with a pause after each, then wait `linger` seconds and close; yields the origin."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, tuple(pieces), pause, linger, over))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(
    server: socket.socket, pieces: tuple[bytes, ...], pause: float, linger: float, over: threading.Event
) -> None:
    while not over.is_set():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                _answer(connection, pieces, pause, over)
                over.wait(linger)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):  # closing with something unread would be a reset
                    pass


def _answer(connection: socket.socket, pieces: tuple[bytes, ...], pause: float, over: threading.Event) -> None:
    connection.recv(65_536)
    for piece in pieces:
        if over.is_set():
            return
        connection.sendall(piece)
        time.sleep(pause)
