"""Damage of every kind is found, named, and healed by making the shard anew."""

import hashlib
import io
import json
import shutil
from dataclasses import asdict, replace

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty, record_of
from tracer.errors import ArtifactError, RunError
from tracer.files.writing import write_file
from tracer.run import pipeline
from tracer.run.folder import claimed
from tracer.run.ledger import read_receipt
from tracer.run.verifying import heal, verify
from tracer.storage.store import open_store
from tracer.tables.database import connect
from tracer.tables.equality import compare_tables
from tracer.tables.parts import Part


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    config = begin_tiny_run(root)
    pipeline.run(config, root, inline=True, console=Console(file=io.StringIO()), make_worker=TinyWorker)
    return config, root


@pytest.fixture
def run(undisturbed, tmp_path):
    """A copy of a finished run: configuration and folder."""
    config, root = undisturbed
    shutil.copytree(root, tmp_path / "run")
    return config, tmp_path / "run"


def finish(config, root, make_worker=TinyWorker):
    return pipeline.run(config, root, inline=True, console=Console(file=io.StringIO()), make_worker=make_worker)


def part_of(root, place: int, table: str):
    shard = record_of(root).shards[place]
    return root / read_receipt(open_store(root), shard.shard_id).parts[table].path


def rewrite(root, place: int, change) -> None:
    """Change one receipt."""
    path = root / "shards" / f"{record_of(root).shards[place].shard_id}.json"
    write_file(path, json.dumps(asdict(change(read_receipt(open_store(root), path.stem)))).encode())


def truncate(root):
    part = part_of(root, 1, "nodes")
    part.write_bytes(part.read_bytes()[:-20])


def delete(root):
    part_of(root, 1, "edges").unlink()


def swap(root):
    one, other = part_of(root, 1, "graphs"), part_of(root, 2, "graphs")
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def flip_a_bit(root):
    part = part_of(root, 1, "examples")
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)


def cut_the_receipt(root):
    path = root / "shards" / f"{record_of(root).shards[1].shard_id}.json"
    path.write_text(path.read_text()[:50])


def exchange_receipts(root):
    one, other = (root / "shards" / f"{record_of(root).shards[place].shard_id}.json" for place in (1, 2))
    content = one.read_text()
    one.write_text(other.read_text())
    other.write_text(content)


def forget_a_table(root):
    rewrite(root, 1, lambda receipt: replace(receipt, parts=dict(list(receipt.parts.items())[1:])))


def take_prompts_of_another_shard(root):
    def change(receipt):
        path = part_of(root, 1, "prompts")
        shutil.copy(part_of(root, 2, "prompts"), path)
        other = read_receipt(open_store(root), record_of(root).shards[2].shard_id).parts["prompts"]
        part = Part(table="prompts", path=str(path.relative_to(root)), n_rows=other.n_rows, sha256=other.sha256)
        return replace(receipt, parts=receipt.parts | {"prompts": part})

    rewrite(root, 1, change)


def lose_a_graph(root):
    def change(receipt):
        path = part_of(root, 1, "graphs")
        schema = pq.read_schema(path).metadata
        rows = pq.read_table(path).slice(1).replace_schema_metadata(schema)
        pq.write_table(rows, path)
        part = replace(
            receipt.parts["graphs"], n_rows=rows.num_rows, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
        )
        return replace(receipt, parts=receipt.parts | {"graphs": part})

    rewrite(root, 1, change)


def test_an_undamaged_run_is_whole_and_looking_changes_nothing(undisturbed):
    _, root = undisturbed
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    found = verify(root)
    assert (found.n_shards, found.n_receipts, found.results, found.damages) == (4, 4, "looked at", ())
    assert found.n_parts == len(list((root / "parts").glob("*.parquet")))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("damage", "table", "words", "n_shards"),
    [
        (truncate, "nodes", "a damaged file", 1),
        (delete, "edges", "no such file", 1),
        (swap, "graphs", "sha256", 2),
        (flip_a_bit, "examples", "", 1),
        (cut_the_receipt, "receipt", "JSON written by tracer", 1),
        (exchange_receipts, "receipt", "a receipt of shard", 2),
        (forget_a_table, "receipt", "expected a part of every table", 1),
        (take_prompts_of_another_shard, "prompts", ": other prompts; expected those of the shard", 1),
        (lose_a_graph, "receipt", "6 prompts, 5 graphs and 0 failures", 1),
    ],
)
def test_a_damaged_shard_is_named_and_its_receipt_moved_away(damage, table, words, n_shards, run):
    _, root = run
    damage(root)
    found = verify(root)
    shards = sorted(record_of(root).shards[place].shard_id for place in (1, 2)[:n_shards])
    of_shards = [entry for entry in found.damages if entry.table != "results"]
    assert [entry.shard_id for entry in of_shards] == shards
    assert {entry.table for entry in of_shards} == {table}
    assert all(words in str(entry) and f"shard {entry.shard_id}" in str(entry) for entry in of_shards)
    assert heal(root) == (found, ())
    assert verify(root).n_receipts == 4 - n_shards
    assert {path.name.split("-")[0] for path in (root / "damaged").iterdir()} == set(shards)


