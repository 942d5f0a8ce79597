"""A Pushgateway that notes what is pushed and can do something in the middle of a push."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gateway:
    """What was pushed.

    Attributes:
        pushes: Path and text of each push.
        during: Called with the path of each push, before it is answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.pushes: list[tuple[str, str]] = []
        self.during: Callable[[str], None] | None = None

    def ends(self, run: str) -> list[tuple[str, float]]:
        """Pipelines that an end of this run was told of, and whether as a failure."""
        pattern = rf'tutorloop_run_failed{{pipeline="([^"]+)",run="{re.escape(run)}"}} (\S+)'
        return [(found[1], float(found[2])) for _, text in self.pushes for found in [re.search(pattern, text)] if found]


@contextlib.contextmanager
def serving() -> Iterator[Gateway]:
    """Run it."""
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_PUT(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            gateway.pushes.append((self.path, text))
            if gateway.during:
                gateway.during(self.path)
            self._answer(b"")

        do_POST = do_PUT

        def do_GET(self) -> None:
            self._answer(b'{"status": "success", "data": []}')

        def _answer(self, data: bytes) -> None:
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
