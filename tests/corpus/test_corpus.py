"""Normalising a corpus: what is kept, what fails, what is refused, and that it is the same every time."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracer.config import CorpusConfig
from tracer.corpus import corpus as corpus_module
from tracer.corpus.corpus import Corpus, normalise
from tracer.corpus.shards import plan_shards, read_shard
from tracer.corpus.tokens import special_token_rule
from tracer.errors import ArtifactError, DataError

CITIES = ["Dallas", "Houston", "Plano", "Laredo", "Tampa", "Miami", "Macon", "Hilo", "Bend", "Erie", "Akron", "Mesa"]
ROWS = [{"text": f"people in {city} live in", "city": city, "n": i} for i, city in enumerate(CITIES)]


def build(source, tokenizer, root, *, progress=None, n_ctx=64, **settings) -> Corpus:
    config = CorpusConfig(source=str(source), **settings)
    return normalise(config, tokenizer, special_token_rule(tokenizer), n_ctx=n_ctx, root=root, progress=progress)


def prompts_of(corpus, root, shard_size=5):
    return [prompt for shard in plan_shards(corpus, root, shard_size) for prompt in read_shard(root, shard)]


def test_every_row_becomes_a_prompt_in_order(demo_tokenizer, tmp_path, write_jsonl):
    corpus = build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run")
    prompts = prompts_of(corpus, tmp_path / "run")
    assert [(prompt.text, prompt.metadata) for prompt in prompts] == [
        (row["text"], {"city": row["city"], "n": row["n"]}) for row in ROWS
    ]
    assert corpus.n_prompts == 12
    assert corpus.failures == ()
    assert corpus.files == ("corpus/prompts-00000.parquet",)
    assert corpus.metadata_columns == {"city": "text", "n": "int"}
    assert corpus.chat_template_hash is None
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["corpus"]


def test_the_same_prompts_from_any_kind_of_source_have_the_same_fingerprint(
    demo_tokenizer, tmp_path, write_jsonl, monkeypatch
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"text": row["text"], "city": row["city"]} for row in ROWS]
    (tmp_path / "a.csv").write_text(
        "text,city\n" + "".join(f"{row['text']},{row['city']}\n" for row in rows), encoding="utf-8"
    )
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a.parquet", tmp_path / "folder" / "train.parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    sources = [write_jsonl(rows), *(tmp_path / name for name in ("a.csv", "a.parquet", "folder", "saved"))]
    corpora = [
        build(source, demo_tokenizer, tmp_path / f"run{i}", streaming=i % 2 == 1) for i, source in enumerate(sources)
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == 1


def test_normalising_twice_writes_the_same_bytes(demo_tokenizer, tmp_path):
    settings = {"options": {"n_prompts": 60, "pairs": True, "split": "both"}}
    first, second = (build("tasks:atlas", demo_tokenizer, tmp_path / name, **settings) for name in ("a", "b"))
    assert first == second
    assert (tmp_path / "a" / first.files[0]).read_bytes() == (tmp_path / "b" / first.files[0]).read_bytes()


def test_normalising_again_into_the_same_folder_replaces_the_prompts(demo_tokenizer, tmp_path, write_jsonl):
    build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run")
    corpus = build(write_jsonl(ROWS[:3]), demo_tokenizer, tmp_path / "run")
    assert len(prompts_of(corpus, tmp_path / "run")) == 3


def test_large_corpora_are_written_as_several_files(demo_tokenizer, tmp_path, write_jsonl, monkeypatch):
    monkeypatch.setattr("tracer.corpus.prompt_files.N_PROMPTS_PER_ROW_GROUP", 2)
    monkeypatch.setattr("tracer.corpus.prompt_files.N_PROMPTS_PER_FILE", 5)
    corpus = build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run")
    assert corpus.files == tuple(f"corpus/prompts-0000{i}.parquet" for i in range(2))
    assert [prompt.metadata["n"] for prompt in prompts_of(corpus, tmp_path / "run", 4)] == list(range(12))


def test_a_row_that_cannot_be_used_is_a_failure_and_the_others_go_on(demo_tokenizer, tmp_path, write_jsonl):
    bad = [{"text": "xyzzy"}, {"text": "the " * 80}, {"text": ""}, {"text": None}, {"text": "Dallas \ud800"}]
    corpus = build(write_jsonl([ROWS[0], *bad, ROWS[1]]), demo_tokenizer, tmp_path / "run")
    assert corpus.n_prompts == 2
    assert [failure.item_id for failure in corpus.failures] == [f"row-{i}" for i in range(2, 7)]
    assert {failure.error_class for failure in corpus.failures} == {"DataError"}
    assert "only unknown tokens" in corpus.failures[0].message
    assert corpus.failures[0].text == "xyzzy"
    assert "at most 64" in corpus.failures[1].message
    json.dumps(corpus.to_json()).encode()


def test_a_corpus_of_failures_alone_is_no_error(demo_tokenizer, tmp_path, write_jsonl):
    corpus = build(write_jsonl([{"text": "xyzzy"}, {"text": "plugh"}]), demo_tokenizer, tmp_path / "run")
    assert (corpus.n_prompts, len(corpus.failures), corpus.files) == (0, 2, ())
    assert plan_shards(corpus, tmp_path / "run", 4) == []


def test_max_tokens_and_truncation_are_those_of_the_config_within_the_context(demo_tokenizer, tmp_path, write_jsonl):
    source = write_jsonl(ROWS[:1])
    for settings, n_failures in (({"max_tokens": 5}, 1), ({"max_tokens": 6}, 0), ({"n_ctx": 5, "max_tokens": 6}, 1)):
        assert len(build(source, demo_tokenizer, tmp_path / "run", **settings).failures) == n_failures
    corpus = build(source, demo_tokenizer, tmp_path / "run", max_tokens=3, truncate="left")
    assert demo_tokenizer.decode(prompts_of(corpus, tmp_path / "run")[0].token_ids) == "<bos> live in"


def test_identical_prompts_are_kept_once_and_counted(demo_tokenizer, tmp_path, write_jsonl):
    corpus = build(write_jsonl([ROWS[0], ROWS[1], ROWS[0]]), demo_tokenizer, tmp_path / "run")
    assert (corpus.n_prompts, corpus.n_duplicates) == (2, 1)


def test_identical_prompts_kept_on_request_have_ids_of_their_own(demo_tokenizer, tmp_path, write_jsonl):
    source = write_jsonl([ROWS[0], ROWS[1], ROWS[0]])
    once = prompts_of(build(source, demo_tokenizer, tmp_path / "a"), tmp_path / "a")
    kept = prompts_of(build(source, demo_tokenizer, tmp_path / "b", keep_duplicates=True), tmp_path / "b")
    assert [prompt.prompt_id for prompt in kept[:2]] == [prompt.prompt_id for prompt in once]
    assert len({prompt.prompt_id for prompt in kept}) == 3
    assert kept[2].text == kept[0].text


def test_equal_text_with_other_metadata_is_another_prompt(demo_tokenizer, tmp_path, write_jsonl):
    rows = [ROWS[0], ROWS[0] | {"n": 99}]
    assert build(write_jsonl(rows), demo_tokenizer, tmp_path / "a").n_prompts == 2
    assert build(write_jsonl(rows), demo_tokenizer, tmp_path / "b", metadata_columns=["city"]).n_prompts == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_limit_takes_the_first_prompts_and_stops_reading(demo_tokenizer, tmp_path, write_jsonl, streaming):
    source = write_jsonl([{"text": "xyzzy"}, *ROWS[:4]])
    with source.open("a", encoding="utf-8") as file:
        file.write("this line is never read\n")
    corpus = build(source, demo_tokenizer, tmp_path / "run", limit=4, streaming=streaming)
    assert [prompt.metadata["n"] for prompt in prompts_of(corpus, tmp_path / "run")] == [0, 1, 2, 3]


def test_a_sample_depends_on_seed_and_prompt_but_not_on_the_order_of_rows(demo_tokenizer, tmp_path, write_jsonl):
    rows = [{"text": "Dallas is in", "n": i} for i in range(400)]

    def sampled(name, rows, seed):
        corpus = build(write_jsonl(rows), demo_tokenizer, tmp_path / name, sample=0.25, sample_seed=seed)
        return [prompt.metadata["n"] for prompt in prompts_of(corpus, tmp_path / name, 64)]

    forward, backward, other = sampled("a", rows, 0), sampled("b", rows[::-1], 0), sampled("c", rows, 1)
    assert forward == backward[::-1]
    assert forward != other
    assert 60 < len(forward) < 140


def test_sample_and_limit_work_on_a_stream_of_a_datasets_folder(demo_tokenizer, tmp_path):
    rows = [{"text": "Dallas is in", "n": i} for i in range(400)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    kept = []
    for streaming in (False, True):
        settings = {"sample": 0.25, "limit": 20, "streaming": streaming}
        corpus = build(tmp_path / "saved", demo_tokenizer, tmp_path / "run", **settings)
        kept.append([prompt.metadata["n"] for prompt in prompts_of(corpus, tmp_path / "run")])
    assert kept[0] == kept[1]
    assert len(kept[0]) == 20
    assert kept[0][-1] < 200


def test_metadata_types_widen_to_what_holds_every_value(demo_tokenizer, tmp_path, write_jsonl):
    values = [
        {"a": 1, "b": 1, "c": True, "d": None, "e": 1.5},
        {"a": 0.5, "b": "x", "c": False, "d": None, "f": True},
        {"f": 3},
    ]
    corpus = build(
        write_jsonl([row | extra for row, extra in zip(ROWS, values, strict=False)]), demo_tokenizer, tmp_path / "run"
    )
    expected = {"a": "float", "b": "text", "c": "bool", "d": "text", "e": "float", "f": "text"}
    assert {name: corpus.metadata_columns[name] for name in expected} == expected
    assert prompts_of(corpus, tmp_path / "run")[1].metadata["a"] == 0.5


def test_messages_record_the_hash_of_the_chat_template_and_it_enters_the_fingerprint(
    chat_tokenizer, tmp_path, write_jsonl
):
    source = write_jsonl([{"messages": [{"role": "user", "content": "Where is Dallas?"}]}])
    first = build(source, chat_tokenizer, tmp_path / "a")
    # A comment changes the template's hash alone, not the prompt.
    chat_tokenizer.chat_template += "{# note #}"
    second = build(source, chat_tokenizer, tmp_path / "b")
    assert first.chat_template_hash
    assert first.chat_template_hash != second.chat_template_hash
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.csv", "text,city\n"), ("a.csv", ""), ("a.txt", "\n")],
)
def test_an_empty_corpus_is_refused_and_leaves_nothing(demo_tokenizer, tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="no rows"):
        build(tmp_path / name, demo_tokenizer, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_file_or_column_is_refused_and_leaves_nothing(demo_tokenizer, tmp_path, write_jsonl):
    with pytest.raises(DataError, match="no such file"):
        build(tmp_path / "gone.jsonl", demo_tokenizer, tmp_path / "run")
    with pytest.raises(DataError, match="columns text, city, n; expected a column 'prompt'"):
        build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run", text_column="prompt")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="columns text, city, n; expected a column 'state'"):
        build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run", metadata_columns=["city", "state"])
    assert list((tmp_path / "run").iterdir()) == []


def test_a_source_that_breaks_midway_leaves_an_earlier_corpus_as_it_was(demo_tokenizer, tmp_path, write_jsonl):
    corpus = build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run")
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps(ROWS[0]) + "\nno json\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        build(broken, demo_tokenizer, tmp_path / "run")
    assert len(prompts_of(corpus, tmp_path / "run")) == 12
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["corpus"]


def test_a_sample_that_takes_nothing_is_refused(demo_tokenizer, tmp_path, write_jsonl):
    with pytest.raises(DataError, match="no prompt among 12 rows"):
        build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run", sample=0.0)


def test_a_run_folder_that_cannot_be_written_is_an_artifact_error(demo_tokenizer, tmp_path, write_jsonl):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot be written"):
        build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "file" / "run")


def test_progress_counts_the_rows_read(demo_tokenizer, tmp_path, write_jsonl, monkeypatch):
    monkeypatch.setattr(corpus_module, "N_ROWS_PER_REPORT", 5)
    seen = []
    build(write_jsonl(ROWS), demo_tokenizer, tmp_path / "run", progress=seen.append)
    assert seen == [5, 10, 12]


def test_a_corpus_survives_json(demo_tokenizer, tmp_path, write_jsonl):
    corpus = build(write_jsonl([*ROWS, {"text": "xyzzy"}]), demo_tokenizer, tmp_path / "run")
    assert Corpus.from_json(json.loads(json.dumps(corpus.to_json()))) == corpus
