"""The log of deletions by `ml-assets gc`, stored in Dagster's own database."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from ml_assets.lineage.graph import Node
from ml_assets.resources.errors import ContentMissing, MlAssetsError
from ml_assets.resources.identity import ImageReference
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["DeletionLog", "explain_missing", "kept_version"]

_KEY: Final = "ml_assets/collected/"


class DeletionLog:
    """Deletion times of the versions and images of an instance.

    Args:
        instance: the instance whose materializations refer to them.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._storage: Any = instance.daemon_cursor_storage

    def add(self, versions: Iterable[str], moment: datetime) -> None:
        """Record versions as deleted, before the deletion begins.

        Args:
            versions: DVC hashes (``md5:…``) and image digests (``sha256:…``).
            moment: the current time, in UTC.
        """
        pages = defaultdict[str, list[str]](list)
        for version in versions:
            pages[_page(version)].append(version)
        if pages:
            known = self._read(pages)
            now = moment.isoformat()
            new = {page: {**known.get(page, {}), **dict.fromkeys(added, now)} for page, added in pages.items()}
            self._storage.set_cursor_values({page: json.dumps(entries) for page, entries in new.items()})

    def find(self, versions: Iterable[str]) -> dict[str, datetime]:
        """Return the deletion times of the versions that were deleted. They may have been stored again since."""
        wanted = set(versions)
        entries = self._read({_page(version) for version in wanted})
        return {
            version: datetime.fromisoformat(page[version]).astimezone(UTC)
            for page in entries.values()
            for version in wanted & page.keys()
        }

    def _read(self, pages: Iterable[str]) -> dict[str, Mapping[str, str]]:
        found = self._storage.get_cursor_values(set(pages))
        return {page: json.loads(text) for page, text in found.items()}


def explain_missing(error: MlAssetsError, version: str, instance: dg.DagsterInstance) -> MlAssetsError:
    """Return the error for content that could not be fetched. If `ml-assets gc` deleted the content, the error says so.

    Args:
        error: error raised by the store.
        version: DVC hash of the content, as ``md5:…``.
        instance: instance whose materialization refers to it.
    """
    moment = DeletionLog(instance).find([version]).get(version) if isinstance(error, ContentMissing) else None
    if moment is None:
        return error
    return ContentMissing(
        f"ml-assets gc deleted the content {version} on {moment:%Y-%m-%d at %H:%M}Z",
        next_step="materialize the asset again, or restore the content from a backup of the remote",
    )


def kept_version(node: Node) -> str | None:
    """Return the version under which a node's content or image is stored; None if this project does not store it."""
    if node.kind is ArtifactKind.IMAGE:
        return str(ImageReference.parse(node.image).digest) if node.image else None
    version = node.content_version or node.data_version
    return version if version and version.startswith("md5:") else None


def _page(version: str) -> str:
    # One page for each two-digit prefix keeps reads and writes small.
    return f"{_KEY}{version.partition(':')[2][:2]}"
