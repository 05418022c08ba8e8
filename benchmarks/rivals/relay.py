"""A relay on the loopback interface that counts what two parties send each other."""

from __future__ import annotations

import socket
import threading


class Relay:
    """Passes connections to its `port` on to another one, and counts the bytes of both directions in `counted`."""

    def __init__(self, onward: int) -> None:
        self.counted = 0
        self._onward = onward
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                incoming, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                outgoing = socket.create_connection(("127.0.0.1", self._onward))
            except ConnectionError:
                incoming.close()  # the party does not listen yet; the other one tries again
                continue
            for source, target in ((incoming, outgoing), (outgoing, incoming)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                with self._lock:
                    self.counted += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one side has ended
