"""Clusters of images: what scikit-learn finds in the rows, near-duplicates, outliers, and a row for each file."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import LocalOutlierFactor

from sslzoo.evaluation.cluster import Grouping, grouped
from sslzoo.evaluation.drawn.montage import images_of
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.grouped import names_of
from sslzoo.evaluation.sources import EmbedOptions
from sslzoo.metrics import alike


def blobs(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1 around three far centres, 30, 20 and 10 of them."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], [n // 2, n // 3, n - n // 2 - n // 3])
    rows = np.eye(3, 8)[truth] * 4 + 0.3 * rng.normal(size=(n, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


@pytest.mark.parametrize("k", [None, 3])
def test_clusters_that_are_there_are_found_the_largest_first(k):
    rows, truth = blobs()
    found = grouped(rows, Grouping(k))
    assert adjusted_rand_score(truth, found.clusters.of_rows) == 1
    assert [int((found.clusters.of_rows == i).sum()) for i in range(3)] == [30, 20, 10]
    centre = rows[truth == 0].mean(axis=0)
    assert found.clusters.similarity[0] == pytest.approx(rows[0] @ centre / np.linalg.norm(centre), abs=1e-5)


def test_the_nearest_row_and_the_outlier_factor_are_those_of_other_libraries():
    rows, _ = blobs(1000)
    rows[7] = -rows[7]
    found = grouped(rows, Grouping(3))
    similar = rows @ rows.T
    np.fill_diagonal(similar, -2)
    assert found.nearest.tolist() == similar.argmax(axis=1).tolist()
    assert found.similarity == pytest.approx(similar.max(axis=1), abs=1e-5)
    theirs = LocalOutlierFactor(n_neighbors=20).fit(rows)
    assert found.factor == pytest.approx(-theirs.negative_outlier_factor_, rel=1e-5)
    theirs = LocalOutlierFactor(n_neighbors=20).fit_predict(rows) < 0
    assert sorted(found.outliers) == np.flatnonzero(theirs).tolist()
    assert found.factor.argmax() == 7


def test_near_duplicates_are_joined_over_pairs():
    """a - b and b - c are pairs, a - c is none: all three are one group."""
    angles = np.radians([0, 7, 14, 90, 180, 181, 0.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert grouped(rows, Grouping(1, near=0.992)).group.tolist() == [0, 0, 0, -1, 1, 1, 0]
    assert grouped(rows, Grouping(1, near=0.9999)).group.tolist() == [0, -1, -1, -1, -1, -1, 0]
    assert grouped(rows, Grouping(1, near=1)).group.tolist() == [0, -1, -1, -1, -1, -1, 0]


@pytest.mark.parametrize("cells", [alike.CELLS, 1])
def test_groups_do_not_depend_on_how_many_neighbours_are_looked_at(cells, monkeypatch):
    """Two crowds whose one link is no row's near neighbour, and more equal rows than neighbours: by hand in float64."""
    monkeypatch.setattr(alike, "CELLS", cells)
    monkeypatch.setattr(alike, "FEW_ROWS", 3)
    rng = np.random.default_rng(0)
    a, b = np.radians(0) + 1e-4 * rng.normal(size=40), np.radians(7) + 1e-4 * rng.normal(size=40)
    angles = rng.permutation(np.concatenate([a, b, np.full(30, 2.0), [3.0, 4.0]]))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = grouped(rows, Grouping(1, near=float(np.cos(np.radians(6.99)))))
    parent = [*range(len(rows))]
    for i in range(len(rows)):
        for j in range(i):
            if np.cos(angles[i] - angles[j]) >= np.cos(np.radians(6.99)):
                old, new = parent[i], parent[j]
                parent = [min(old, new) if one in (old, new) else one for one in parent]
    assert found.first.tolist() == [parent.index(one) for one in parent]
    assert sorted(map(len, found.duplicates)) == [30, 80]


def test_groups_are_joined_over_however_many_pairs(monkeypatch):
    """256 pairs at a time between two groups that are known already: as many as a byte cannot count."""
    monkeypatch.setattr(alike, "CELLS", 1)
    monkeypatch.setattr(alike, "FEW_ROWS", 16)
    angles = np.radians([-6, 12.9, *np.arange(40, 180, 10), *[0] * 16, *[6.9] * 16])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    similar = rows @ rows.T - 2 * np.eye(len(rows))
    first = alike.linked(rows, similar.max(axis=1), np.cos(np.radians(7)))
    assert first.tolist() == [0, 0, *range(2, 16), *[0] * 32]


