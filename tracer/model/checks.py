"""Checks before anything of size is fetched or loaded: access to every repository, and whether a set fits a model."""

import re
from dataclasses import replace
from pathlib import Path

from tracer.errors import ModelError
from tracer.model.architectures import checkpoint_facts
from tracer.model.hub import file_names
from tracer.model.hub_reference import HubReference
from tracer.model.readers.circuit_tracer import listed_elsewhere
from tracer.model.readers.registry import describe_transcoders
from tracer.model.readers.set_files import one_per_layer
from tracer.model.references import check_access, hub_reference, resolve

_SETTINGS = "config.yaml"
_OF_LAYER = re.compile(r"layer_(\d+)(?:/(?:.*/)?params\.npz|_[^/]*/params\.safetensors)")
"""Files of Gemma Scope and Gemma Scope 2, whose repositories hold several transcoders of a layer."""


def check_transcoders(checkpoint: str, transcoders: str) -> None:
    """Refuse a set that lacks a layer, has another width than the model, or reads where the model has no such place.

    Raises:
        ModelError: naming the layer, what was found and what was expected.
    """
    _check_one_per_layer(transcoders)
    describe_transcoders(resolve(transcoders), checkpoint_facts(resolve(checkpoint)))


def check_repositories(checkpoint: str, transcoders: str, dataset: HubReference | None = None) -> None:
    """Ask the hub for every repository of a run before the first weight is fetched.

    A set may list files of other repositories in its `config.yaml`, which alone is fetched to ask for them too. A
    set with several transcoders of a layer is refused by the names of its files.

    Args:
        checkpoint: as for `tracer.model.references.resolve`.
        transcoders: the same.
        dataset: that of the corpus, where it lies on the hub.

    Raises:
        ModelError: naming every repository that cannot be read, and why; or a layer with several transcoders.
    """
    check_access([checkpoint, transcoders, *([] if dataset is None else [dataset])])
    _check_one_per_layer(transcoders)
    check_access(_listed(transcoders))


def _listed(transcoders: str) -> list[str]:
    on_hub = hub_reference(transcoders)
    if on_hub is None:
        return listed_elsewhere(resolve(transcoders))
    names = file_names(on_hub)
    if names is not None and _SETTINGS not in names:
        return []
    settings = replace(on_hub, inner=f"{on_hub.inner}/{_SETTINGS}".lstrip("/"))
    try:
        return listed_elsewhere(resolve(str(settings)).parent)
    except ModelError:
        # What is wrong with the settings is said when they are read.
        return []


def _check_one_per_layer(transcoders: str) -> None:
    """Refuse by the names of its files, before any of them is fetched, what its reader would refuse afterwards."""
    on_hub = hub_reference(transcoders)
    names = None if on_hub is None else file_names(on_hub)
    if names is None or _SETTINGS in names:
        return
    folder, candidates = Path(str(on_hub)), dict[int, list[Path]]()
    for name in names:
        if match := _OF_LAYER.fullmatch(name):
            candidates.setdefault(int(match[1]), []).append(folder / name)
    several = {layer: paths for layer, paths in candidates.items() if len(paths) > 1}
    if several:
        one_per_layer(several, len(several), folder)
