"""Data in forms that are wrong in one way each: each is refused in a sentence that names the mend, or read rightly."""

import csv
import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sslzoo.data import sets
from sslzoo.data.formats.spelling import Spelled, expanded, from_anywhere, is_gone
from sslzoo.data.packed import arrow, index
from sslzoo.tools.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def png(seed: int, size: int = 16) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def pictures(root: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(i))


def tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def samples(n: int, label: bool = True, start: int = 0) -> list[tuple[str, bytes]]:
    found = []
    for i in range(start, start + n):
        found.append((f"{i:04}.png", png(i)))
        found += [(f"{i:04}.cls", str(i % 2).encode())] if label else []
    return found


def refused(data: object, *words: str) -> str:
    with pytest.raises(UserError) as found:
        sets.load(str(data))
    text = str(found.value)
    assert text.endswith(".")
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


# ---- a CSV of paths --------------------------------------------------------------------------------------------------

ODD = ["a/été 1.png", "a/日本, 2.png", 'a/quo"te.png', "b/semi;colon.png", "b/ space .png", "b/x.png"] + [
    f"{'ab'[i % 2]}/{i:02}.png" for i in range(14)
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_names_are_those_of_pandas(tmp_path, delimiter, encoding):
    """Quotes, delimiters in names, letters of all kinds, with and without a mark of byte order."""
    pictures(tmp_path, ODD)
    table = pd.DataFrame({"label": [name[0] for name in ODD], "file": ODD})
    table.to_csv(tmp_path / "list.csv", sep=delimiter, encoding=encoding, index=False)
    found = sets.find(str(tmp_path / "list.csv"))
    both = [*found.train.images.names, *found.test.images.names]
    assert sorted(both) == sorted(str(tmp_path / name) for name in ODD)
    true = dict(zip((str(tmp_path / name) for name in ODD), table["label"], strict=True))
    for split in (found.train, found.test):
        assert [found.names[i] for i in split.labels] == [true[name] for name in split.images.names]


def rows(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_order_is_that_of_the_rows(tmp_path):
    pictures(tmp_path, [f"{i}.png" for i in range(6)])
    lines = [f"{i}.png,{'ab'[i % 2]},{'train' if i < 4 else 'test'}" for i in (3, 0, 2, 1, 5, 4)]
    found = sets.find(str(rows(tmp_path / "list.csv", "file,label,split", *lines)))
    assert [Path(name).stem for name in found.train.images.names] == ["3", "0", "2", "1"]
    assert [Path(name).stem for name in found.test.images.names] == ["5", "4"]


def test_backslashes_paths_from_the_root_and_from_elsewhere(tmp_path, monkeypatch):
    pictures(tmp_path, ["in/a/1.png", "in/b/2.png", "out/3.png", "in/a/4.png"])
    (tmp_path / "lists").mkdir()
    lines = [
        "..\\in\\a\\1.png,a,train",
        "../in/b/2.png,b,train",
        f"{tmp_path}/out/3.png,a,test",
        "../in/a/4.png,b,test",
    ]
    rows(tmp_path / "lists" / "l.csv", "path,class,split", *lines)
    monkeypatch.chdir(tmp_path / "in")
    found = sets.find("../lists/l.csv")
    assert [os.path.relpath(n, tmp_path) for n in found.train.images.names] == ["in/a/1.png", "in/b/2.png"]
    assert [os.path.relpath(n, tmp_path) for n in found.test.images.names] == ["out/3.png", "in/a/4.png"]
    found.unreadable.reasons[found.train.images.paths[0]] = "why"
    found.unreadable.write_list(tmp_path / "bad.txt")  # which wants all of them below one folder
    assert (tmp_path / "bad.txt").read_text() == f"{tmp_path.resolve()}/in/a/1.png\twhy\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,label"], ["has no rows"]),
        (["a/1.png,a", "a/2.png,b"], ["has no column of files", "say which it is", "l.csv:image=NAME"]),
        (["file,species", "a/1.png,a", "b/2.png,b"], ["no column called label or class", "l.csv:label=NAME"]),
        (["file,path,label", "a/1.png,a/1.png,a"], ["file or path may all be meant", ":image=NAME"]),
        (["file,label", "a/1.png,a", "gone.png,b"], ["1 of the 2 files that", "first", "gone.png"]),
        (["file,label", "a/1.png,a", "a/1.png,b"], ["Lines 2 and 3 of", "say different things of", "keep one"]),
        (["file,label", "a/1.png,a,b"], ["has 3 cells in line 2 and 2 in the first", "quote cells"]),
        (["file,label,split", "a/1.png,a,dog"], ["Line 2 of", "has the split 'dog'"]),
        (["file,label,split", "a/1.png,a,test", "b/2.png,a,val"], ["has the splits", "and no train"]),
    ],
)
def test_a_list_that_does_not_say_it_is_refused(tmp_path, lines, words):
    pictures(tmp_path, ["a/1.png", "a/2.png", "b/2.png"])
    refused(rows(tmp_path / "l.csv", *lines), *words)


