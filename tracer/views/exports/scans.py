"""What graph files call a transcoder set: viewers look under this name for the examples of its features."""

from dataclasses import dataclass
from pathlib import Path

from tracer.errors import ModelError
from tracer.graph.formats.metadata import viewer_scan
from tracer.model.references import hub_reference
from tracer.model.sae_lens_releases import RELEASE_PREFIX


@dataclass(frozen=True, slots=True)
class Scan:
    """The name of a set, and whether viewers can look there for its features."""

    name: str
    is_found: bool


def scan_of(reference: str) -> Scan:
    """The name of a transcoder set: its place on the hub, or the last part of its path where it is on none.

    Args:
        reference: as for `tracer.model.references.resolve`; a path need not exist here.
    """
    if reference.startswith(RELEASE_PREFIX):
        return Scan(reference, False)
    try:
        is_on_hub = hub_reference(reference) is not None
    except ModelError:
        is_on_hub = False
    if is_on_hub:
        return Scan(viewer_scan(reference), True)
    return Scan(Path(reference).expanduser().absolute().name or "transcoders", False)
