"""Clusters of images: what scikit-learn finds in the rows, near-duplicates, outliers, and a row for each file."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import LocalOutlierFactor

from sslzoo.evaluation.cluster import Grouping, grouped, groups


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
    assert adjusted_rand_score(truth, found.cluster) == 1
    assert [int((found.cluster == i).sum()) for i in range(3)] == [30, 20, 10]
    centre = rows[truth == 0].mean(axis=0)
    assert found.central[0] == pytest.approx(rows[0] @ centre / np.linalg.norm(centre), abs=1e-5)


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
    assert found.outlier.tolist() == (LocalOutlierFactor(n_neighbors=20).fit_predict(rows) < 0).tolist()
    assert found.factor.argmax() == 7


def test_near_duplicates_are_joined_over_pairs():
    """a - b and b - c are pairs, a - c is none: all three are one group."""
    similar = np.array([[0.995, 0.2], [0.995, 0.992], [0.992, 0.1], [0.5, 0.4], [0.999, 0.1], [0.999, 0.1]])
    near = np.array([[1, 2], [0, 2], [1, 3], [0, 1], [5, 0], [4, 0]])
    assert groups(similar, near, 0.99).tolist() == [0, 0, 0, -1, 1, 1]
    assert groups(similar, near, 0.9995).tolist() == [-1] * 6


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
    words = (
        "--data",
        str(photos),
        "--k",
        "4",
        "--near",
        "0.9999",
        "--out",
        str(out),
        "--montage",
        str(picture),
        "--json",
    )
    done = run_cli("cluster", "raw", *words)
    assert done.exit_code == 0, done.output
    table, said = pd.read_csv(out), json.loads(done.stdout)
    assert sorted(table.file) == sorted(path.name for path in photos.glob("*.png") if path.name != "broken.png")
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
