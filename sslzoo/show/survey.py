"""What a folder of images holds, as a page."""

from typing import TYPE_CHECKING

from .plain import console, escape, table

if TYPE_CHECKING:  # which needs torch, and a screen starts at once
    from ..data.survey import Report

WORDS = {
    "animated": "animated (the first frame counts)",
    "transparent": "transparent (on white)",
    "turned by EXIF": "turned as EXIF says",
    "12 bits": "of 12 bits",
    "16 bits": "of 16 bits",
    "signed 8 bits": "of signed 8 bits",
    "signed 16 bits": "of signed 16 bits",
    "32-bit integers": "of 32-bit integers",
    "floats": "of floats",
}
ALONE = {  # of what there may be one
    "hidden folders": "hidden folder",
    "hidden files": "hidden file",
    "broken links": "broken link",
    "images outside the classes and splits": "image outside the classes and splits",
    "other files": "other file",
}
SHOWN = 20  # files of a list, and classes of a table


def survey_page(report: "Report") -> None:
    """Print splits and classes, sizes, what cannot be read, what deserves a word, and equal images."""
    out, splits = console(), report.splits

    def say(text: str) -> None:
        out.print(escape(text), soft_wrap=True)

    totals = ", ".join(f"{split.images:,} in {name}" for name, split in splits.items())
    say(f"{report.images:,} {'image' if report.images == 1 else 'images'}" + (f": {totals}" if totals else ""))
    names = list(next(iter(splits.values())).classes) if splits else []
    if names:
        made = table("class", *splits, title=f"{len(names):,} classes" if len(names) > 1 else "1 class")
        for name in names[:SHOWN]:
            made.add_row(escape(name), *(f"{split.classes.get(name, 0):,}" for split in splits.values()))
        if len(names) > SHOWN:
            made.add_row(f"and {len(names) - SHOWN:,} more")
        out.print(made)
    if (px := report.measured) is not None:
        sides = ", ".join(
            f"{name} {side.min} to {side.max} (median {side.median})"
            for name, side in (("width", px.width), ("height", px.height))
        )
        smaller = "1 image is smaller" if px.smaller == 1 else f"{px.smaller:,} images are smaller"
        say(f"px: {sides}; a view has {px.view}, and {smaller}")
    for head, counts in (("read, and worth a word", report.kinds), ("skipped", report.skipped)):
        if counts:
            say(f"{head}: " + ", ".join(f"{n:,} {worded(kind, n)}" for kind, n in counts.items()))
    for name, n in report.duplicates.within.items():
        if n:
            say(f"equal images: {n:,} in {name} that {'is' if n == 1 else 'are'} there already")
    if (n := report.duplicates.across) > 0:
        are, them = ("is", "it") if n == 1 else ("are", "them")
        say(f"leak: {n:,} of test {are} in train too; remove {them} from one of the two")
    for note in report.notes:
        say(f"note: {note}")
    if report.unreadable:
        say(f"{len(report.unreadable):,} cannot be read:")
        for one in report.unreadable[:SHOWN]:
            say(f"  {one.path}: {one.reason}")
        if len(report.unreadable) > SHOWN:
            say(f"  and {len(report.unreadable) - SHOWN:,} more; --json lists all")
    if report.ok:
        say("a run would train" + (" and leave out what cannot be read" if report.unreadable else ""))


def worded(kind: str, number: int) -> str:
    """Return what so many files of a kind are called."""
    return ALONE[kind] if number == 1 and kind in ALONE else WORDS.get(kind, kind)
