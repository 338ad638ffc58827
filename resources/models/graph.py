"""ONNX graphs as they are stored: canonical bytes, with the outputs, types and shapes of the estimator.

Converters name outputs as they like, wrap probabilities in maps, and declare shapes that are not true. Here each output
is recognised by its values: it is the estimator's method that returns the same for the same rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ml_assets.resources.models.outputs import PREDICTIONS, PROBABILITIES, SCORES, Array, is_close

__all__ = ["FEATURES", "ONNX_FILE", "OPSETS", "canonical", "open_session", "with_outputs"]

ONNX_FILE: Final = "model.onnx"
FEATURES: Final = "features"
# Every ONNX Runtime of recent years reads both; fixed here, so that a converter's own choice changes no bytes.
OPSETS: Final = {"": 18, "ai.onnx.ml": 3}
# ONNX Runtime's default for text, en_US.UTF-8, is missing in slim images. This one is a part of the C library.
_LOCALE: Final = b"C.UTF-8"
_NUMPY: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(string)": np.dtype(np.object_),
}


def open_session(content: bytes) -> Any:
    """Return a session of ONNX Runtime with one thread, so that the order of additions is fixed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def with_outputs(
    model: Any,
    feed: Callable[[list[np.dtype[Any]]], list[Array]],
    expected: Mapping[str, Array],
    columns: Sequence[str],
) -> bytes:
    """Return a converted model as canonical bytes with the outputs of its estimator.

    Args:
        model: an ONNX model; this changes it.
        feed: returns rows for inputs of these types, in their order.
        expected: the estimator's outputs for these rows. ``predictions`` is always an output of the result, others are
            if the model has them.
        columns: names for its inputs, if there is one for each column.
    """
    _remove_maps(model.graph)
    _set_locale(model.graph)
    for output in model.graph.output:
        output.ClearField("type")  # converters declare some doubles as floats; ONNX Runtime infers the true type
    session = open_session(model.SerializeToString())
    inputs = [spec.name for spec in session.get_inputs()]
    arrays = feed([_NUMPY[spec.type] for spec in session.get_inputs()])
    found = [output.name for output in session.get_outputs()]
    values = dict(zip(found, session.run(found, dict(zip(inputs, arrays, strict=True))), strict=True))
    chosen = list(_chosen({name: array for name, array in values.items() if isinstance(array, np.ndarray)}, expected))
    renamed = {} if inputs == [FEATURES] else dict(zip(inputs, columns, strict=True))
    _set_outputs(model.graph, chosen, renamed)
    if all(each.domain for each in model.opset_import):
        model.opset_import.add(domain="", version=OPSETS[""])
    return canonical(model)


def canonical(model: Any) -> bytes:
    """Return an ONNX model without the names of the program and file that it came from."""
    import onnx

    for field in ("producer_name", "producer_version", "doc_string", "domain"):
        model.ClearField(field)
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        part.ClearField("metadata_props")
        if part is not model:
            part.ClearField("doc_string")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class _Chosen:
    """An output of the graph as the estimator's output of a name."""

    name: str
    source: str
    found: Array
    expected: Array
    steps: tuple["_Step", ...] = ()
    """Operators that turn the first into the second; `found` is their result."""

    @property
    def converted(self) -> str:
        """Return the name of the value before the steps."""
        return f"{self.name}_converted" if self.steps else self.name

    @property
    def fits(self) -> bool:
        same_shape = self.found.size == self.expected.size
        return same_shape and bool(is_close(self.name, self.expected, self.found.reshape(self.expected.shape)).all())


@dataclass(frozen=True)
class _Step:
    operator: str
    constant: Array | None
    attributes: Mapping[str, Any]


def _chosen(values: dict[str, Array], expected: Mapping[str, Array]) -> Iterator[_Chosen]:
    left = dict(values)
    for name in (PREDICTIONS, PROBABILITIES, *SCORES):
        if name not in expected or not left:
            continue
        candidates = list(_candidates(name, left, expected[name]))
        fitting = [each for each in candidates if each.fits]
        if not fitting and name in SCORES:
            continue
        # Without an equal output, the first is taken, and the comparison with the estimator reports the difference.
        best = (fitting or candidates)[0]
        del left[best.source]
        yield best


