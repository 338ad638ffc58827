"""Fixtures of image build tests, for tests whose builder is on the cluster."""

from tests.containers.conftest import base, project

__all__ = ["base", "project"]
