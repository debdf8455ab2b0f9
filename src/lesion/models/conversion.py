"""The stored tensors that transformers makes a model's parameters from, without loading any.

The names follow from transformers' conversion rules. Only operations that move weights are
followed: stacking, joining, splitting and transposing. A parameter that is made in another way has
no known position in the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Chunk,
    Concatenate,
    MergeModulelist,
    Transpose,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from lesion.models.candidates import auto_class
from lesion.models.files import stored_tensors
from lesion.models.parts import Part, Shape, covers, unchanged_part


class _Grid(NamedTuple):
    """A tensor between the files and the model: its shape and its parts."""

    shape: Shape
    parts: tuple[Part, ...]


class _Unknown(Exception):
    """An operation that does more than move weights."""


def empty_model(folder: Path) -> PreTrainedModel:
    """A checkpoint's model on the meta device, which has names and shapes but no weights.

    Raises:
        ValueError, KeyError, OSError, ImportError: transformers does not know the architecture.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # Not accelerate's empty weights, because those untie tied weights.
    with torch.device("meta"):
        model: PreTrainedModel = auto_class(config).from_config(config, trust_remote_code=False)
    return model


def stored_parts(model: PreTrainedModel, folder: Path) -> dict[str, tuple[Part, ...]]:
    """The parts of each parameter in the folder's safetensors files.

    The model may be on the meta device. Parameters that are not stored, or that loading changes,
    are left out.
    """
    stored = {name: entry.shape for name, (_, entry) in stored_tensors(folder).items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        name: grid.parts
        for name, grid in _loaded_grids(model, stored, wanted).items()
        if grid and grid.shape == wanted.get(name) and covers(grid.parts, grid.shape)
    }


def _loaded_grids(
    model: PreTrainedModel, stored: Mapping[str, Shape], wanted: dict[str, Shape]
) -> dict[str, _Grid | None]:
    """The result of loading the stored tensors, by name; None if it is unknown or ambiguous.

    The order and the rules are those of transformers' `convert_and_load_state_dict_in_model`.
    """
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    prefix = model.base_model_prefix
    loaded: dict[str, _Grid | None] = {}
    collected: dict[str, tuple[WeightConverter, dict[str, list[_Grid]]]] = {}
    for name in sorted(stored, key=dot_natural_key):
        grid = _Grid(stored[name], (unchanged_part(name, stored[name]),))
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, wanted)
        if renamed not in wanted and name in wanted:
            renamed, pattern = rename_source_key(name, [], [], prefix, wanted)
        if pattern is None:
            loaded[renamed] = None if renamed in loaded else grid
        elif renamed in wanted:
            by = next(converter for converter in converters if pattern in converter.source_patterns)
            collected.setdefault(renamed, (by, {}))[1].setdefault(pattern, []).append(grid)
    for target, (converter, grids) in collected.items():
        for name, converted in _converted(converter, target, grids, model).items():
            loaded[name] = None if name in loaded else converted
    return loaded


def _converted(
    converter: WeightConverter, target: str, grids: dict[str, list[_Grid]], model: PreTrainedModel
) -> dict[str, _Grid | None]:
    """Parameters by name, with the names of `WeightConverter.convert`."""
    state: Mapping[str, list[_Grid]] = grids
    try:
        for operation in converter.operations:
            state = _step(operation, state, converter, target, model)
    except _Unknown:
        return dict.fromkeys(
            target.replace(converter.target_patterns[0], pattern)
            for pattern in converter.target_patterns
        )
    start, _, end = next(
        (target.partition(key) for key in state if key in target), (target, "", "")
    )
    return {start + key + end: each[0] if len(each) == 1 else None for key, each in state.items()}


