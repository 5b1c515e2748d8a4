"""Releases of sae-lens' own list, as local folders in sae-lens' own format.

The list (`pretrained_saes.yaml` of the installed sae-lens) names a release, the repository on the hub, and a path for
each id. Many releases are in their makers' formats, so sae-lens downloads and converts them, with the settings that its
list adds; the result is saved in float32 and read from there afterwards.
"""

import hashlib
import json
import re
import warnings
from collections import Counter
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from tracer.errors import ModelError
from tracer.model.hub_errors import hub_errors, problem_of
from tracer.model.hub_reference import HubReference

RELEASE_PREFIX = "saelens:"
_LAYER = re.compile(r"(?:layer_|blocks\.)(\d+)")


def release_folder(reference: str) -> Path:
    """The folder with a folder for each SAE or transcoder that is named, made at the first call.

    It lies under `tracer/saelens` in HF_HOME, under a name that sae-lens' version and the ids are hashed into.

    Args:
        reference: `saelens:RELEASE`, all of a release; `saelens:RELEASE/ID`, one of it; `*` in an id stands for
            anything, as in `saelens:gemma-scope-2-1b-pt-transcoders-all/layer_*_width_16k_l0_big`.

    Raises:
        ModelError: sae-lens does not know it, several are meant for one layer, or it cannot be fetched.
    """
    import sae_lens
    from huggingface_hub import constants

    release, repository, ids = _named(reference)
    digest = hashlib.sha256(json.dumps([sae_lens.__version__, release, ids]).encode()).hexdigest()[:16]
    folder = Path(constants.HF_HOME) / "tracer" / "saelens" / f"{release}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=".unfinished-") as temporary:
            made = Path(temporary) / "release"
            for sae_id in ids:
                try:
                    _save(release, sae_id, made / sae_id.replace("/", "--"))
                except hub_errors() as error:
                    problem = problem_of(error, HubReference(repository=repository))
                    raise ModelError(
                        f"{RELEASE_PREFIX}{release}/{sae_id}", found=f"{repository}: {problem.found}",
                        expected="an SAE that sae-lens can load", to_do=problem.to_do,
                    ) from error  # fmt: skip
            try:
                made.rename(folder)
            except OSError:
                # Another process was faster.
                if not folder.is_dir():
                    raise
    return folder


def _named(reference: str) -> tuple[str, str, list[str]]:
    """Release, repository and ids that a reference names."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    release, _, pattern = reference.removeprefix(RELEASE_PREFIX).partition("/")
    if release not in known:
        raise ModelError(
            reference, found=f"release {release!r}, which sae-lens does not list",
            expected=" or ".join(get_close_matches(release, known, n=5, cutoff=0.4)) or "a name of its list",
            to_do="Check the name; a folder on the hub is named as org/repo/path.",
        )  # fmt: skip
    ids = sorted(known[release].saes_map)
    found = [each for each in ids if not pattern or fnmatchcase(each, pattern)]
    layers = Counter(match[1] for match in map(_LAYER.search, found) if match)
    if not found or max(layers.values(), default=1) > 1:
        raise ModelError(
            reference, found=f"several for one layer: {', '.join(found[:4])}, ..." if found else f"no id {pattern!r}",
            expected=f"{RELEASE_PREFIX}{release}/ID with one of {len(ids)} ids, as {ids[0]}; * stands for anything",
            to_do="Name one for each layer.",
        )  # fmt: skip
    return release, known[release].repo_id, found


def _save(release: str, sae_id: str, folder: Path) -> None:
    from sae_lens import SAE

    with warnings.catch_warnings():
        # It warns of settings that are saved with it and are read from there.
        warnings.simplefilter("ignore")
        sae = SAE.from_pretrained(release, sae_id)
    for parameter in sae.parameters():
        # Converted matrices are views of transposed ones, which safetensors does not write.
        parameter.data = parameter.data.contiguous()
    sae.save_model(folder)
