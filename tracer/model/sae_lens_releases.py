"""Releases of sae-lens' own list, as local folders in sae-lens' own format.

The list (`pretrained_saes.yaml` of the installed sae-lens) names a release, the repository on the hub, and a path for
each id. Many releases are in their makers' formats, so sae-lens downloads and converts them, with the settings that its
list adds; the result is saved in float32 and read from there afterwards. Some of those are pickles, of which
torch takes plain tensors alone unless it is told otherwise.
"""

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from tracer.errors import ModelError
from tracer.model.hub import commit_of
from tracer.model.hub_errors import hub_errors, problem_of
from tracer.model.hub_reference import HubReference

RELEASE_PREFIX = "saelens:"
_LAYER = re.compile(r"(?:layer_|blocks\.)(\d+)")
_COMMIT_FILE = ".commit"
_LONGEST_MESSAGE = 200
_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Release:
    """A release with the ids that are meant, its repository on the hub, and the folder that it is saved in."""

    name: str
    ids: list[str]
    repository: HubReference
    folder: Path


def release_folder(reference: str) -> Path:
    """The folder with a folder for each SAE or transcoder that is named, made at the first call.

    It lies under `tracer/saelens` in HF_HOME, under a name that sae-lens' version and the ids are hashed into.

    Args:
        reference: `saelens:RELEASE`, all of a release; `saelens:RELEASE/ID`, one of it; `*` in an id stands for
            anything, as in `saelens:gemma-scope-2-1b-pt-transcoders-all/layer_*_width_16k_l0_big`.

    Raises:
        ModelError: sae-lens does not know it, several are meant for one layer, or it cannot be fetched.
    """
    release = _named(reference)
    if not release.folder.is_dir():
        _check_loading_is_safe(reference)
        release.folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=release.folder.parent, prefix=".unfinished-") as temporary:
            made = Path(temporary) / "release"
            made.mkdir()
            (made / _COMMIT_FILE).write_text(commit_of(release.repository), encoding="utf-8")
            for sae_id in release.ids:
                _save(release, sae_id, made / sae_id.replace("/", "--"))
            try:
                made.rename(release.folder)
            except OSError:
                # Another process was faster.
                if not release.folder.is_dir():
                    raise
    return release.folder


def release_repository(reference: str) -> HubReference:
    """The repository of a release, at the commit that it had when the folder was made, if it was.

    Args:
        reference: as for `release_folder`.

    Raises:
        ModelError: sae-lens does not know it, or several are meant for one layer.
    """
    release = _named(reference)
    recorded = release.folder / _COMMIT_FILE
    commit = recorded.read_text(encoding="utf-8") if recorded.is_file() else None
    return replace(release.repository, revision=commit)


def _check_loading_is_safe(reference: str) -> None:
    found = os.environ.get(_UNSAFE, "")
    if found.lower() not in ("", "0", "n", "no", "false"):
        raise ModelError(
            reference, found=f"{_UNSAFE}={found}", expected="that it is not set, since sae-lens may read pickles",
            to_do=f"Unset {_UNSAFE}, with which a file could run any code.",
        )  # fmt: skip


def _named(reference: str) -> _Release:
    import sae_lens
    from huggingface_hub import constants
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
    digest = hashlib.sha256(json.dumps([sae_lens.__version__, release, found]).encode()).hexdigest()[:16]
    return _Release(
        name=release,
        ids=found,
        repository=HubReference(repository=known[release].repo_id),
        folder=Path(constants.HF_HOME) / "tracer" / "saelens" / f"{release}-{digest}",
    )


def _save(release: _Release, sae_id: str, folder: Path) -> None:
    from sae_lens import SAE

    where, expected = f"{RELEASE_PREFIX}{release.name}/{sae_id}", "an SAE that sae-lens can load"
    try:
        with warnings.catch_warnings():
            # It warns of settings that are saved with it and are read from there.
            warnings.simplefilter("ignore")
            sae = SAE.from_pretrained(release.name, sae_id)
    except Exception as error:
        if isinstance(error, hub_errors()) and not isinstance(error, ValueError):
            problem = problem_of(error, release.repository)
            found = f"{release.repository}: {problem.found}"
            raise ModelError(where, found=found, expected=expected, to_do=problem.to_do) from error
        # Further lines of torch say how to read a pickle that may run code; nor is this error to be seen as a cause.
        said = str(error).partition("\n")[0].partition(". ")[0][:_LONGEST_MESSAGE]
        raise ModelError(
            where, found=f"{release.repository}: {type(error).__name__}: {said}", expected=expected,
            to_do="Use a release in safetensors.",
        ) from None  # fmt: skip
    for parameter in sae.parameters():
        # Converted matrices are views of transposed ones, which safetensors does not write.
        parameter.data = parameter.data.contiguous()
    sae.save_model(folder)