def _step(
    operation: Any,
    state: Mapping[str, list[_Grid]],
    converter: WeightConverter,
    target: str,
    model: PreTrainedModel,
) -> dict[str, list[_Grid]]:
    """The result of one operation, with transformers' names."""
    sources, targets = converter.source_patterns, converter.target_patterns
    kind = type(operation)
    if kind is MergeModulelist:
        _require(len(state) > 1 or len(targets) == 1)
        return {
            targets[0] if len(state) == 1 else key: [_stacked(each, operation.dim)]
            for key, each in state.items()
        }
    if kind is Concatenate:
        _require(len(targets) == 1 and operation.num_shards_attribute is None)
        each = [grid for key in sources for grid in state.get(key, [])]
        return {targets[0]: [_joined(each, operation.dim)]}
    _require(len(state) == 1)
    ((_, each),) = state.items()
    _require(len(each) == 1)
    (grid,) = each
    if kind is Transpose:
        _require(len(targets) == 1 or len(sources) == 1)
        same = operation.check_dims and grid.shape == tuple(model.get_parameter(target).shape)
        key = sources[0] if len(targets) > 1 else targets[0]
        return {key: [grid if same else _turned(grid, operation.dim0, operation.dim1)]}
    _require(kind is Chunk and operation.num_shards_attribute is None)
    pieces = _cut(grid, len(targets), operation.dim)
    return {key: [piece] for key, piece in zip(targets, pieces, strict=True)}


def _require(condition: bool) -> None:
    if not condition:
        raise _Unknown


def _stacked(each: Sequence[_Grid], dim: int) -> _Grid:
    shape = each[0].shape
    _require(0 <= dim <= len(shape) and all(grid.shape == shape for grid in each))
    parts = [
        part._replace(
            size=(*part.size[:dim], 1, *part.size[dim:]),
            at=(*part.at[:dim], index, *part.at[dim:]),
            axes=(*part.axes[:dim], None, *part.axes[dim:]),
        )
        for index, grid in enumerate(each)
        for part in grid.parts
    ]
    return _Grid((*shape[:dim], len(each), *shape[dim:]), tuple(parts))


def _joined(each: Sequence[_Grid], dim: int) -> _Grid:
    shape = each[0].shape
    _require(0 <= dim < len(shape) and all(len(grid.shape) == len(shape) for grid in each))
    _require(all(_with(grid.shape, dim, 0) == _with(shape, dim, 0) for grid in each))
    parts: list[Part] = []
    length = 0
    for grid in each:
        parts += [
            part._replace(at=_with(part.at, dim, part.at[dim] + length)) for part in grid.parts
        ]
        length += grid.shape[dim]
    return _Grid(_with(shape, dim, length), tuple(parts))


def _turned(grid: _Grid, left: int, right: int) -> _Grid:
    order = list(range(len(grid.shape)))
    _require(0 <= left < len(order) and 0 <= right < len(order))
    order[left], order[right] = right, left
    parts = [
        part._replace(
            size=tuple(part.size[axis] for axis in order),
            at=tuple(part.at[axis] for axis in order),
            axes=tuple(part.axes[axis] for axis in order),
        )
        for part in grid.parts
    ]
    return _Grid(tuple(grid.shape[axis] for axis in order), tuple(parts))


def _cut(grid: _Grid, count: int, dim: int) -> Iterator[_Grid]:
    _require(0 <= dim < len(grid.shape) and grid.shape[dim] % count == 0)
    length = grid.shape[dim] // count
    for number in range(count):
        first = number * length
        parts: list[Part] = []
        for part in grid.parts:
            # The intersection of the part with this range, relative to the range's beginning.
            begin = max(part.at[dim], first)
            size = min(part.at[dim] + part.size[dim], first + length) - begin
            if size <= 0:
                continue
            origin, axis, skipped = part.begin, part.axes[dim], begin - part.at[dim]
            if axis is not None:
                origin = _with(origin, axis, origin[axis] + skipped)
            at = _with(part.at, dim, begin - first)
            parts.append(part._replace(size=_with(part.size, dim, size), at=at, begin=origin))
        yield _Grid(_with(grid.shape, dim, length), tuple(parts))


def _with(sizes: Shape, dim: int, value: int) -> Shape:
    """The same sizes or positions with another one for an axis."""
    return (*sizes[:dim], value, *sizes[dim + 1 :])
