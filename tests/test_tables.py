"""Tables as JSON: what is printed and kept has its keys, their order and its values, as the files in `tables/` say.

These were made by the version before the tables were records; the trained runs are made up, as in `test_ablate.py`.
"""

import json
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "tables"
QUICK = ("--device", "cpu", "--precision", "float32", "--limit", "64", "--batch-size", "16")
STUDY = """
title = "Mine"
source = "Table 9"
paper = "https://arxiv.org/abs/2011.10566"
question = "Is it so?"
data = "digits"
epochs = 8
seeds = 2
"""
VARIANTS = "".join(
    f'[[variants]]\nlabel = "{label}"\nexpression = "{label}"\npublished = "{published}"\n'
    for label, published in (
        ("simsiam", "67.7 ± 0.1"),
        ("byol", "0.1"),
        ("simclr", "70"),
        ("moco_v2", ""),
        ("swav", "NaN"),
    )
)
COMMANDS = {
    "ablate": ("ablate", "simsiam", "--flip", "stop_gradient,momentum", "--flip", "predictor_lr_scale=1|2.5", *QUICK,
               "--epochs", "1", "--seeds", "2"),
    "study": ("study", "variants.toml", *QUICK, "--epochs", "1"),
    "lattice": ("study", "lattice.toml", *QUICK, "--seeds", "1"),
}  # fmt: skip


def lines(content: dict) -> str:
    """An object as JSON, a line a key, and a line an object in its lists; without what differs by machine and day."""
    content = {key: {} if key == "versions" else value for key, value in content.items()}
    parts = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in value) + "\n]"
        parts.append(f"{json.dumps(key)}: {text}")
    whole = "{\n" + ",\n".join(parts) + "\n}\n"
    whole = re.sub(r'"seconds": [-+.e\d]+', '"seconds": 0.0', whole)
    hashes = list(dict.fromkeys(re.findall(r"(?<![0-9a-f])[0-9a-f]{8}(?![0-9a-f])", whole)))
    for number, one in enumerate(hashes):
        whole = whole.replace(one, f"{number:08}")
    return whole


@pytest.mark.parametrize("name", COMMANDS)
def test_a_table_as_printed_and_as_kept(name, loaded, trained, tmp_path):
    (tmp_path / "variants.toml").write_text(STUDY + VARIANTS)
    (tmp_path / "lattice.toml").write_text(STUDY + 'base = "simsiam"\nflip = "predictor,heads.hidden=64|128"\n')
    trained.diverging = {"simsiam - stop_gradient predictor_lr_scale=1", "swav"}
    found = loaded(*COMMANDS[name])
    kept = json.loads((Path(found["folder"]) / "cells.json").read_text())
    assert lines(found) == (HERE / f"{name}.json").read_text(encoding="utf-8")
    assert lines(kept) == (HERE / f"{name}-kept.json").read_text(encoding="utf-8")
