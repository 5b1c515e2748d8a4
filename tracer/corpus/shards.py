"""Shards: consecutive prompts of one corpus file, named by what they hold."""

from dataclasses import dataclass
from pathlib import Path

from tracer.corpus.corpus import Corpus, fingerprint_of
from tracer.corpus.prompt_files import read_ids, read_prompts
from tracer.corpus.prompts import Prompt, hash_ids
from tracer.errors import ArtifactError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The unit of commit and retry: `n_prompts` rows of `file` (relative to the run folder) from row `start`.

    `n_windows` is how many windows they give, where prompts are documents that are cut into such.
    """

    shard_id: str
    file: str
    start: int
    n_prompts: int
    n_windows: int = 0


def plan_shards(corpus: Corpus, root: Path, shard_size: int) -> list[Shard]:
    """Every prompt of `corpus` in shards of `shard_size` (fewer at the end of a file), in order.

    Raises:
        ArtifactError: a file is absent or damaged, or the files are not those of `corpus`.
    """
    shards: list[Shard] = []
    all_ids: list[str] = []
    for file in corpus.files:
        ids = read_ids(root, file)
        all_ids += ids
        for start in range(0, len(ids), shard_size):
            held = ids[start : start + shard_size]
            shards.append(Shard(shard_id=hash_ids(held), file=file, start=start, n_prompts=len(held)))
    if fingerprint_of(all_ids, corpus.chat_template_hash) != corpus.fingerprint:
        raise _foreign(str(root / "corpus"))
    return shards


def read_shard(root: Path, shard: Shard) -> list[Prompt]:
    """The prompts of `shard`, in order.

    Raises:
        ArtifactError: the file is absent or damaged, or holds other prompts than `shard` was planned over.
    """
    prompts = read_prompts(root, shard.file, shard.start, shard.n_prompts)
    if hash_ids([prompt.prompt_id for prompt in prompts]) != shard.shard_id:
        raise _foreign(str(root / shard.file))
    return prompts


def _foreign(where: str) -> ArtifactError:
    expected = "the prompts that this run was planned over"
    return ArtifactError(where, found="other prompts", expected=expected, to_do="Start the run again in a new folder.")
