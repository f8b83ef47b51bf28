"""What a folder of images holds, as a page."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from .plain import console, table

WORDS = {
    "animated": "animated (the first frame counts)",
    "transparent": "transparent (what lies below is seen)",
    "turned by EXIF": "turned as EXIF says",
    "16 bits": "of 16 bits (scaled to 8)",
}
SHOWN = 20  # files of a list, and classes of a table


def survey_page(report: Mapping[str, Any]) -> None:
    """Splits and classes, sizes, what cannot be read, what deserves a word, and equal images."""
    out, splits = console(), report["splits"]

    def say(text: str) -> None:
        out.print(escape(text), soft_wrap=True)

    totals = ", ".join(f"{split['images']:,} in {name}" for name, split in splits.items())
    say(f"{report['images']:,} images" + (f": {totals}" if totals else ""))
    names = list(next(iter(splits.values()))["classes"]) if splits else []
    if names:
        made = table("class", *splits, title=f"{len(names):,} classes" if len(names) > 1 else "1 class")
        for name in names[:SHOWN]:
            made.add_row(escape(name), *(f"{split['classes'].get(name, 0):,}" for split in splits.values()))
        if len(names) > SHOWN:
            made.add_row(f"and {len(names) - SHOWN:,} more")
        out.print(made)
    if report["sizes"]:
        sizes = report["sizes"]
        sides = (
            f"{key} {sizes[key]['min']} to {sizes[key]['max']} (median {sizes[key]['median']})"
            for key in ("width", "height")
        )
        say(f"px: {', '.join(sides)}; a view has {sizes['view']}, and {sizes['smaller']:,} images are smaller")
    for key, head in (("kinds", "read, and worth a word"), ("skipped", "skipped")):
        if report[key]:
            say(f"{head}: " + ", ".join(f"{n:,} {WORDS.get(kind, kind)}" for kind, n in report[key].items()))
    equal = report["duplicates"]
    for name, n in equal["within"].items():
        if n:
            say(f"equal images: {n:,} in {name} that are there already")
    if equal["across"]:
        say(f"leak: {equal['across']:,} of test are in train too; remove them from one of the two")
    for note in report["notes"]:
        say(f"note: {note}")
    if report["bad"]:
        say(f"{len(report['bad']):,} cannot be read:")
        for one in report["bad"][:SHOWN]:
            say(f"  {one['path']}: {one['reason']}")
        if len(report["bad"]) > SHOWN:
            say(f"  and {len(report['bad']) - SHOWN:,} more; --json lists all")
    if report["ok"]:
        say("a run would train" + (" and leave out what cannot be read" if report["bad"] else ""))
