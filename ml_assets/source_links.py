"""Links from assets in the Dagster UI to the code that makes them."""

import inspect
import warnings
from pathlib import Path

import dagster as dg

from ml_assets.artifacts.io_manager import KIND_METADATA
from ml_assets.resources.errors import SourceError
from ml_assets.resources.git.source import BAKED_SOURCE, read_source
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["with_source_links"]

_CODE_REFERENCES = "dagster/code_references"


def with_source_links(definitions: dg.Definitions, root: Path) -> dg.Definitions:
    """Return the definitions, with a link from each asset to its source: the author's function, or the Dockerfile.

    In a clean checkout of a repository on GitHub or GitLab, the link leads to the line at the commit; otherwise to the
    file on this machine. An asset that already has code references keeps them.

    Args:
        definitions: any assets, including those of the factories.
        root: the project's folder. The links lead to the repository that contains it.
    """
    top = next((f for f in (root, *root.parents) if (f / ".git").exists() or (f / BAKED_SOURCE).is_file()), root)
    pages = _file_pages(root)

    def referred(spec: dg.AssetSpec) -> dg.AssetSpec:
        place = places.get(spec.key)
        if place is None or _CODE_REFERENCES in spec.metadata:
            return spec
        return spec.merge_attributes(metadata={_CODE_REFERENCES: _reference(*place, top, pages)})

    places = {
        key: place
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition) and (place := _defined_at(asset, root))
        for key in asset.keys
    }
    return definitions.permissive_map_resolved_asset_specs(referred, selection=None)


def _file_pages(root: Path) -> str | None:
    """Return the base address of the commit's files, if the checkout is clean and its host is known."""
    try:
        source = read_source(root)
    except SourceError:
        # The next materialization reports the error; until then the definitions still load.
        return None
    page = source.repository_page
    if page is None or source.commit is None or source.dirty:
        return None
    host = page.split("/")[2]
    if "github" in host:
        return f"{page}/blob/{source.commit}"
    return f"{page}/-/blob/{source.commit}" if "gitlab" in host else None


def _defined_at(asset: dg.AssetsDefinition, root: Path) -> tuple[Path, int | None] | None:
    """Return the file and line of the asset's source; None if no code of its own makes it."""
    node = asset.node_def if asset.is_executable else None
    compute = getattr(node, "compute_fn", None)
    function = getattr(compute, "decorated_fn", None) or getattr(node, "composition_fn", None)
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None
    if function is None or code is None:
        return None
    if any(metadata.get(KIND_METADATA) == ArtifactKind.IMAGE for metadata in asset.metadata_by_key.values()):
        return root / function().dockerfile, None
    return Path(code.co_filename), code.co_firstlineno


def _reference(file: Path, line: int | None, top: Path, pages: str | None) -> dg.CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # Marked as beta, but Dagster's documentation recommends them for this purpose.
        warnings.simplefilter("ignore", dg.BetaWarning)
        if pages and file.is_relative_to(top):
            url = f"{pages}/{file.relative_to(top).as_posix()}{f'#L{line}' if line else ''}"
            return dg.CodeReferencesMetadataValue(code_references=[dg.UrlCodeReference(url=url)])
        local = dg.LocalFileCodeReference(file_path=str(file), line_number=line)
        return dg.CodeReferencesMetadataValue(code_references=[local])
