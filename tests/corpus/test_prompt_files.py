"""Prompts through Parquet and back, and files that are not ours."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.corpus.prompt_files import SCHEMA, read_ids, read_prompts, writing
from tracer.corpus.prompts import Prompt, identified
from tracer.errors import ArtifactError

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
OPTIONAL = st.none() | TEXT
INT64 = st.integers(-(2**63), 2**63 - 1)
FIELDS = st.fixed_dictionaries({
    "prompt_id": st.just(""),
    "text": TEXT,
    "token_ids": st.lists(st.integers(0, 10**6), min_size=1, max_size=5).map(tuple),
    "targets": st.lists(st.integers(0, 10**6), max_size=2).map(tuple),
    "task": OPTIONAL,
    "split": OPTIONAL,
    "pair_id": OPTIONAL,
    "answer": OPTIONAL,
    "counterfactual_answer": OPTIONAL,
    "answer_token_id": st.none() | st.integers(0, 10**6),
    "metadata": st.dictionaries(
        TEXT, TEXT | INT64 | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
    ),
})


def write(root, prompts) -> str:
    with writing(root) as writer:
        for prompt in prompts:
            writer.add(prompt)
    return f"corpus/{writer.names[0]}"


@given(st.lists(FIELDS, min_size=1, max_size=6), st.data())
def test_any_range_of_prompts_comes_back_as_written(tmp_path_factory, rows, data):
    root = tmp_path_factory.mktemp("run")
    prompts = [identified(Prompt(**fields), occurrence) for occurrence, fields in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracer.corpus.prompt_files.N_PROMPTS_PER_ROW_GROUP", 2)
        file = write(root, prompts)
    start = data.draw(st.integers(0, len(prompts) - 1))
    n_prompts = data.draw(st.integers(1, len(prompts) - start))
    assert read_prompts(root, file, start, n_prompts) == prompts[start : start + n_prompts]
    assert read_ids(root, file) == [prompt.prompt_id for prompt in prompts]


@given(FIELDS)
def test_metadata_keeps_the_type_of_every_value(tmp_path_factory, fields):
    prompt = Prompt(**fields)
    root = tmp_path_factory.mktemp("run")
    (back,) = read_prompts(root, write(root, [prompt]), 0, 1)
    assert {name: type(value) for name, value in back.metadata.items()} == {
        name: type(value) for name, value in prompt.metadata.items()
    }


def test_an_error_inside_the_block_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_absent_a_damaged_and_a_foreign_file_are_artifact_errors(tmp_path):
    file = "corpus/prompts-00000.parquet"
    with pytest.raises(ArtifactError, match="no readable file"):
        read_ids(tmp_path, file)
    (tmp_path / "corpus").mkdir()
    (tmp_path / file).write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="no readable file"):
        read_prompts(tmp_path, file, 0, 1)
    foreign = pq.ParquetWriter(tmp_path / file, SCHEMA.remove_metadata())
    foreign.close()
    with pytest.raises(ArtifactError, match="version none"):
        read_ids(tmp_path, file)
