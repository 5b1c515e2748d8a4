"""Shards: deterministic, complete, and named by what they hold."""

from dataclasses import replace

import pytest

from tracer.config import CorpusConfig
from tracer.corpus.corpus import Corpus, normalise
from tracer.corpus.shards import plan_shards, read_shard
from tracer.corpus.tokens import special_token_rule
from tracer.errors import ArtifactError


@pytest.fixture
def make_corpus(demo_tokenizer, write_jsonl):
    def make(root, n_prompts, first=0) -> Corpus:
        rows = [{"text": "Dallas is in", "n": i} for i in range(first, first + n_prompts)]
        config = CorpusConfig(source=str(write_jsonl(rows)))
        return normalise(config, demo_tokenizer, special_token_rule(demo_tokenizer), n_ctx=64, root=root)

    return make


@pytest.mark.parametrize("shard_size", [1, 3, 10, 11])
def test_shards_hold_every_prompt_once_and_in_order(make_corpus, tmp_path, shard_size):
    corpus = make_corpus(tmp_path / "run", 10)
    shards = plan_shards(corpus, tmp_path / "run", shard_size)
    assert [p.metadata["n"] for shard in shards for p in read_shard(tmp_path / "run", shard)] == list(range(10))
    assert all(shard.n_prompts <= shard_size for shard in shards)
    assert len({s.shard_id for s in shards}) == len(shards)


def test_shards_do_not_cross_files(make_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("tracer.corpus.prompt_files.N_PROMPTS_PER_ROW_GROUP", 2)
    monkeypatch.setattr("tracer.corpus.prompt_files.N_PROMPTS_PER_FILE", 4)
    corpus = make_corpus(tmp_path / "run", 10)
    shards = plan_shards(corpus, tmp_path / "run", 3)
    assert [shard.n_prompts for shard in shards] == [3, 1, 3, 1, 2]
    assert len(corpus.files) == 3
    assert [p.metadata["n"] for shard in shards for p in read_shard(tmp_path / "run", shard)] == list(range(10))


def test_a_shards_id_follows_its_prompts_and_not_its_place(make_corpus, tmp_path):
    early = plan_shards(make_corpus(tmp_path / "a", 8), tmp_path / "a", 4)
    late = plan_shards(make_corpus(tmp_path / "b", 4, first=4), tmp_path / "b", 4)
    assert early[1].shard_id == late[0].shard_id
    assert early[1].start != late[0].start
    assert early == plan_shards(make_corpus(tmp_path / "c", 8), tmp_path / "c", 4)


def test_files_that_changed_since_are_refused(make_corpus, tmp_path):
    corpus = make_corpus(tmp_path / "run", 8)
    shards = plan_shards(corpus, tmp_path / "run", 4)
    make_corpus(tmp_path / "run", 8, first=1)
    with pytest.raises(ArtifactError, match="other prompts"):
        plan_shards(corpus, tmp_path / "run", 4)
    with pytest.raises(ArtifactError, match="other prompts"):
        read_shard(tmp_path / "run", shards[0])
    with pytest.raises(ArtifactError, match="no readable file"):
        read_shard(tmp_path / "run", replace(shards[0], file="corpus/prompts-00009.parquet"))