def test_a_column_is_named(tmp_path):
    pictures(tmp_path, [f"{i}.png" for i in range(20)])
    path = rows(tmp_path / "l.csv", "id,species,photo", *(f"{i},{'xy'[i % 2]},{i}.png" for i in range(20)))
    found = sets.find(f"{path}:image=photo,label=species")
    assert found.names == ("x", "y")
    assert any("columns that are not used: id" in note for note in found.notes)
    refused(f"{path}:label=specie,image=photo", "There is no column 'specie' (did you mean 'species'?)")
    refused(f"{path}:labels=species", "did you mean 'label'")


def test_equal_rows_count_once_and_gaps_are_no_labels(tmp_path):
    pictures(tmp_path, [f"{i}.png" for i in range(30)])
    lines = [f"{i}.png,{'ab'[i % 2] if i < 25 else ''}" for i in range(30)]
    found = sets.find(str(rows(tmp_path / "l.csv", "file,label", *lines, lines[3], "")))
    assert any("named twice, alike, count once: 1 rows" in note for note in found.notes)
    assert any("without a label, neither in kNN's bank nor among its queries: 5 images" in n for n in found.notes)
    assert len(found.train) + len(found.test) >= 25
    assert len(found.bank) + len(found.test) == 25


def test_columns_of_0_and_1_are_several_labels(tmp_path):
    pictures(tmp_path, [f"{i}.png" for i in range(20)])
    marks = np.random.default_rng(0).integers(0, 2, (20, 3))
    table = pd.DataFrame(marks, columns=["sky", "sea", "dog"])
    table.insert(0, "file", [f"{i}.png" for i in range(20)])
    table["split"] = ["train"] * 15 + ["test"] * 5
    table.to_csv(tmp_path / "l.csv", index=False)
    found = sets.find(str(tmp_path / "l.csv"))
    assert found.names == ("sky", "sea", "dog")
    assert np.array_equal(found.train.labels.numpy(), marks[:15])


@pytest.mark.parametrize("how", [{"encoding": "utf-16", "sep": "\t"}, {"encoding": "utf-8-sig", "sep": ";"}])
def test_a_list_is_read_as_spreadsheets_save_it(tmp_path, how):
    table = pictures_and_table(tmp_path)
    table.to_csv(tmp_path / "l.csv", index=False, **how)
    found = sets.find(str(tmp_path / "l.csv"))
    there = [*found.train.images.names, *found.test.images.names]
    assert [Path(name).relative_to(tmp_path).as_posix() for name in there] == table["file"].tolist()
    labels = [*found.train.labels.tolist(), *found.test.labels.tolist()]
    assert [found.names[label] for label in labels] == table["label"].tolist()


def test_a_list_of_files_alone_has_no_labels(tmp_path):
    table = pictures_and_table(tmp_path)
    table[["file"]].to_csv(tmp_path / "l.csv", index=False)
    found = sets.find(str(tmp_path / "l.csv"))
    assert found.train.labels is None
    assert found.test is None
    assert len(found.train) == len(table)


def pictures_and_table(folder):
    """Twenty pictures, and a table of their files, labels and splits."""
    names = [f"é {i:02}.png" for i in range(20)]
    for i, name in enumerate(names):
        Image.fromarray(np.full((16, 16, 3), 12 * i, np.uint8)).save(folder / name)
    return pd.DataFrame({"file": names, "label": ["sky, blue", "sea"] * 10, "split": ["train"] * 16 + ["test"] * 4})


def test_a_latin_1_file_is_refused(tmp_path):
    (tmp_path / "l.csv").write_bytes("file,label\né.png,a\n".encode("latin-1"))
    refused(tmp_path / "l.csv", "is not in UTF-8", "save it as")


# ---- WebDataset ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], ["holds no images"]),
        ([("a.txt", b"x")], ["holds no images"]),
        ([*samples(4), ("0001.png", png(9))], ["0001.png twice", "a name of its own"]),
        ([("1.png", png(0)), ("1.seg.png", png(1))], ["several pictures (.png or .seg.png)", ":image=NAME"]),
    ],
)
def test_a_tar_that_does_not_say_it_is_refused(tmp_path, members, words):
    refused(tar(tmp_path / "x.tar", members), *words)