def test_equal_rows_make_no_outliers():
    """Thirty black frames, among which every distance is 0, and rows around them."""
    rows, _ = blobs(200)
    rows[:30] = rows[0]
    found = grouped(rows, Grouping(3))
    alone = grouped(rows[29:], Grouping(3))
    assert found.factor.max() < 3
    assert found.factor[30:] == pytest.approx(alone.factor[1:], rel=0.2)
    assert len({*found.factor[:30].tolist()}) == 1
    assert grouped(np.ones((9, 4)), Grouping(1)).factor.tolist() == [1] * 9


def test_a_row_of_no_cluster_has_no_similarity_to_one():
    rows, _ = blobs(100)
    rows = np.concatenate([rows, -rows[:2]])
    found = grouped(rows, Grouping())
    assert (found.clusters.of_rows[-2:] == -1).all()
    assert np.isnan(found.clusters.similarity[-2:]).all()


def test_k_means_is_spherical():
    """Each row is nearest to the centre of its own cluster by cosine, and centres are normalised means."""
    rows = np.random.default_rng(0).normal(size=(300, 5)) * np.random.default_rng(1).uniform(0.1, 9, (300, 1))
    found = grouped(rows, Grouping(7, seed=3)).clusters
    x = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centres = np.stack([x[found.of_rows == i].mean(axis=0) for i in range(7)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    assert ((x @ centres.T).argmax(axis=1) == found.of_rows).all()
    assert found.similarity == pytest.approx((x @ centres.T).max(axis=1), abs=1e-6)
    assert grouped(rows, Grouping(7, seed=3)).clusters.of_rows.tolist() == found.of_rows.tolist()


def test_fewer_different_rows_than_clusters():
    rows = np.repeat(np.eye(3, 6), 5, axis=0)
    assert grouped(rows, Grouping(4)).clusters.number == 3


def test_clusters_among_many_columns_are_found():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    rows = rng.normal(size=(4, 1500))[truth] + 0.5 * rng.normal(size=(400, 1500))
    assert adjusted_rand_score(truth, grouped(rows, Grouping()).clusters.of_rows) == 1


@pytest.fixture
def photos(tmp_path):
    """Red, green and blue pictures without labels, two of them equal, one broken, one like none."""
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    for i in range(36):
        picture = rng.integers(0, 40, (16, 16, 3), dtype=np.uint8)
        picture[..., i % 3] += 200
        Image.fromarray(picture).save(folder / f"bild {i:02}.png")
    (folder / "twin.png").write_bytes((folder / "bild 04.png").read_bytes())
    Image.fromarray(np.indices((16, 16)).sum(axis=0).astype(np.uint8) % 2 * 255).save(folder / "odd.png")
    (folder / "broken.png").write_bytes(b"no")
    return folder


def test_a_folder_is_grouped_with_the_names_of_its_files(photos, run_cli, tmp_path):
    out, picture = tmp_path / "c.csv", tmp_path / "c.png"
    words = f"--data {photos} --k 4 --near 0.9999 --out {out} --montage {picture} --json".split()
    done = run_cli("cluster", "raw", *words)
    assert done.exit_code == 0, done.output
    table, said = pd.read_csv(out), json.loads(done.stdout)
    assert sorted(table.file) == sorted(path.name for path in photos.glob("*.png"))
    broken = table[table.file == "broken.png"].iloc[0]
    assert broken.drop(["file", "split"]).isna().all()
    table = table[table.file != "broken.png"]
    pixels = np.stack([np.asarray(Image.open(photos / name).convert("RGB"), float).ravel() for name in table.file])
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    similar = pixels @ pixels.T
    np.fill_diagonal(similar, -2)
    assert table.nearest_similarity.tolist() == pytest.approx(similar.max(axis=1), abs=1e-6)
    place = [table.file.tolist().index(name) for name in table.nearest]
    assert similar[np.arange(len(place)), place] == pytest.approx(similar.max(axis=1), abs=1e-9)  # ties aside
    own = table[table.file.str.startswith("bild")]
    colour = own.file.str.extract(r"(\d+)")[0].astype(int) % 3
    assert adjusted_rand_score(colour, own.cluster) == 1
    twins = table[table.duplicates.notna()]
    assert sorted(twins.file) == ["bild 04.png", "twin.png"]
    assert said["duplicates"] == [["bild 04.png", "twin.png"]]
    assert "odd.png" in said["outliers"]
    assert [row["images"] for row in said["clusters"]] == [13, 12, 12, 1]
    assert len(said["bad"]) == 1
    with Image.open(picture) as drawn:
        assert drawn.width > 300
    shown = run_cli("cluster", "raw", *words[:-1], "--force")
    assert "2 are near-duplicates, in 1 groups" in shown.output.replace("\n", " ")


def test_features_in_a_file_are_grouped_too(run_cli, tmp_path):
    rows, truth = blobs()
    np.savez(tmp_path / "e.npz", features=rows, labels=truth)
    done = run_cli("cluster", str(tmp_path / "e.npz"), "--out", str(tmp_path / "c.csv"), "--json")
    assert done.exit_code == 0, done.output
    assert [row["labels"] for row in json.loads(done.stdout)["clusters"]] == [{"0": 30}, {"1": 20}, {"2": 10}]


def test_rows_of_arrays_are_named_by_split_and_place_in_either_format(run_cli, tmp_path):
    """And several labels a row are columns."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 12), ("test", 9)):
        arrays[f"{split}_features"] = rng.normal(size=(n, 4))
        arrays[f"{split}_labels"] = rng.integers(0, 2, (n, 3))
    np.savez(tmp_path / "e.npz", classes=["red", "round", "ripe"], **arrays)
    tables = []
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
        done = run_cli("cluster", str(tmp_path / "e.npz"), "--k", "3", "--out", str(tmp_path / f"c{suffix}"))
        assert done.exit_code == 0, done.output
        tables.append(read(tmp_path / f"c{suffix}"))
    for table in tables:
        assert table.file.tolist() == [f"train:{i}" for i in range(12)] + [f"test:{i}" for i in range(9)]
        both = np.concatenate([arrays["train_labels"], arrays["test_labels"]])
        assert table[["label:red", "label:round", "label:ripe"]].to_numpy().astype(int).tolist() == both.tolist()
        assert {*table.nearest} <= {*table.file}
    numbers = ["cluster", "similarity", "nearest_similarity", "outlier_factor", "outlier"]
    assert tables[0][numbers].to_numpy().tolist() == tables[1][numbers].to_numpy().tolist()


def test_a_montage_shows_the_files_that_it_names_where_some_of_each_split_are_broken(tmp_path):
    """Every split has lost its first picture; each image shown is that of its row's file."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("val", 5), ("test", 4)):
        (tmp_path / "set" / split / "a").mkdir(parents=True)
        for i in range(n):
            file = tmp_path / "set" / split / "a" / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)
            if i == 0:
                file.write_bytes(b"broken")
    options = EmbedOptions(data=str(tmp_path / "set"), device="cpu", cached=False)
    embedding = embed("raw", options, every=True)
    names = names_of(embedding)
    assert len(names) == 14
    order = rng.permutation(14)
    for row, image in zip(order, images_of(embedding, order), strict=True):
        with Image.open(tmp_path / "set" / names[row]) as picture:
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture))


