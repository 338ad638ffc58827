"""skops files whose bytes depend only on the estimator."""

import io
import json
import zipfile
from typing import Any

__all__ = ["canonical_skops"]


def canonical_skops(content: bytes) -> bytes:
    """Return the same skops file with objects numbered in order of appearance, without times and skops version."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop("schema.json"))
    del schema["_skops_version"]
    names = _Renumbering()
    names.apply(schema)
    members = {names.file(name): member for name, member in members.items()}
    members["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    canonical = io.BytesIO()
    with zipfile.ZipFile(canonical, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name])
    return canonical.getvalue()


class _Renumbering:
    """Replaces the memory addresses in skops's object and file names with 1, 2, 3, … in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def file(self, name: str) -> str:
        address, dot, suffix = name.partition(".")
        return f"{self._number(address)}{dot}{suffix}"

    def apply(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self.apply(item)
        if not isinstance(node, dict):
            return
        loader = node.get("__loader__")
        if "__id__" in node and loader == "JsonNode":
            # Python decides whether two equal constants are one object; this is not part of the model.
            del node["__id__"]
        elif "__id__" in node:
            node["__id__"] = self._number(str(node["__id__"]))
        if isinstance(node.get("file"), str) and loader:
            node["file"] = self.file(node["file"])
        if loader == "SetNode":
            node["content"].sort(key=lambda item: str(item.get("content")))
        for value in node.values():
            self.apply(value)

    def _number(self, address: str) -> int:
        return self._numbers.setdefault(address, len(self._numbers) + 1)