def test_damaged_shards_are_made_anew_with_equal_tables(run, undisturbed):
    config, root = run
    truncate(root)
    delete(root)
    swap(root)
    before = {path.name: path.read_text() for path in (root / "shards").iterdir()}
    assert [(entry.shard_id, entry.table) for entry in heal(root)[0].damages] == [
        (shard.shard_id, table)
        for shard, tables in sorted(
            zip(record_of(root).shards[1:3], (("graphs", "nodes", "edges"), ("graphs",)), strict=True),
            key=lambda pair: pair[0].shard_id,
        )
        for table in tables
    ]
    finish(config, root)
    after = {path.name: path.read_text() for path in (root / "shards").iterdir()}
    assert sum(after[name] == text for name, text in before.items()) == 2
    assert verify(root).damages == ()
    assert compare_tables(undisturbed[1] / "results.duckdb", root / "results.duckdb") == []


def test_a_stray_receipt_is_found_and_moved_away(run):
    _, root = run
    shutil.copy(next((root / "shards").iterdir()), root / "shards" / "0123456789abcdef.json")
    (damage,) = heal(root)[0].damages
    assert (damage.shard_id, damage.table) == ("0123456789abcdef", "receipt")
    assert verify(root).damages == ()


def test_results_that_were_made_of_other_shards_or_lost_rows_are_found_and_made_anew(run, undisturbed):
    config, root = run
    (root / "shards" / f"{record_of(root).shards[0].shard_id}.json").unlink()
    (damage,) = verify(root).damages
    assert "results.duckdb made from other shards" in str(damage)
    finish(config, root)
    assert verify(root).damages == ()
    with connect(root / "results.duckdb", read_only=False) as connection:
        connection.execute("DELETE FROM edges WHERE graph_id = (SELECT min(graph_id) FROM edges)")
    (damage,) = verify(root).damages
    assert damage.table == "results"
    assert "rows of `edges`" in damage.found
    heal(root)
    finish(config, root)
    assert verify(root).damages == ()
    assert compare_tables(undisturbed[1] / "results.duckdb", root / "results.duckdb") == []


def test_results_that_cannot_be_opened_are_found_and_made_anew(run):
    config, root = run
    database = root / "results.duckdb"
    database.write_bytes(database.read_bytes()[:5000])
    (damage,) = heal(root)[0].damages
    assert damage.table == "results"
    finish(config, root, make_worker=lambda config: pytest.fail("a worker was made"))
    assert verify(root).damages == ()


def test_failures_of_shards_that_were_given_up_belong_to_the_results(tmp_path):
    root = tmp_path / "a" / "run"
    root.parent.mkdir()
    config = begin_tiny_run(root, max_attempts=1)
    finish(config, root, make_worker=faulty("raise", tmp_path / "fault", number=7, n_times=9))
    found = verify(root)
    assert (found.n_receipts, found.damages, found.results) == (3, (), "looked at")


def test_a_damaged_corpus_is_beyond_healing_and_moves_nothing(run):
    _, root = run
    delete(root)
    file = next((root / "corpus").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-10])
    found, left = heal(root)
    assert left == found.damages
    assert {damage.table for damage in left} == {"corpus", "edges"}
    assert not (root / "damaged").exists()


def test_while_a_driver_works_shards_are_verified_and_nothing_is_healed(run):
    _, root = run
    truncate(root)
    with claimed(root):
        found = verify(root)
        assert [damage.table for damage in found.damages] == ["nodes"]
        assert "while a driver works (process" in found.results
        with pytest.raises(RunError, match="another driver of this run"):
            heal(root)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no run\.json"):
        verify(tmp_path)
    assert tmp_path.is_dir()
