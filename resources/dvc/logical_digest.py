"""The digest of a table's values, whatever version of the Parquet library wrote its file.

Two files with the same digest hold the same columns in the same order, with the same types, missing values and values.
The data version remains the digest of the file, because that is what is stored and verified.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_assets.resources.identity import Digest

__all__ = ["logical_digest"]


def logical_digest(path: Path) -> Digest | None:
    """Return the digest of a Parquet file's table; None if a column has a type for which no form is defined."""
    from pyarrow import ArrowNotImplementedError, parquet

    table = parquet.ParquetFile(path).read().unify_dictionaries()
    notes = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = [name if isinstance(name, str) else name["kind"] for name in notes.get("index_columns", ())]
    labels = [each["pandas_type"] for each in notes.get("column_indexes", ())]
    digest = hashlib.sha256(json.dumps([table.num_rows, table.column_names, index, labels]).encode())
    try:
        for column in table.columns:
            _add(digest, column.type, column.chunks)
    except ArrowNotImplementedError:
        return None
    return Digest("sha256", digest.hexdigest())


def _add(digest: Any, kind: Any, chunks: Sequence[Any]) -> None:
    """Add type, missing values, lengths and values of the chunks of one column, as if they were one chunk."""
    from pyarrow import compute, list_, struct, types

    digest.update(f"{_name(kind)} {sum(map(len, chunks))};".encode())
    missing = any(chunk.null_count for chunk in chunks)
    digest.update(b"some" if missing else b"none")
    if missing:
        _add_bits(digest, [chunk.is_valid() for chunk in chunks])
    if types.is_dictionary(kind):
        _add(digest, kind.value_type, [chunk.dictionary for chunk in chunks[:1]])
        _add_fixed(digest, [chunk.indices.cast("int64") for chunk in chunks])
    elif types.is_struct(kind):
        fields = [chunk.flatten() for chunk in chunks]
        for place, field in enumerate(kind):
            digest.update(field.name.encode())
            _add(digest, field.type, [each[place] for each in fields])
    elif types.is_map(kind):
        pairs = list_(struct([("key", kind.key_type), ("value", kind.item_type)]))
        _add(digest, pairs, [chunk.cast(pairs) for chunk in chunks])
    elif types.is_nested(kind):
        _add_fixed(digest, [compute.list_value_length(chunk).cast("int64") for chunk in chunks])
        _add(digest, kind.value_type, [chunk.flatten() for chunk in chunks])
    elif _has_length(kind):
        _add_fixed(digest, [compute.binary_length(chunk).cast("int64") for chunk in chunks])
        for chunk in chunks:
            # Missing values may leave bytes of their own.
            digest.update(_bytes(chunk.drop_null()))
    elif types.is_boolean(kind):
        _add_bits(digest, [chunk.fill_null(False) for chunk in chunks])
    elif not types.is_null(kind):
        _add_fixed(digest, chunks)


def _name(kind: Any) -> str:
    """Return the name of a type, without parts that only say how its values lie in memory, and without field names."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return f"dictionary {kind.ordered}"
    if types.is_nested(kind):
        return type(kind).__name__.removeprefix("Large")
    return str(kind).replace("large_", "").removesuffix("_view")


def _has_length(kind: Any) -> bool:
    return str(kind).replace("large_", "").removesuffix("_view") in ("string", "binary")


def _add_bits(digest: Any, chunks: Sequence[Any]) -> None:
    import numpy

    bits = [chunk.to_numpy(zero_copy_only=False) for chunk in chunks]
    digest.update(numpy.packbits(numpy.concatenate(bits) if bits else numpy.empty(0, "bool")).tobytes())


def _add_fixed(digest: Any, chunks: Sequence[Any]) -> None:
    """Add the values of fixed width, each missing one as zeros."""
    import numpy

    for chunk in chunks:
        if not len(chunk):
            continue
        width = chunk.type.bit_width // 8
        held = numpy.frombuffer(chunk.buffers()[1], "uint8")[chunk.offset * width :][: len(chunk) * width]
        if chunk.null_count:
            valid = chunk.is_valid().to_numpy(zero_copy_only=False)
            held = held.reshape(-1, width) * valid[:, None]
        digest.update(numpy.ascontiguousarray(held))


def _bytes(chunk: Any) -> Any:
    """Return the bytes of all values of text or binary type, one after the other."""
    import numpy
    from pyarrow import binary, large_binary, types

    chunk = chunk.cast(
        large_binary() if types.is_large_string(chunk.type) or types.is_large_binary(chunk.type) else binary()
    )
    offsets = chunk.buffers()[1]
    if not len(chunk) or offsets is None:
        return b""
    size = "int64" if types.is_large_binary(chunk.type) else "int32"
    places = numpy.frombuffer(offsets, size)[chunk.offset : chunk.offset + len(chunk) + 1]
    return chunk.buffers()[2][places[0] : places[-1]] if chunk.buffers()[2] is not None else b""