def test_a_tar_that_is_no_whole_plain_one_is_refused(tmp_path):
    whole = tar(tmp_path / "x.tar", samples(20)).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 - 300])
    refused(tmp_path / "cut.tar", "is no whole plain tar", "pack it anew without compression")
    (tmp_path / "gz.tar").write_bytes(gzip.compress(whole))
    refused(tmp_path / "gz.tar", "is no whole plain tar")
    (tmp_path / "empty.tar").write_bytes(b"")
    refused(tmp_path / "empty.tar", "is no whole plain tar")
    with zipfile.ZipFile(tmp_path / "zip.tar", "w") as file:
        file.writestr("a.png", png(0))
    refused(tmp_path / "zip.tar", "is no whole plain tar")
    refused(tmp_path / "gone.tar", "There is no file", "gone.tar")
    refused(tmp_path / "x-{000..003}.tar", "There is no file", "x-000.tar and 3 more")


def test_names_stay_inside_whatever_the_tar_says(tmp_path):
    odd = ["../../etc/a", "/abs/b", "./c", "d//e", "f/../g", "été", ".hidden", "._mac"]
    members = [(f"{name}.png", png(i)) for i, name in enumerate(odd)]
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    found = sets.find(str(tmp_path / "x.tar"))
    start = f"{tmp_path}/x.tar/"
    inside = [name.removeprefix(start) for name in found.train.images.names]
    assert inside == ["etc/a.png", "abs/b.png", "c.png", "d/e.png", "f/g.png", "été.png"]
    for name, path in zip(inside, found.train.images.paths, strict=True):
        content, _ = index.read_with_state(path, 10**9)
        assert content == png([*map(os.path.basename, ["a", "b", "c", "e", "g", "été"])].index(Path(name).stem))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_bytes_are_those_that_tarfile_reads(tmp_path, form):
    long = "n" * (90 if form == tarfile.USTAR_FORMAT else 180)
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as file:
        for i in range(5):
            member = tarfile.TarInfo(f"{long}{i}.png")
            member.size = len(png(i))
            file.addfile(member, io.BytesIO(png(i)))
    found = sets.find(str(tmp_path / "x.tar"))
    with tarfile.open(tmp_path / "x.tar") as file:
        for path in found.train.images.paths:
            assert index.read_with_state(path, 10**9)[0] == file.extractfile(path.name).read()


def test_labels_come_from_the_part_that_is_named(tmp_path):
    members = []
    for i in range(30):
        members += [
            (f"{'xy'[i % 2]}/{i:03}.png", png(i)),
            (f"{'xy'[i % 2]}/{i:03}.json", b'{"a": {"b": %d}}' % (i % 3)),
        ]
    path = tar(tmp_path / "s.tar", members)
    plain = sets.find(str(path))
    assert plain.names == ()
    assert any("no sample has a part .cls, only .json: no labels" in n and ":label=NAME" in n for n in plain.notes)
    assert sets.find(f"{path}:label=json.a.b").names == ("0", "1", "2")
    assert sets.find(f"{path}:label=folder").names == ("x", "y")
    refused(f"{path}:image=jpg", "no sample with a part .jpg, only .png")


def test_classes_by_name_in_a_part(tmp_path):
    members = []
    for i in range(30):
        members += [(f"{i:03}.png", png(i)), (f"{i:03}.cls", ["cat\n", "1"][i % 2].encode())]
    assert sets.find(str(tar(tmp_path / "s.tar", members))).names == ("1", "cat")


def test_a_number_beyond_the_names_is_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("only\n")
    refused(tar(tmp_path / "s.tar", samples(8)), "has the label 1, and names of 1 classes")


def test_shards_of_splits_beside_one_of_none(tmp_path):
    tar(tmp_path / "train-0.tar", samples(8))
    tar(tmp_path / "more.tar", samples(8, start=8))
    refused(tmp_path, "train-0.tar says its split, and", "more.tar does not")


def test_broken_pictures_in_a_tar_are_named_and_left_out(tmp_path, run_cli):
    members = samples(40)
    members[8] = (members[8][0], members[8][1][:50])
    path = tar(tmp_path / "s.tar", members)
    result = run_cli("data", "check", str(path), "--json")
    assert f"{path}/0004.png" in result.stdout
    found = run_cli(*f"train simsiam --data {path} --epochs 1 --batch-size 8 --device cpu --image-size 16".split())
    assert found.exit_code == 2
    assert "1 of 40 images cannot be read, first" in found.stderr
    assert f"'sslzoo data check {path}' shows" in found.stderr