def _candidates(name: str, values: dict[str, Array], expected: Array) -> Iterator[_Chosen]:
    for source, found in values.items():
        yield _stepped(name, source, found, expected)
    for source, found in values.items():
        if expected.ndim == 1 and found.shape == (len(expected), 2):
            second = _Step("Gather", np.array(1, np.int64), {"axis": 1})
            yield _stepped(name, source, found[:, 1], expected, second)


def _stepped(name: str, source: str, found: Array, expected: Array, *steps: _Step) -> _Chosen:
    """Return an output with the steps to the estimator's shape and kind of type."""
    from onnx import helper

    # The server flattens a single column of predictions where the signature has a list.
    is_column = name == PREDICTIONS and expected.ndim == 1 and found.shape == (len(expected), 1)
    if found.size == expected.size and found.shape != expected.shape and not is_column:
        steps = (*steps, _Step("Reshape", np.array([-1, *expected.shape[1:]], np.int64), {}))
        found = found.reshape(expected.shape)
    if found.dtype.kind != expected.dtype.kind and {found.dtype.kind, expected.dtype.kind} <= set("bif"):
        found = found.astype({"b": np.bool_, "i": np.int64, "f": np.float32}[expected.dtype.kind])
        steps = (*steps, _Step("Cast", None, {"to": helper.np_dtype_to_tensor_dtype(found.dtype)}))
    return _Chosen(name, source, found, expected, steps)


def _set_outputs(graph: Any, chosen: list[_Chosen], inputs: dict[str, str]) -> None:
    """Make the chosen values the graph's outputs, and rename its inputs."""
    from onnx import helper, numpy_helper

    del graph.output[:]
    _rename(graph, _new_names(graph, chosen, inputs))
    for each in chosen:
        value = each.converted
        for number, step in enumerate(each.steps):
            given, result = [value], each.name if step is each.steps[-1] else f"{each.converted}_{number}"
            if step.constant is not None:
                given.append(f"{each.name}_{step.operator.lower()}")
                graph.initializer.append(numpy_helper.from_array(step.constant, given[-1]))
            graph.node.append(helper.make_node(step.operator, given, [result], **step.attributes))
            value = result
        kind = _onnx_type(each.found)
        graph.output.append(helper.make_tensor_value_info(each.name, kind, [None, *each.found.shape[1:]]))


def _onnx_type(array: Array) -> int:
    """Return ONNX's number of an array's type."""
    from onnx import TensorProto, helper

    return TensorProto.STRING if array.dtype.kind in "OUS" else int(helper.np_dtype_to_tensor_dtype(array.dtype))


def _new_names(graph: Any, chosen: list[_Chosen], inputs: dict[str, str]) -> dict[str, str]:
    """Return new names by old: of outputs and inputs, and of inner values that already have one of these names."""
    outputs = {each.name for each in chosen}
    names = {each.source: each.converted for each in chosen}
    used = set(_names(graph))
    for old, new in inputs.items():
        while not new or new in outputs or new in names.values():
            new += "_"
        names[old] = new
    for clash in sorted((outputs | set(names.values())) & used - names.keys()):
        new = f"{clash}_inner"
        while new in used or new in names.values():
            new += "_"
        names[clash] = new
    return names


def _names(graph: Any) -> Iterator[str]:
    for each in (*graph.input, *graph.initializer):
        yield each.name
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _subgraphs(node):
            yield from _names(inner)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        each.name = names.get(each.name, each.name)
    for node in graph.node:
        for place in (node.input, node.output):
            place[:] = [names.get(name, name) for name in place]
        for inner in _subgraphs(node):
            _rename(inner, names)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs


def _remove_maps(graph: Any) -> None:
    """Replace outputs that are lists of maps from label to probability by the matrix of probabilities."""
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        for output in graph.output:
            if output.name == node.output[0]:
                output.name = node.input[0]
        graph.node.remove(node)


def _set_locale(graph: Any) -> None:
    import onnx

    for node in graph.node:
        if node.op_type == "StringNormalizer" and all(each.name != "locale" for each in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("locale", _LOCALE))
