"""How alike a feature's texts are: against plain loops, and over a run with a real embedding model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.autointerp.demo_harvest import Document
from tracer.autointerp.coherence import FEWEST, example_coherence, load_embedder
from tracer.errors import ConfigError
from tracer.run.labelling import label_run
from tracer.tables.database import query

SIGNALS = """
    SELECT example_coherence AS coherence, support > 0 AS is_in_circuits FROM feature_signals
    LEFT JOIN features USING (layer, feature)
"""


@pytest.fixture(scope="module")
def embedding_model(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of random weights, which knows words of the atlas apart."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("embedding")
    words = ["[PAD]", "[UNK]", *sorted({token for document in documents for token in document.tokens})]
    tokenizer = Tokenizer(WordLevel({word: idx for idx, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder / "bert"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(64, "mean")]).save(str(folder / "model"))
    return folder / "model"


@given(n_active=st.integers(0, 6), n_inactive=st.integers(0, 6), seed=st.integers(0, 2**16), width=st.integers(1, 3))
def test_coherence_equals_plain_counting(n_active: int, n_inactive: int, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    active, inactive = (
        torch.nn.functional.normalize(torch.from_numpy(rng.integers(-2, 3, (n, width)) + 0.5).float(), dim=1)
        for n in (n_active, n_inactive)
    )
    found = example_coherence(active, inactive)
    if min(n_active, n_inactive) < FEWEST:
        assert found is None
        return
    alike, unlike, wins = active @ active.T, active @ inactive.T, []
    for one in range(n_active):
        for other in range(n_active):
            for beside in range(n_inactive) if one != other else ():
                difference = float(alike[one, other] - unlike[one, beside])
                wins.append(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0)
    assert found == pytest.approx(np.mean(wins))


def test_features_of_circuits_get_the_signal_and_their_texts_are_alike(
    demo_run: Path, harvest: Path, embedding_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo_run, run)
    label_run(run, harvest=harvest, embedding_model=embedding_model, console=Console(quiet=True))
    rows = query(run / "results.duckdb", SIGNALS)
    known = rows.drop_nulls("coherence")
    assert known["is_in_circuits"].all()
    assert known.height >= 0.5 * rows.filter("is_in_circuits").height
    assert known["coherence"].is_between(0.0, 1.0).all()
    assert known["coherence"].mean() > 0.6


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="embedding-model"):
        load_embedder(tmp_path)
