"""Listing folders: what is found and in which order, that each folder is read once, and what is believed of a file."""

import hashlib
import io
import multiprocessing
import os
import pickle
import random
import shutil
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from sslzoo.data import folders
from sslzoo.data.contents import hashes
from sslzoo.data.contents.hashes import Hashes
from sslzoo.data.contents.kept import Kept, Stamp
from sslzoo.data.given.places import list_folder
from sslzoo.data.listed.paths import Paths, relative, taken, texts_of
from sslzoo.data.listed.tree import IGNORED, Folder
from sslzoo.data.picture import is_picture
from sslzoo.show import waiting
from sslzoo.show.waiting import Waiting
from sslzoo.tools import files, progress
from sslzoo.tools.errors import UserError
from sslzoo.tools.progress import Work, listening

PICTURE = io.BytesIO()
Image.new("RGB", (8, 8), "red").save(PICTURE, "PNG")


def put(root: Path, *names: str, content: bytes | None = None) -> Path:
    """Files of these names, each of its own content unless it is given."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE.getvalue() + name.encode() if content is None else content)
    return root


def found(root: Path) -> list[str]:
    """The paths of all images below a folder, as the tree gives them."""
    return [path for _, run in Folder(root, Work("")).runs() for path in run]


def slow(root: Path) -> list[Path]:
    """The same with `pathlib` alone, each file asked for itself."""

    def walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
        above = (*above, folder.resolve())
        for path in folder.iterdir():
            if path.name.startswith(".") or path.name.lower() in IGNORED:
                continue
            if path.is_dir():
                if not (path.is_symlink() and any(one.is_relative_to(path.resolve()) for one in above)):
                    yield from walk(path, above)
            elif path.is_file() and is_picture(path.suffix.lower()):
                yield path

    return sorted(walk(root))


# ---- trees -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_tree_is_what_pathlib_says(seed: int, tmp_path: Path) -> None:
    """Of folders and names by chance: dots, blanks, capitals, links to files, to folders, to nowhere and up."""
    draw = random.Random(seed)
    places = [tmp_path / "set"]
    places[0].mkdir()
    for i in range(40):
        folder = draw.choice(places)
        stem = draw.choice(
            ["a", "a-", "a b", "A", "é", "e\u0301", "10", "9", ".x", "a.b", "lost+found", "\udcff"]
        ) + str(i % 7)
        stem = draw.choice([stem, "lost+found", "a"])
        if (path := folder / (stem + draw.choice(["", ".png", ".JPG", ".heic", ".", ".txt", ".png.txt"]))).exists():
            continue
        kind = draw.choice(["folder", "file", "file", "file", "link", "nowhere", "up", "loop", "pipe"])
        if os.path.lexists(path):
            continue
        if kind == "folder":
            path.mkdir()
            places.append(path)
        elif kind == "file":
            path.write_bytes(b"")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            inside = [one for one in places if one not in (folder, *folder.parents)]
            to = {"link": draw.choice([*inside, tmp_path / "x.png"]), "nowhere": "gone.png", "up": "..", "loop": path}
            path.symlink_to(to[kind])
    (tmp_path / "x.png").write_bytes(b"")
    assert found(tmp_path / "set") == [str(path) for path in slow(tmp_path / "set")]


def test_links_of_two_folders_to_each_other_are_followed_once(tmp_path: Path) -> None:
    """Neither lies in the other: without an end, `a/b/a/b/...` would give each picture forty times."""
    put(tmp_path, "set/a/1.png", "set/b/2.png")
    (tmp_path / "set/a/to_b").symlink_to("../b")
    (tmp_path / "set/b/to_a").symlink_to("../a")
    names = [os.path.relpath(path, tmp_path / "set") for path in found(tmp_path / "set")]
    assert names == ["a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png"]


def test_paths_are_in_order_of_their_parts(tmp_path: Path) -> None:
    """As `Path` sorts: a folder's files before those of a folder whose name goes on, though "-" is before "/"."""
    root = put(tmp_path, "a/z.png", "a-b/1.png", "a.png", "a/b/c.png", "a/a.png", "b.png", "a/b.png", "B/1.png")
    names = ["B/1.png", "a/a.png", "a/b/c.png", "a/b.png", "a/z.png", "a-b/1.png", "a.png", "b.png"]
    assert found(root) == [str(root / name) for name in names] == [str(path) for path in sorted(root.rglob("*.png"))]


