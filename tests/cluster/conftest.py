"""What tests of image builds need, for those whose builder is on the cluster."""

from tests.containers.conftest import base, project

__all__ = ["base", "project"]
