"""Tokenizers for the corpus tests: the word-level one of the embedded model, byte-level ones trained here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tracer.corpus.tasks import atlas, atlas_words
from tracer.model.demo.text import build_tokenizer

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="session")
def demo_tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(64)


@pytest.fixture(scope="session")
def make_bpe_tokenizer() -> Callable[[str], PreTrainedTokenizerFast]:
    """Builds a byte-level tokenizer that cuts numbers by the given pattern; its only special token has id 0."""

    def make(number_pattern: str) -> PreTrainedTokenizerFast:
        pattern = rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{number_pattern}| ?[^\s\p{{L}}\p{{N}}]+|\s+"
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        backend.decoder = decoders.ByteLevel()
        words = [word for word in atlas.vocabulary() if word not in atlas_words.SPECIAL_TOKENS]
        sentences = [f"the {word} the {word} {word} '{word} '{word}" for word in words]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=4_000, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(sentences, trainer)
        return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<end>", eos_token="<end>")

    return make


@pytest.fixture(scope="session")
def bpe_tokenizer(make_bpe_tokenizer: Callable[[str], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    return make_bpe_tokenizer("{2}")


@pytest.fixture
def chat_tokenizer(make_bpe_tokenizer: Callable[[str], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    tokenizer = make_bpe_tokenizer("{2}")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows to a JSONL file under the test's folder and returns its path."""

    def write(rows: list[dict], name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return path

    return write
