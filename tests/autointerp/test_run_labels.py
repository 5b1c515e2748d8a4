"""Labels of a whole run: which features, true figures, failures as rows, nothing of the corpus's metadata."""

import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from tests.tables.tiny_prompts import STATES, draw_prompts
from tracer.autointerp import evidence as evidence_module
from tracer.autointerp.evidence import read_evidence
from tracer.autointerp.labeller import Evidence, Label
from tracer.autointerp.rules import RuleLabeller
from tracer.autointerp.run_labels import label_features
from tracer.errors import ArtifactError
from tracer.tables.database import query


class Picky:
    """Labels nothing of layer 1."""

    name = "picky"
    version = "1"

    def label(self, evidence: Sequence[Evidence]) -> list[Label]:
        """Raises on layer 1."""
        if any(one.layer == 1 for one in evidence):
            raise ValueError("layer 1")
        return [
            Label(layer=one.layer, feature=one.feature, label="x", description="", kind="unclear", provenance="")
            for one in evidence
        ]


def test_every_feature_of_a_graph_has_one_rule_label(tiny_results: Path) -> None:
    labels = query(tiny_results, "SELECT layer, feature FROM labels WHERE method = 'rule' AND target_kind = 'feature'")
    features = query(tiny_results, "SELECT layer, feature FROM features WHERE support >= 1")
    assert labels.rows() == features.rows()


def test_known_features_get_the_labels_of_what_they_are(tiny_results: Path) -> None:
    labels = {
        (layer, feature): rest
        for layer, feature, *rest in query(
            tiny_results, "SELECT layer, feature, kind, rule_kind, rule_tokens, label FROM labels"
        ).rows()
    }
    for state_idx, (state, (capital, cities)) in enumerate(STATES.items()):
        for layer, rule_kind in enumerate(("at", "before", "context")):
            kind, found_rule, tokens, text = labels[layer, state_idx]
            assert (kind, found_rule, sorted(tokens)) == ("both", rule_kind, sorted(f" {city}" for city in cities))
            assert text.startswith(f"says ·{state}, ·{capital} ← ")
    assert labels[0, 10][-1] == "on ·the"
    assert labels[2, 10][0] == "unclear"


def test_precision_and_recall_hold_over_all_positions_of_the_run(tiny_results: Path) -> None:
    prompts = draw_prompts(60)
    n_checked = 0
    for layer, feature, rule_kind, tokens, precision, recall in query(
        tiny_results,
        "SELECT layer, feature, rule_kind, rule_tokens, precision, recall FROM labels WHERE rule_kind IS NOT NULL",
    ).rows():
        fires = holds = both = 0
        for prompt in prompts:
            for pos in range(1, len(prompt.tokens)):
                place = {
                    "at": prompt.tokens[pos : pos + 1],
                    "before": prompt.tokens[pos - 1 : pos],
                    "context": prompt.tokens[:pos],
                }
                rule, active = bool(set(place[rule_kind]) & set(tokens)), (layer, pos, feature) in prompt.activations
                fires, holds, both = fires + active, holds + rule, both + (rule and active)
        assert (precision, recall) == (pytest.approx(both / holds), pytest.approx(both / fires))
        n_checked += 1
    assert n_checked > 20


def test_evidence_holds_no_metadata_and_only_examples_meant_to_explain(
    tiny_results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_module, "FEATURES_AT_ONCE", 7)
    batches = list(read_evidence(tiny_results))
    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 1]
    names = {field.name for field in fields(Evidence)}
    assert not names & {"task", "state", "city", "split", "metadata", "answer"}
    n_explain = query(tiny_results, "SELECT count(*) FROM examples WHERE split = 'explain'").item()
    n_all = query(tiny_results, "SELECT count(*) FROM examples").item()
    examples = [example for batch in batches for one in batch for example in one.examples]
    assert len(examples) == n_explain < n_all
    for one in (one for batch in batches for one in batch):
        assert one.examples[0].activations[one.examples[0].peak_idx] <= one.activation_max
        assert sum(token.fired_at for token in one.tokens) == one.n_firings


def test_a_feature_that_cannot_be_labelled_is_a_failure_and_the_others_go_on(
    tiny_results: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(tiny_results, tmp_path))
    n_layer_1 = query(path, "SELECT count(*) FROM features WHERE layer = 1 AND support >= 1").item()
    n_written = label_features(path, Picky())
    assert set(query(path, "SELECT layer FROM labels WHERE method = 'picky'")["layer"]) == {0, 2}
    assert query(path, "SELECT count(*) FROM labels WHERE method = 'picky'").item() == n_written
    failures = query(
        path, "SELECT item_id, error_class, message FROM failures WHERE stage = 'label' ORDER BY item_id"
    ).rows()
    assert len(failures) == n_layer_1
    assert failures[0] == ("picky layer 1 feature 0", "ValueError", "layer 1")
    assert query(path, "SELECT n_failures FROM runs").item() == 1 + n_layer_1


def test_labelling_again_changes_nothing(tiny_results: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_results, tmp_path))
    before = query(path, "SELECT * FROM labels")
    assert label_features(path, RuleLabeller()) == before.height
    assert query(path, "SELECT * FROM labels").equals(before)
    assert {file.name for file in tmp_path.iterdir()} == {"results.duckdb"}


def test_features_in_no_graph_are_not_labelled(tiny_results: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_results, tmp_path))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE features SET support = 0 WHERE layer <> 2 OR feature <> 1")
    assert label_features(path, RuleLabeller()) == 1


def test_an_absent_results_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        label_features(tmp_path / "results.duckdb", RuleLabeller())
