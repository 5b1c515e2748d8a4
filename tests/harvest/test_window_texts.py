"""Which firings are told to be of one text."""

import torch

from tracer.harvest.window_texts import text_hashes, token_hashes
from tracer.harvest.windows import PADDING

TEXTS = ("!", "?", "a", "A", "7", "9")


def hashes_of(*windows):
    longest = max(map(len, windows))
    rows = [[*map(TEXTS.index, window), *[PADDING] * (longest - len(window))] for window in windows]
    return text_hashes(torch.tensor(rows), token_hashes(len(TEXTS), TEXTS.__getitem__)).tolist()


def test_case_digits_and_punctuation_do_not_make_another_text():
    one, other = hashes_of("a!7", "A?9")
    assert one[0] == other[0]
    assert one[1:] == other[1:]
    assert len(set(one)) == 3


def test_texts_of_which_nothing_is_left_are_told_apart_by_their_tokens():
    one, same, other, long = hashes_of("!!!", "!!!", "!?!", "a" + "!" * 8)
    assert one == same
    assert len({one[2], other[2], *long[:9]}) == 11
    assert one[0] == other[0]