@pytest.mark.parametrize("spelled", [".", "set", "./set", "set/", "set/../set", "//tmp"])
def test_paths_are_spelled_as_path_spells_them(spelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "set", "a/1.png")
    monkeypatch.chdir(tmp_path / "set" if spelled == "." else tmp_path)
    root = Path(str(tmp_path / "set").replace("/", "//", 1) if spelled == "//tmp" else spelled)
    (text,) = found(root)
    assert text == str(Path(text)) == str(root / "a" / "1.png")
    assert relative([text], root) == ["a/1.png"]


def test_each_folder_is_read_once_and_no_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = ("train", "val", "test", "beside")
    root = put(tmp_path / "set", *(f"{split}/{c}/{i}.png" for split in splits for c in "abc" for i in "123"))
    read, asked = Counter[str](), Counter[str]()
    scandir, stat = os.scandir, os.stat

    def scan(path: Any) -> Any:
        read[str(path)] += 1
        return scandir(path)

    def ask(path: Any, *given: Any, **more: Any) -> Any:
        asked[str(path)] += 1
        return stat(path, *given, **more)

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(os, "stat", ask)
    assert len(list_folder(root).train) == 9
    monkeypatch.undo()
    inside = {str(path) for path in (root, *root.rglob("*")) if path.is_dir()}
    assert {read[name] for name in inside} == {0, 1}
    assert {name for name in inside if not read[name]} == {f"{root}/beside/{c}" for c in "bc"}  # one image is enough
    assert not any(name.endswith(".png") for name in asked)


def test_a_folder_whose_files_cannot_be_reached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be listed (r) and not entered (x), so that the listing alone would find nothing wrong."""
    root, lstat = put(tmp_path, "a/1.png", "b/1.png"), os.lstat

    def denied(path: Any) -> Any:
        if Path(path).parent.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path)

    monkeypatch.setattr(os, "lstat", denied)
    with pytest.raises(UserError, match=r"b/1\.png cannot be listed \(Permission denied\)"):
        list_folder(root)


def test_names_of_equal_numbers_have_one_order(tmp_path: Path) -> None:
    """Whatever the order of a set of texts, which is another in each process."""
    root = put(tmp_path, *(f"{name}/1.png" for name in ("1", "01", "001", "2", "10", "a1", "a01")))
    assert list_folder(root).names == ["001", "01", "1", "2", "10", "a01", "a1"]


def test_labels_are_those_of_the_folders(tmp_path: Path) -> None:
    """Also of a name that is written in two ways, of folders below, and of images beside the classes."""
    folders = ("e\u0301", "\u00e9", "10/x", "9")
    root = put(tmp_path, *(f"{name}/{i}.png" for name in folders for i in range(6)), "5.png", "z.png")
    listing = list_folder(root)
    assert listing.names == ["9", "10", "\u00e9"]
    labels = listing.train.labels
    assert labels is not None
    for path, label in zip(listing.train.images.paths, labels.tolist(), strict=True):
        parts = path.relative_to(root).parts
        assert label == (-1 if len(parts) == 1 else {"9": 0, "10": 1}.get(parts[0], 2))


def test_a_listing_is_of_the_folder_as_it_is_now(tmp_path: Path) -> None:
    """Whatever its times say: nothing of a listing is kept."""
    root = put(tmp_path / "set", *(f"{c}/{i}.png" for c in "ab" for i in range(3)))
    before = [os.stat(path) for path in (root, root / "a")]
    assert len(list_folder(root).train) == 6
    put(root, "a/new.png")
    (root / "b" / "0.png").unlink()
    (root / "b" / "1.png").rename(root / "b" / "other.png")
    for path, state in zip((root, root / "a"), before, strict=True):  # a clock set back, or too coarse
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    names = ["a/0.png", "a/1.png", "a/2.png", "a/new.png", "b/2.png", "b/other.png"]
    assert relative(texts_of(list_folder(root).train.images.paths), root) == names
    (tmp_path / "set").rename(tmp_path / "old")  # another folder in its place, with its times
    put(root, "c/1.png")
    os.utime(root, ns=(before[0].st_atime_ns, before[0].st_mtime_ns))
    assert relative(texts_of(list_folder(root).train.images.paths), root) == ["c/1.png"]


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_paths_are_a_sequence() -> None:
    paths = Paths(["a/1.png", "a/2.png", "b/3.png"])
    assert [*paths] == [Path("a/1.png"), Path("a/2.png"), Path("b/3.png")]
    assert (paths[-1], [*paths[::2]], len(paths), bool(Paths())) == (Path("b/3.png"), [paths[0], paths[2]], 3, False)
    assert [*taken(paths, [2, 0])] == [*taken([*paths], [2, 0])] == [paths[2], paths[0]]
    assert Path("a/2.png") in paths
    assert [*pickle.loads(pickle.dumps(paths))] == [*paths]


def test_what_is_below_a_folder_is_said_from_there() -> None:
    assert relative(["/x/a/1.png", "/y/2.png", "/x/a"], Path("/x")) == ["a/1.png", "../y/2.png", "a"]
    assert relative(["a/1.png", "../2.png"], Path()) == ["a/1.png", "../2.png"]
    assert relative(["/x/a/1.png"], Path("/")) == ["x/a/1.png"]
    assert relative(["x/a/1.png", "x"], None) == ["1.png", "x"]


# ---- stamps ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file's times be believed at once."""
    monkeypatch.setattr(hashes, "SETTLED", 0)


