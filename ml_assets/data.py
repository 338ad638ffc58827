"""Finding the content of an artifact by its asset key and version, for people at a shell."""

import dagster as dg

from resources.errors import AmbiguousReference, InputError, UnknownReference
from resources.identity import AssetPartition
from resources.provenance import RECORD_METADATA, Content, ProvenanceRecord

__all__ = ["find_record", "stored_content"]

_SHOWN = 12


def find_record(instance: dg.DagsterInstance, reference: str) -> ProvenanceRecord:
    """The record that ``ASSET``, ``ASSET@PARTITION`` or ``ASSET@VERSION`` names: the latest one that fits.

    A version is ``md5:…`` or ``sha256:…``, or the beginning of its hexadecimal digits.

    Raises:
        UnknownReference: no materialization fits.
        AmbiguousReference: the asset is partitioned and nothing says which, or a shortened version fits several.
    """
    wanted = _parse(reference)
    records = _records(instance, wanted.asset)
    if not records:
        raise UnknownReference(
            f"{wanted.asset} has no materialization with a provenance record",
            next_step="list what there is with: dagster asset list -m ml_assets.definitions",
        )
    fitting = [record for record in records if _fits(record, wanted.partition)]
    if not fitting:
        known = _several([record.partition or record.data_version for record in records])
        raise UnknownReference(
            f"{wanted.asset} has no partition or version {wanted.partition}", next_step=f"take one of: {known}"
        )
    named = {record.partition if wanted.partition is None else record.data_version for record in fitting}
    if len(named) > 1 and not any(record.partition == wanted.partition for record in fitting):
        raise AmbiguousReference(
            f"{reference} fits {len(named)} of its materializations",
            next_step=f"name one of: {_several([f'{wanted.asset}@{name}' for name in sorted(map(str, named))])}",
        )
    return fitting[0]


def stored_content(record: ProvenanceRecord) -> Content:
    """The content of a record.

    Raises:
        InputError: it is an image, whose content is in a registry.
    """
    if record.content is None:
        raise InputError(
            "it is an image, which has no content in the DVC remote",
            next_step="fetch it from its registry",
            asset=record.asset,
        )
    return record.content


def _parse(reference: str) -> AssetPartition:
    try:
        return AssetPartition.parse(reference)
    except ValueError as error:
        raise UnknownReference(str(error), next_step="write ASSET, ASSET@PARTITION or ASSET@VERSION") from error


def _records(instance: dg.DagsterInstance, asset: str) -> list[ProvenanceRecord]:
    key, cursor, records = dg.AssetKey.from_user_string(asset), None, []
    while True:
        page = instance.fetch_materializations(key, limit=500, cursor=cursor)
        for event in page.records:
            materialization = event.asset_materialization
            value = materialization.metadata.get(RECORD_METADATA) if materialization else None
            if isinstance(value, dg.JsonMetadataValue):
                records.append(ProvenanceRecord.model_validate(value.data))
        if not page.has_more:
            return records
        cursor = page.cursor


def _fits(record: ProvenanceRecord, wanted: str | None) -> bool:
    if wanted is None or wanted in (record.partition, record.data_version):
        return True
    return len(wanted) >= 6 and record.data_version.partition(":")[2].startswith(wanted.rpartition(":")[2])


def _several(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more
