"""Images for several platforms, as configured in the settings."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from ml_assets.resources.settings import load_settings
from ml_assets.target import Target
from tests.containers.ground import Ground
from tests.containers.small_project import Project
from tests.containers.train_image import image_variables

PLATFORMS = ["linux/amd64", "linux/arm64"]
PROJECT = Path(__file__).parents[2]


def test_image_is_built_for_every_platform_of_the_settings(project: Project, ground: Ground, buildkitd: str) -> None:
    """The image only copies files: instructions for another architecture need an emulator."""
    (project.root / "Dockerfile").write_text("FROM scratch AS environment\nFROM environment AS code\nCOPY app /app\n")
    shutil.copytree(PROJECT / "deployments", project.root / "deployments")
    variables = {
        "ML_ASSETS_TARGET": "kubernetes",
        **image_variables(ground),
        "ML_ASSETS__IMAGES__PREFIX": project.options.prefix,
        "ML_ASSETS__IMAGES__BUILDX": f"tests-{project.options.prefix.rpartition('/')[2]}",
        "ML_ASSETS__IMAGES__ENDPOINT": buildkitd,
        "ML_ASSETS__IMAGES__PLATFORMS": str(PLATFORMS),
    }
    target = Target(load_settings(variables, project.root))
    try:
        built = target.image_builder.build(replace(project.spec, bases={}), print)
    finally:
        subprocess.run(["docker", "buildx", "rm", str(target.settings.images.buildx)], capture_output=True, check=False)
    assert built.image is not None
    published = project.client.find(f"{built.image.registry}/{built.image.repository}@{built.index_digest}")
    assert published is not None
    assert set(published.platforms) == set(PLATFORMS)
    assert published.platforms[PLATFORMS[0]] == built.image.digest
