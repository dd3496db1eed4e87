"""A service that does nothing but say that it is ready: `fake_service.py <name> <port> [<how>]`.

It notes when it starts and stops in the file FAKE_JOURNAL. `how`: `stubborn` ignores SIGTERM, `fails` exits at once,
`hopeless` exits with the code that means that starting again is no use, `silent` never becomes ready.
"""

import http.server
import os
import signal
import sys
from pathlib import Path


def main(name: str, port: int, how: str = "") -> int:
    note(f"start {name} {os.getpid()}")
    if how in {"fails", "hopeless"}:
        sys.stdout.write(f"{name} cannot find its trousers\n")
        return 78 if how == "hopeless" else 3
    signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "stubborn" else lambda *_: leave(name))
    if how == "silent":
        signal.pause()
    http.server.HTTPServer(("127.0.0.1", port), Ready).serve_forever()
    return 0


def leave(name: str) -> None:
    note(f"stop {name}")
    os._exit(0)


def note(line: str) -> None:
    if "FAKE_JOURNAL" in os.environ:
        with Path(os.environ["FAKE_JOURNAL"]).open("a") as journal:
            journal.write(f"{line}\n")


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
