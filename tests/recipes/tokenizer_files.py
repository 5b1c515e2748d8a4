"""Small tokenizers in the form of published ones: byte-level BPE, and the Gemma family's with ▁ for spaces."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tracer.corpus.tasks import atlas_words, ioi

N_MERGED = 1500
SENTENCES = tuple(
    f"{start} {name} {verb} the {place}, {thing}."
    for start, verb in (("Once", "was at"), ("Later", "walked to"), ("Yesterday", "met at"))
    for name, place, thing in zip(atlas_words.NAMES, atlas_words.PLACES, atlas_words.OBJECTS, strict=False)
)


def write_byte_level(folder: Path, settings: dict, *, special: list[str], digits: bool, merges_too: bool) -> None:
    """A tokenizer.json with special tokens at its end and tokenizer_config.json; `digits`: one token each."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split]) if digits else split
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=N_MERGED, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_special_tokens(special)
    _write(folder, tokenizer, settings)
    if merges_too:
        tokenizer.model.save(str(folder))


def write_with_marked_spaces(folder: Path, settings: dict, *, special: list[str]) -> None:
    """A tokenizer.json whose spaces are ▁, special tokens at its start."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Metaspace(prepend_scheme="never"),
    ])
    trainer = trainers.BpeTrainer(vocab_size=N_MERGED, special_tokens=special, show_progress=False)
    trained.train_from_iterator(_texts(), trainer)
    learned = json.loads(trained.to_str())["model"]
    merges = [(left, right) for left, right in learned["merges"]]
    model = models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.add_special_tokens(special)
    _write(folder, tokenizer, settings)


def _write(folder: Path, tokenizer: Tokenizer, settings: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _texts() -> list[str]:
    """Every word that the task generators use, often enough to become one token, and the sentences of the datasets."""
    words = (*atlas_words.NAMES, *atlas_words.PLACES, *atlas_words.OBJECTS, *atlas_words.EVENTS)
    years = [f"in the year {century}{year} and '{year}" for century in atlas_words.CENTURIES for year in range(10, 99)]
    return [f"the {word} the {word} the {word}" for word in words] + [*ioi.TEMPLATES * 3, *SENTENCES, *years]