def test_a_tar_that_changes_under_a_run_stops_it(tmp_path):
    path = tar(tmp_path / "s.tar", samples(40))
    found = sets.find(str(path))
    tar(path, samples(40, start=1))
    with pytest.raises(UserError, match="has changed since it was listed"):
        found.train.images.read([0], 16)
    again = sets.find(str(path))
    assert again.train.images.digests() != found.train.images.digests()


def test_where_samples_lie_is_looked_up_once_for_each_state_of_a_tar(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sslzoo.data.packed.lists.SETTLED", 0)
    path = tar(tmp_path / "s.tar", samples(40))
    first = sets.find(str(path))
    opened = []
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: opened.append(1))
    again = sets.find(str(path))
    assert opened == []
    assert again.train.images.names == first.train.images.names
    assert again.train.labels.tolist() == first.train.labels.tolist()
    assert again.train.images.digests() == first.train.images.digests()
    monkeypatch.undo()
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache" / "lists").iterdir()
    kept.write_bytes(kept.read_bytes()[:-3] + b"xyz")  # damaged, so made anew
    assert sets.find(str(path)).train.images.names == first.train.images.names
    tar(path, samples(50))
    found = sets.find(str(path))
    assert len(found.train) + len(found.test) == 50


def test_a_folder_with_pictures_is_a_folder_whatever_lies_beside_them(tmp_path):
    pictures(tmp_path / "set", [f"{'ab'[i % 2]}/deep/er/still/{i:02}.png" for i in range(30)])
    before = sets.find(str(tmp_path / "set"))
    tar(tmp_path / "set" / "backup.tar", samples(4))
    parquet.write_table(table(), tmp_path / "set" / "metadata.parquet")
    (tmp_path / "set" / "state.json").write_text("{}")
    (tmp_path / "set" / "list.csv").write_text("file,label\n")
    found = sets.find(str(tmp_path / "set"))
    assert (found.train.images.names, found.notes) == (before.train.images.names, before.notes)


def test_links_to_folders_with_pictures_are_looked_into(tmp_path):
    pictures(tmp_path / "elsewhere", [f"{i:02}.png" for i in range(30)])
    (tmp_path / "set" / "b").mkdir(parents=True)
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "b" / "back").symlink_to(tmp_path / "set")
    tar(tmp_path / "set" / "backup.tar", samples(4))
    assert all("/a/" in name for name in sets.find(str(tmp_path / "set")).train.images.names)


def test_a_sample_that_is_asked_for_is_not_its_own_neighbour(tmp_path, run_cli):
    path = tar(tmp_path / "s.tar", samples(40))
    words = ["search", "raw", f"{path}/0000.png", "--data", str(path), "--image-size", "16", "--json"]
    found = run_cli(*words)
    assert found.exit_code == 0, found.stderr
    (query,) = json.loads(found.stdout)["queries"]
    near = [one["file"] for one in query["neighbours"]]
    assert near
    assert all(file.startswith(f"{path}/") for file in near)
    assert f"{path}/0000.png" not in near


# ---- parquet ---------------------------------------------------------------------------------------------------------


def table(n: int = 20, **columns: object) -> "pyarrow.Table":
    return pyarrow.table({"image": [png(i) for i in range(n)], "label": [i % 2 for i in range(n)], **columns})


def test_a_parquet_that_does_not_say_it_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    parquet.write_table(table(image2=[b""] * 20), path)
    refused(path, "several columns of pictures (image or image2)", ":image=image")
    parquet.write_table(pyarrow.table({"a": [1], "label": [1]}), path)
    refused(path, "has no column of pictures, only a or label")
    path.write_bytes(b"PAR1 and no more")
    refused(path, "is no whole .parquet", "save it anew")
    whole = tmp_path / "y.parquet"
    parquet.write_table(table(), whole)
    path.write_bytes(whole.read_bytes()[:-9])
    refused(path, "is no whole .parquet")
    refused(f"{whole}:label=lable", "has no column 'lable' (did you mean 'label'?)")
    refused(tmp_path / "gone.parquet", "There is no file")


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("kind", ["binary", "large_binary"])
def test_bytes_are_those_that_pyarrow_reads(tmp_path, compression, kind):
    path = tmp_path / "x.parquet"
    images = pyarrow.array([png(i) for i in range(30)], getattr(pyarrow, kind)())
    made = pyarrow.table({"img": images, "label": [i % 2 for i in range(30)]})
    parquet.write_table(made, path, compression=compression, row_group_size=4)
    found = sets.find(str(path))
    true = parquet.read_table(path).column("img").to_pylist()
    for split in (found.train, found.test):
        places = [int(one.name) for one in split.images.paths]
        read = [index.read_with_state(one, 10**9)[0] for one in split.images.paths]
        assert read == [true[place] for place in places]
        assert split.labels.tolist() == [place % 2 for place in places]


