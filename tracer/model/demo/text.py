"""Tokenizer and training text of the embedded demo model, made from the toy atlas and a seed."""

from collections.abc import Iterator
from random import Random

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tracer.corpus.tasks import atlas
from tracer.corpus.tasks.atlas_words import SENTENCE_END, SPECIAL_TOKENS


def build_tokenizer(n_ctx: int) -> PreTrainedTokenizerFast:
    """A word-level Hugging Face tokenizer over the atlas vocabulary; words are separated by white space."""
    pad, bos, unk = SPECIAL_TOKENS
    ids = {word: idx for idx, word in enumerate(atlas.vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token=unk))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        bos_token=bos,
        eos_token=bos,
        unk_token=unk,
        model_max_length=n_ctx,
        clean_up_tokenization_spaces=False,
    )


def training_prompts(rng: Random) -> Iterator[atlas.AtlasPrompt]:
    """An endless stream of seen prompts, tasks drawn by their shares."""
    tasks = list(atlas.TASKS.values())
    shares = [task.share for task in tasks]
    while True:
        yield atlas.draw(rng.choices(tasks, shares)[0], rng)


def packed_rows(
    tokenizer: PreTrainedTokenizerFast, rng: Random, *, n_rows: int, n_ctx: int, answer_weight: float
) -> tuple[Int[Tensor, "row pos"], Float[Tensor, "row pos"]]:
    """Rows `<bos> s1 . s2 . ...` of `n_ctx` tokens, and the loss weight of each token as a *target*."""
    ids = tokenizer.get_vocab()
    tokens = torch.empty(n_rows, n_ctx, dtype=torch.long)
    weights = torch.ones(n_rows, n_ctx)
    prompts = training_prompts(rng)
    for row in range(n_rows):
        row_ids, row_weights = [tokenizer.bos_token_id], [1.0]
        while len(row_ids) < n_ctx:
            prompt = next(prompts)
            sentence = [*prompt.text.split(), prompt.answer, SENTENCE_END]
            sentence_weights = [1.0] * len(sentence)
            for idx in atlas.answer_word_indices(prompt):
                sentence_weights[idx] = answer_weight
            row_ids += [ids[word] for word in sentence]
            row_weights += sentence_weights
        tokens[row] = torch.tensor(row_ids[:n_ctx])
        weights[row] = torch.tensor(row_weights[:n_ctx])
    return tokens, weights


def single_prompts(
    tokenizer: PreTrainedTokenizerFast, rng: Random, *, n_prompts: int, n_ctx: int
) -> tuple[Int[Tensor, "row pos"], Int[Tensor, " row"]]:
    """Prompts alone, `<bos>` in front and `<pad>` behind, cut before the answer; with their lengths in tokens."""
    ids = tokenizer.get_vocab()
    rows = []
    for prompt, _ in zip(training_prompts(rng), range(n_prompts), strict=False):
        rows.append([tokenizer.bos_token_id, *(ids[word] for word in prompt.text.split())])
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((n_prompts, min(n_ctx, int(lengths.max()))), tokenizer.pad_token_id)
    for idx, row in enumerate(rows):
        tokens[idx, : len(row)] = torch.tensor(row)
    return tokens, lengths
