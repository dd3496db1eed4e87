"""Whether the service on this port says that it is ready, as an exit code: `python -m deploy.healthy <port>`, in containers."""

import http.client
import sys
from typing import Final

SECONDS: Final = 4.0


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(sys.argv[1])) else 1)