def sha1(path: Path) -> bytes:
    return hashlib.sha1(path.read_bytes()).digest()


def test_stamps_come_back_whatever_the_names(tmp_path: Path) -> None:
    """Letters that are no UTF-8, line ends, and nothing at all."""
    stamps = {
        name: Stamp(os.urandom(52)) for name in ("a/1.png", "a\n\t.png", os.fsdecode(b"\xff\xfe.png"), "\u00e9.png")
    }
    Kept.of(stamps).write(tmp_path / "kept")
    assert Kept.read(tmp_path / "kept") == stamps
    Kept().write(tmp_path / "none")
    assert Kept.read(tmp_path / "none") == {}


def test_new_stamps_stand_in_for_old_ones() -> None:
    one, two, three = (Stamp(bytes([i]) * 52) for i in range(3))
    joined = Kept.of({"a": one, "b": two}).joined(Kept.of({"c": one, "b": three}))
    assert joined == {"a": one, "b": three, "c": one}
    assert joined.among(["c", "x", "b"]) == [one, None, three]


def test_every_changed_byte_of_the_cache_is_noticed(tmp_path: Path) -> None:
    Kept.of({"a/1.png": Stamp(bytes(range(52)))}).write(tmp_path / "kept")
    content = (tmp_path / "kept").read_bytes()
    for place in range(len(content)):
        (tmp_path / "kept").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert Kept.read(tmp_path / "kept") == {}
        (tmp_path / "kept").write_bytes(content[:place])
        assert Kept.read(tmp_path / "kept") == {}


@pytest.mark.usefixtures("settled")
def test_what_is_known_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path, *(f"{i // 100}/{i}.png" for i in range(700)))
    texts = found(root)
    right = [sha1(Path(text)) for text in texts]
    assert Hashes(root).digests(texts) == right
    again = Hashes(root)
    monkeypatch.setattr(files, "read_with_state", None)
    assert again.digests(texts) == right
    assert again.known_among([*texts, str(root / "gone.png")]) == [*right, None]


CHANGES: dict[str, Callable[[Path], object]] = {
    "in place, with its times": lambda path: _in_place(path),
    "another file of its size and times": lambda path: _moved_in(path),
    "touched": os.utime,
    "a link to another": lambda path: (path.unlink(), path.symlink_to(path.parent / "2.png")),
    "its folder made anew": lambda path: _made_anew(path.parent),
    "its times set back": lambda path: os.utime(path, ns=(0, 0)),
    "its times beyond what 64 bits hold": lambda path: os.utime(path, ns=(2**63, 2**63)),
}


def _in_place(path: Path) -> None:
    """Change a byte, and set back the time of the content, as some tools do."""
    state = os.stat(path)
    with path.open("r+b") as file:
        file.seek(3)
        file.write(b"!")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def _moved_in(path: Path) -> None:
    state = os.stat(path)
    other = put(path.parent, "other", content=bytes(state.st_size)) / "other"
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(path)


def _made_anew(folder: Path) -> None:
    state = os.stat(folder)
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    _moved_in(folder.with_name("copy") / "1.png")
    folder.with_name("copy").rename(folder)
    os.utime(folder, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_may_have_changed_is_read_again(change: str, tmp_path: Path) -> None:
    root = put(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    Hashes(root).digests(found(root))
    try:
        CHANGES[change](root / "a" / "1.png")
    except OverflowError:
        pytest.skip("the file system has no such times")
    later = Hashes(root)
    assert later.known(root / "a/1.png") is None
    assert later.digests(found(root)) == [sha1(Path(text)) for text in found(root)]


def test_a_time_that_does_not_fit_holds_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path, "1.png")
    monkeypatch.setattr(hashes, "SETTLED", -(10**30))
    monkeypatch.setattr("sslzoo.data.contents.kept.STATE", struct.Struct("<QqqB"))  # into which no time of ours goes
    assert Hashes(root).digests(found(root)) == [sha1(root / "1.png")]
    assert Hashes(root).kept == {}


@pytest.mark.usefixtures("settled")
def test_links_are_known_by_what_they_lead_to(tmp_path: Path) -> None:
    put(tmp_path / "far", "1.png", "2.png")
    root = tmp_path / "set"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "far")
    (root / "3.png").symlink_to(tmp_path / "far" / "1.png")
    Hashes(root).digests(found(root))
    assert None not in Hashes(root).known_among(found(root))
    _in_place(tmp_path / "far" / "1.png")
    assert [one is None for one in Hashes(root).known_among(found(root))] == [True, True, False]


