"""Documents cut into windows: nothing lost, nothing mixed."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.corpus.tokens import SpecialTokenRule
from tracer.corpus.windows import batches_of, n_windows_of, windows_of

RULE = SpecialTokenRule(special_ids=frozenset({0}), prepend_id=0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.booleans(), st.integers(2, 9))
def test_windows_hold_every_token_once_behind_a_special_one(own, has_front, window_tokens):
    windows = list(windows_of("d", ([0] if has_front else []) + own, RULE, window_tokens=window_tokens))
    front = [0] if has_front else []
    assert [token for window in windows for token in window.token_ids[len(front) :]] == own
    assert all(list(window.token_ids[: len(front)]) == front for window in windows)
    assert [window.start for window in windows] == list(range(0, len(own), window_tokens - len(front)))
    assert all(len(window.token_ids) == window_tokens for window in windows[:-1])
    n_tokens = len(front) + len(own)
    assert len(windows) == n_windows_of(n_tokens, has_front=has_front, window_tokens=window_tokens)


def test_a_document_of_a_special_token_alone_has_no_window():
    assert list(windows_of("d", [0], RULE, window_tokens=4)) == []
    assert n_windows_of(1, has_front=True, window_tokens=4) == 0


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 30))
def test_batches_keep_the_order_and_fit_unless_one_window_does_not(lengths, batch_tokens):
    windows = [window for n in lengths for window in windows_of(str(n), [0, *[1] * n], RULE, window_tokens=99)]
    batches = list(batches_of(windows, batch_tokens))
    assert [window for batch in batches for window in batch] == windows
    for batch in batches:
        padded = len(batch) * max(len(window.token_ids) for window in batch)
        assert len(batch) == 1 or padded <= batch_tokens
