"""``python -m ml_assets.serving``: serve the model that ``ML_ASSETS_SERVE_MODEL`` names."""

import sys

from ml_assets.resources.errors import MlAssetsError
from ml_assets.resources.extras import require


def main() -> None:
    """Serve until a signal stops the process."""
    try:
        require("httptools", "orjson", "prometheus_client", "uvloop", extra="serve")
        from ml_assets.serving.logs import set_up_logging
        from ml_assets.serving.settings import load_serve_settings
        from ml_assets.serving.supervisor import supervise

        set_up_logging(process="supervisor")
        supervise(load_serve_settings())
    except MlAssetsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
