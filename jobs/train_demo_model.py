"""Trains the embedded demo model and both transcoder sets from a seed, measures them, and checks the floors.

    python jobs/train_demo_model.py --out /absolute/folder --seed 0

Writes `language_model/`, `per_layer/` and `cross_layer/` in the public formats, `card.json` and the model card
`README.md`; exits 1 when a floor does not hold. Setting MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ high and
OMP_WAIT_POLICY=passive saves some time.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from tracer.intervene.atlas_card import check_floors, measure_card, render_card
from tracer.intervene.atlas_measures import held_out_pairs
from tracer.model.demo.dictionary import DictionaryRecipe, train_dictionary
from tracer.model.demo.export import write_dictionary, write_language_model
from tracer.model.demo.language_model import LanguageModelRecipe, train_language_model
from tracer.model.demo.text import build_tokenizer
from tracer.model.replacement import ReplacementModel


def main() -> int:
    """Train, write, measure, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out, started = arguments.out, time.time()
    recipe = LanguageModelRecipe()
    tokenizer = build_tokenizer(recipe.n_ctx)
    model = train_language_model(recipe, tokenizer, arguments.seed)
    write_language_model(model, tokenizer, out / "language_model")
    cards, all_hold = {}, True
    for kind in ("per_layer", "cross_layer"):
        dictionary = train_dictionary(
            model, tokenizer, DictionaryRecipe(cross_layer=kind == "cross_layer"), arguments.seed
        )
        write_dictionary(dictionary, out / kind)
        replacement = ReplacementModel.from_pretrained(out / "language_model", out / kind)
        cards[kind] = measure_card(replacement, held_out_pairs(replacement, 200))
        for floor, value, holds in check_floors(cards[kind]):
            print(f"{kind}: {floor.figure} {value:.3f} {'holds' if holds else 'DOES NOT HOLD'} ({floor})", flush=True)
            all_hold &= holds
        (out / "card.json").write_text(json.dumps(cards, indent=1), encoding="utf-8")
    (out / "README.md").write_text(render_card({f"Seed {arguments.seed}": cards}), encoding="utf-8")
    print(f"{time.time() - started:.0f} s; {'every floor holds' if all_hold else 'a floor does not hold'}")
    return 0 if all_hold else 1


if __name__ == "__main__":
    raise SystemExit(main())