def test_what_is_unpacked_is_kept_and_made_anew_where_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x.parquet"
    parquet.write_table(table(), path)
    first = sets.find(str(path)).train
    (copy,) = (tmp_path / "cache" / "unpacked").glob("*.images")
    assert sorted(p.suffix for p in copy.parent.iterdir()) == [".images", ".list"]
    before = copy.stat().st_mtime_ns
    index._known.clear()
    second = sets.find(str(path)).train
    assert copy.stat().st_mtime_ns == before
    assert second.images.names == first.images.names
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(UserError, match="damaged: remove that"):
        second.images.read([*range(len(second))], 16)
    copy.unlink()
    assert len(sets.find(str(path)).train.images.read([0], 16).pixels) == 1
    parquet.write_table(table(21), path)  # another content, so another copy
    found = sets.find(str(path))
    assert len(found.train) + len(found.test) == 21


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    parquet.write_table(table(), tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "set SSLZOO_CACHE")


def test_gaps_are_unreadable_pictures_and_no_labels(tmp_path):
    images = [png(i) for i in range(40)]
    images[3] = None
    labels = [i % 2 for i in range(40)]
    labels[5] = None
    parquet.write_table(pyarrow.table({"image": images, "label": labels}), tmp_path / "x.parquet")
    found = sets.find(str(tmp_path / "x.parquet"))
    assert any("without a label" in note and "1 image" in note for note in found.notes)
    assert {path.name: why for path, why in found.unreadable.reasons.items()} == {"03": "it is empty"}


def test_slices_gaps_and_large_offsets_of_arrow_are_found_where_they_lie(tmp_path):
    """By pyarrow's own cells: each span of the file holds a cell's bytes; a gap has none."""
    cells = [b"a", b"", None, b"bcd", b"efghij" * 50, None, b"k"] * 3
    for kind in (pyarrow.binary(), pyarrow.large_binary()):
        table = pyarrow.table({"x": pyarrow.array(cells, kind)})
        with pyarrow.ipc.new_stream(tmp_path / "x.arrow", table.schema) as stream:
            stream.write_table(table, max_chunksize=5)
        content = (tmp_path / "x.arrow").read_bytes()
        found = []
        for batch, start in arrow.batches(str(tmp_path / "x.arrow")):
            for part in (batch.column(0), batch.column(0).slice(1), batch.column(0).slice(2, 1)):
                spans = arrow.spans_of(part, start, len(content))
                read = [content[first : first + size] for first, size in spans.tolist()]
                assert read == [cell or b"" for cell in part.to_pylist()]
            found += batch.column(0).to_pylist()
        assert found == cells


# ---- how data are written --------------------------------------------------------------------------------------------


def test_braces_are_those_of_a_shell():
    assert expanded("a-{000..002}.tar") == ["a-000.tar", "a-001.tar", "a-002.tar"]
    assert expanded("{a,b}-{9..11}") == ["a-9", "a-10", "a-11", "b-9", "b-10", "b-11"]
    assert expanded("{08..10}") == ["08", "09", "10"]
    assert expanded("{0..2}") == ["0", "1", "2"]
    for pattern in ("{0..9999999}.tar", "{5..1}.tar"):
        with pytest.raises(UserError, match="count up"):
            expanded(pattern)


def test_what_is_there_is_what_it_is_called(tmp_path, monkeypatch):
    odd = tmp_path / "a{1,2}:label=x.csv"
    odd.write_text("")
    assert Spelled.of(str(odd)).text == str(odd)
    assert not Spelled.of(str(odd)).pattern
    monkeypatch.chdir(tmp_path)
    assert from_anywhere("s-{0..3}.tar") == f"{tmp_path}/s-{{0..3}}.tar"
    assert from_anywhere("l.csv:label=x") == f"{tmp_path}/l.csv:label=x"
    assert from_anywhere("hf:user/name:config") == "hf:user/name:config"
    assert from_anywhere("digits") == "digits"
    assert from_anywhere(odd.name) == str(odd.resolve())
    assert is_gone(f"{tmp_path}/gone.csv:label=x")
    assert not is_gone(f"{odd}:label=x")


def test_rows_of_a_csv_written_by_hand(tmp_path):
    """A million rows would be as these: nothing is quadratic in their number."""
    pictures(tmp_path, ["x.png"])
    with (tmp_path / "l.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([["x.png", "a"]] * 20_000)
    refused(tmp_path / "l.csv", "too few to hold out")