@pytest.mark.usefixtures("settled")
def test_what_is_read_is_kept_where_reading_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl-C in an hour of a network drive, say."""
    root, read, number = put(tmp_path, *(f"{i}.png" for i in range(20))), files.read_with_state, iter(range(100))
    monkeypatch.setattr(hashes, "CHUNK", 4)
    monkeypatch.setattr(hashes, "readers", lambda: 1)

    def broken(text: str, most: int) -> Any:
        if next(number) == 10:
            raise KeyboardInterrupt
        return read(text, most)

    monkeypatch.setattr(files, "read_with_state", broken)
    with pytest.raises(KeyboardInterrupt):
        Hashes(root).digests(found(root))
    assert len(Hashes(root).kept) >= 10


def _add(root: Path, number: int) -> None:
    hashes.SETTLED = 0
    own = [text for text in found(root) if Path(text).stem.startswith(str(number))]
    for text in own:
        one = Hashes(root)
        one.of(text)
        one.save()


def test_processes_that_write_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    """What one of them adds may be lost, and is read again; nothing is ever wrong."""
    root = put(tmp_path, *(f"{n}-{i}.png" for n in range(4) for i in range(15)))
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    running = [context.Process(target=_add, args=(root, n)) for n in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * 4
    kept = Hashes(root).kept
    assert kept
    assert all(stamp[:20] == sha1(root / name) for name, stamp in kept.items())


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_is_gone_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "file")
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "file"))
    root = put(tmp_path / "set", *(f"{c}/{i}.png" for c in "ab" for i in range(40)))
    one = Hashes(root)
    assert one.digests(found(root)) == [sha1(Path(text)) for text in found(root)]
    assert None not in one.known_among(found(root))
    assert "no test split" in " ".join(folders.read_folder(root, None).notes)


# ---- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int | None]]:
    """What is heard of work that tells of itself at once and always."""
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "OFTEN", 0)
    return []


def test_short_work_says_nothing() -> None:
    heard: list[Any] = []
    with listening(lambda *said: heard.append(said)), Work("x", 3) as work:
        work.add(3)
    assert heard == []


def test_listing_and_reading_tell_how_far_they_are(at_once: list[Any], tmp_path: Path) -> None:
    root = put(tmp_path, *(f"{c}/{i}.png" for c in "abc" for i in range(200)))
    with listening(lambda *said: at_once.append(said)):
        folders.read_folder(root, None)
    for name, totals in (("files listed", {None, 600}), ("contents of files", {600})):
        told = [said[1:] for said in at_once if said[0] == name]
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert {total for _, total in told} == totals
        assert told[-1] == (600, 600)


def test_the_last_who_listens_hears_and_only_as_long_as_it_does(at_once: list[Any]) -> None:
    def tell(name: str) -> None:
        with Work(name, 1) as work:
            work.add(1)

    first: list[Any] = []
    with listening(lambda *said: first.append(said[0])):
        with listening(lambda *said: at_once.append(said[0])):
            tell("inner")
        tell("outer")
    tell("nobody")
    assert ({*at_once}, {*first}) == ({"inner"}, {"outer"})


def test_a_terminal_shows_it_and_is_left_as_it_was(at_once: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, with the time that is left; elsewhere there is nothing."""
    for terminal in (True, False):
        text = io.StringIO()
        out = Console(file=text, force_terminal=terminal, width=100)
        monkeypatch.setattr(waiting, "console", lambda stderr, out=out: out)
        with Waiting() as shown, listening(shown.at), Work("contents of files", 7) as work:
            work.add(3)
            assert shown.bar is not None
            shown.bar.progress.refresh()
            work.add(4)
        assert shown.bar is None
        assert ("contents of files" in text.getvalue() and "3/7" in text.getvalue()) == terminal
        assert terminal or not text.getvalue().strip()


def test_a_command_prints_no_more_where_there_is_no_terminal(
    at_once: list[Any], tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    root = put(tmp_path / "set", *(f"{c}/{i}.png" for c in "ab" for i in range(40)))
    words = ("train", "simsiam", "--data", str(root), "--device", "cpu", "--dry-run", "--json")
    result = run_cli(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert not at_once
