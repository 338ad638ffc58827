"""``python -m ml_assets.serving.health``: exit with 0 if the server here is ready (or alive, with ``--live``)."""

import http.client
import sys

from ml_assets.resources.errors import MlAssetsError
from ml_assets.serving.settings import load_serve_settings

__all__ = ["main"]

_ANY = ("0.0.0.0", "::", "")  # noqa: S104  for comparison only, no socket binds to it


def main() -> None:
    """Request the health of the server on this machine, print the response and exit with its status."""
    page = "/v2/health/live" if "--live" in sys.argv[1:] else "/v2/health/ready"
    try:
        settings = load_serve_settings()
        host = "localhost" if settings.host in _ANY else settings.host
        connection = http.client.HTTPConnection(host, settings.port, timeout=5)
        connection.request("GET", page, headers={"Connection": "close"})
        answer = connection.getresponse()
        print(answer.read().decode(errors="replace"))
        sys.exit(answer.status != 200)
    except (MlAssetsError, OSError, http.client.HTTPException) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
