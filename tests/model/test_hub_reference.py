"""Names of repositories, folders and files on the hub, read and written."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import ModelError
from tracer.model.hub_reference import HubReference, parse_hub_reference

LETTERS = string.ascii_letters + string.digits + "_"
names = st.text(LETTERS + ".-", min_size=1, max_size=12).filter(lambda name: name[0] in LETTERS)
parts = st.text(LETTERS + ".- []", min_size=1, max_size=8).filter(lambda part: part.strip(".") and part == part.strip())
references = st.builds(
    HubReference,
    repository=st.builds("{}/{}".format, names, names),
    inner=st.lists(parts, max_size=3).map("/".join),
    revision=st.none() | st.text(LETTERS + "./-", min_size=1, max_size=12),
)


@given(references)
def test_both_forms_of_a_reference_read_back(reference):
    assert parse_hub_reference(str(reference)) == reference
    plain = str(HubReference(repository=reference.repository, inner=reference.inner))
    query = "" if reference.revision is None else f"?revision={reference.revision}"
    assert parse_hub_reference(f"hf://{plain}{query}") == reference


def test_a_pull_request_a_slash_at_the_end_and_an_escaped_revision_are_read():
    assert parse_hub_reference("org/repo@refs/pr/4") == HubReference(repository="org/repo", revision="refs/pr/4")
    assert parse_hub_reference("org/repo/sub/") == HubReference(repository="org/repo", inner="sub")
    assert parse_hub_reference("hf://org/repo?revision=refs%2Fpr%2F4").revision == "refs/pr/4"


@pytest.mark.parametrize(
    "reference",
    ["org/repo/../secret", "org/repo/a/../../b", "org/repo//etc/passwd", "org/repo/a\\b", "hf://org/repo/./a@v1"],
)
def test_a_path_that_leads_out_of_the_repository_is_refused(reference):
    with pytest.raises(ModelError, match="a path that leads out of the repository"):
        parse_hub_reference(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "repo",
        "org/",
        "/repo",
        "../repo",
        "org/..",
        "a b/c",
        "org/repo@",
        "hf://org",
        "hf://org/repo?branch=a",
        "@v1",
        "",
    ],
)
def test_what_is_no_name_is_refused(reference):
    with pytest.raises(ModelError, match="neither a local folder nor a name that the hub could have"):
        parse_hub_reference(reference)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        parsed = parse_hub_reference(text)
    except ModelError:
        return
    assert ".." not in parsed.inner.split("/")
    assert parsed.repository.count("/") == 1
