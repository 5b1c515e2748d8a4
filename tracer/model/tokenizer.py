"""The tokenizer of a checkpoint."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tracer.errors import ModelError
from tracer.model.references import resolve

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load_tokenizer(checkpoint: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies in a checkpoint folder.

    Raises:
        ModelError: the folder holds none, or it cannot be read.
    """
    folder = resolve(str(checkpoint))
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            str(folder),
            found="a checkpoint without tokenizer",
            expected=f"one of {', '.join(_TOKENIZER_FILES)}",
            to_do="Save the tokenizer into the checkpoint folder.",
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, OSError, KeyError) as error:
        found = " ".join(str(error).split())[:200]
        raise ModelError(
            str(folder), found=found, expected="a readable tokenizer", to_do="Check the tokenizer files."
        ) from error


def token_text(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """The raw text of one token, white space as it is."""
    return str(tokenizer.decode([token_id]))


def token_separator(tokenizer: PreTrainedTokenizerBase) -> str:
    """What decoding puts between two tokens: a space where tokens are whole words, else nothing."""
    ordinary = [token_id for token_id in range(len(tokenizer)) if token_id not in tokenizer.all_special_ids]
    first, second = ordinary[0], ordinary[-1]
    together = tokenizer.decode([first, second])
    return " " if together == f"{token_text(tokenizer, first)} {token_text(tokenizer, second)}" else ""