def test_splits_of_two_encoders_are_refused(bad_input, tmp_path):
    np.savez(tmp_path / "e.npz", train_features=np.ones((4, 3)), test_features=np.ones((4, 5)))
    bad_input("splits of 3 and 5 columns", "cluster", str(tmp_path / "e.npz"), "--out", str(tmp_path / "c.csv"))
    np.savez(tmp_path / "n.npz", features=np.array([[1, np.nan], [0, 1]]))
    bad_input("not finite", "cluster", str(tmp_path / "n.npz"), "--k", "1", "--out", str(tmp_path / "c.csv"))
    assert not (tmp_path / "c.csv").exists()


def test_what_makes_a_grouping_mean_little_is_said(run_cli, tmp_path):
    np.savez(tmp_path / "flat.npz", features=np.ones((30, 4)) + 1e-3 * np.eye(30, 4))
    done = run_cli("cluster", str(tmp_path / "flat.npz"), "--k", "2", "--out", str(tmp_path / "c.csv"))
    said = " ".join(done.stderr.split())
    assert "100% of the images have a near-duplicate at 0.99: the features tell few apart" in said
    noise = np.random.default_rng(0).normal(size=(40, 30))
    np.savez(tmp_path / "noise.npz", features=noise)
    done = run_cli("cluster", str(tmp_path / "noise.npz"), "--out", str(tmp_path / "d.csv"))
    assert "of the images are in no cluster; --k N gives each one" in " ".join(done.stderr.split())
