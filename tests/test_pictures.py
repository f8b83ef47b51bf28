"""The values of pictures by their kind: what is black, what is white, what is refused, and what is clear."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from deep_files import PNG_GRAY, PNG_LA, PNG_RGB, PNG_RGBA, png, ramp, tiff
from PIL import Image

from sslzoo.cli import main
from sslzoo.data import folders, sets
from sslzoo.data.decoded.ranges import Range
from sslzoo.data.picture import Picture, UnreadableImage
from sslzoo.tools.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Write pictures, bytes or Pillow's images, into a folder; return its name."""

    def write(*pictures, suffix=".tif", place="set"):
        root = tmp_path / place
        root.mkdir(exist_ok=True)
        for picture in pictures:
            path = root / f"{len(list(root.iterdir())):02}{suffix}"
            path.write_bytes(picture) if isinstance(picture, bytes) else picture.save(path)
        return str(root)

    return write


def shown(path, given=None):
    """Return the pixels of a file [H, W, 3] as integers."""
    return Picture(path, Range.parse(given)).pixels().permute(1, 2, 0).numpy().astype(int)


def expected(values, low, high):
    """Return values as gray by the definition: low is 0, high 255, rounded, clipped."""
    return np.floor((values.astype(float) - low) / (high - low) * 255 + 0.5).clip(0, 255).astype(int)


U16, I16, I32, F32 = np.uint16, np.int16, np.int32, np.float32
NATURAL = {  # what a file of a type means where nobody says: the values, how they are written, what is black and white
    "int32 0..255": (ramp(0, 255, I32), tiff, 0, 255),
    "int32 0..255, big-endian": (ramp(0, 255, I32), lambda v: tiff(v, ">"), 0, 255),
    "uint32 0..255": (ramp(0, 255, np.uint32), tiff, 0, 255),
    "int16 0..255": (ramp(0, 255, I16), tiff, 0, 255),
    "float [0, 1]": (ramp(0, 1, F32), tiff, 0, 1),
    "float [0, 1], big-endian": (ramp(0, 1, F32), lambda v: tiff(v, ">"), 0, 1),
    "uint16": (ramp(0, 65535, U16), tiff, 0, 65535),
    "uint16, big-endian": (ramp(0, 65535, U16), lambda v: tiff(v, ">"), 0, 65535),
    "uint16, compressed": (ramp(0, 65535, U16), lambda v: tiff(v, compressed=True), 0, 65535),
    "uint16, white is zero": (ramp(0, 65535, U16), lambda v: tiff(65535 - v, photometric=0), 0, 65535),
    "16-bit PNG": (ramp(0, 65535, U16), png, 0, 65535),
    "16-bit RGB PNG": (ramp(0, 65535, U16, 3), lambda v: png(v, PNG_RGB), 0, 65535),
    "16-bit RGB TIFF": (ramp(0, 65535, U16, 3), tiff, 0, 65535),
    "16-bit RGB TIFF, big-endian": (ramp(0, 65535, U16, 3), lambda v: tiff(v, ">"), 0, 65535),
    "16-bit RGB TIFF, compressed": (ramp(0, 65535, U16, 3), lambda v: tiff(v, ">", compressed=True), 0, 65535),
    "12-bit TIFF": (ramp(0, 4095, U16), lambda v: tiff(v, bits=12), 0, 4095),
    "16-bit RGB TIFF in planes": (ramp(0, 65535, U16, 3), lambda v: tiff(v, planes=True), 0, 65535),
    "16-bit RGB TIFF in planes, big-endian": (ramp(0, 65535, U16, 3), lambda v: tiff(v, ">", planes=True), 0, 65535),
    "PPM of 16 bits": (ramp(0, 65535, U16, 3), lambda v: b"P6 32 24 65535\n" + v.astype(">u2").tobytes(), 0, 65535),
    "PPM up to 4095": (ramp(0, 4095, U16, 3), lambda v: b"P6 32 24 4095\n" + v.astype(">u2").tobytes(), 0, 4095),
    "int8 0..127": (ramp(0, 127, np.int8), tiff, 0, 255),
    "PGM of 16 bits": (ramp(0, 65535, U16), lambda v: b"P5 32 24 65535\n" + v.astype(">u2").tobytes(), 0, 65535),
    "PGM up to 4095": (ramp(0, 4095, U16), lambda v: b"P5 32 24 4095\n" + v.astype(">u2").tobytes(), 0, 4095),
}


@pytest.mark.parametrize("kind", NATURAL)
def test_a_type_that_has_a_range_is_read_by_it(folder, kind):
    """About 127 for a mean of 127, whatever the bits."""
    values, write, low, high = NATURAL[kind]
    root = folder(write(values))
    found = sets.load(root)
    gray = expected(values, low, high)
    gray = gray if gray.ndim == 3 else gray[..., None].repeat(3, -1)
    assert np.abs(shown(f"{root}/00.tif") - gray).max() == 0
    assert abs(float(found.train.images.pixels.float().mean()) - gray[:, 4:28].mean()) < 1e-3  # of the middle
    assert abs(gray.mean() - (low + values.max()) / 2 * 255 / (high - low)) < 10
    notes = " ".join(found.notes)
    assert kind == "PPM up to 4095" or "is black" in notes or "are read as" in notes


REFUSED = {  # what says nothing of black and white: the values, how they are written, the sentence and its flag
    "HU": (ramp(-1000, 1000, I32), tiff, "has values from -1000 to 1000 in 32-bit integers", "-1000,1000"),
    "HU of 16 bits": (ramp(-1024, 3071, I16), tiff, "from -1024 to 3071 in signed 16 bits", "-1024,3071"),
    "int8": (ramp(-128, 127, np.int8), tiff, "from -128 to 127 in signed 8 bits", "-128,127"),
    "12 bits in planes": (
        ramp(0, 4095, U16, 3),
        lambda v: tiff(v, planes=True),
        "from 0 to 4095 in 16 bits",
        "0,4095",
    ),
    "12 bits in a PPM": (
        ramp(0, 4095, U16, 3),
        lambda v: b"P6 32 24 65535\n" + v.astype(">u2").tobytes(),
        "in 16 bits",
        "0,4095",
    ),
    "int32 of 16 bits": (ramp(0, 65535, I32), tiff, "from 0 to 65535 in 32-bit integers", "0,65535"),
    "int32 masks": (ramp(0, 1, I32), tiff, "from 0 to 1 in 32-bit integers", "0,1"),
    "float 0..255": (ramp(0, 255, F32), tiff, "from 0 to 255 in floats", "0,255"),
    "float [-1, 1]": (ramp(-1, 1, F32), tiff, "from -1 to 1 in floats", "-1,1"),
    "12 bits in 16": (ramp(0, 4095, U16), png, "from 0 to 4095 in 16 bits, of which 65535 is the largest", "0,4095"),
    "10 bits in 16": (ramp(3, 1000, U16), png, "from 3 to 1000 in 16 bits", "0,1023"),
    "12 bits in an RGB": (ramp(0, 4095, U16, 3), lambda v: png(v, PNG_RGB), "from 0 to 4095 in 16 bits", "0,4095"),
    "12 bits in a TIFF": (ramp(0, 4095, U16), lambda v: tiff(v, ">"), "from 0 to 4095 in 16 bits", "0,4095"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_that_says_no_range_is_refused_with_the_flag_that_does(folder, kind):
    values, write, what, flag = REFUSED[kind]
    root = folder(write(values))
    with pytest.raises(UserError) as refusal:
        sets.load(root)
    sentence = str(refusal.value)
    assert what in sentence
    assert sentence.endswith(f"say which range is black to white with --range {flag}.")
    low, high = map(float, flag.split(","))
    found = sets.load(root, range=flag)  # the mend holds
    gray = expected(values, low, high)
    assert np.abs(shown(f"{root}/00.tif", flag)[..., 0] - (gray if gray.ndim == 2 else gray[..., 0])).max() == 0
    assert f"{low:g} is black, {high:g} white (--range)" in " ".join(found.notes)


def test_what_is_decided_depends_on_the_set_and_not_on_one_picture(folder):
    """A dark picture among others of 16 bits stays dark."""
    dark, bright = np.full((24, 32), 3000, U16), ramp(0, 60_000, U16)
    root = folder(png(dark), png(bright), suffix=".png")
    found = sets.load(root).train.images.pixels
    assert found[0].unique().tolist() == [round(3000 / 257)]
    assert abs(float(found[1].float().mean()) - bright[:, 4:28].mean() / 257) < 0.5


def test_several_pictures_are_counted_with_the_values_of_all(folder):
    root = folder(*(tiff(ramp(-n, n, I32)) for n in (10, 500, 20)))
    with pytest.raises(UserError, match=r"00.tif and 2 more have values from -500 to 500 .* --range -500,500\."):
        sets.load(root)


def test_a_picture_found_later_with_values_beyond_is_unreadable_and_never_black(folder, monkeypatch):
    """Where the sample had none like it: it is listed and counted by --max-bad."""
    monkeypatch.setattr("sslzoo.data.sample.SAMPLED", 2)
    root = folder(*(tiff(ramp(0, 255, I32)) for _ in range(5)))
    folder(tiff(ramp(-1000, 1000, I32)))
    found = sets.load(root)
    assert len(found.train.readable()) == 5
    ((path, why),) = found.unreadable.reasons.items()
    assert path.name == "05.tif"
    assert why.startswith("has values from -1000 to 1000 in 32-bit integers; say which range")
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0)
    streamed = sets.load(root)
    pixels, unreadable, _ = streamed.train.images.read(range(6), 24)
    assert (len(pixels), unreadable) == (5, [(5, why)])


@pytest.mark.parametrize("gap", [np.nan, np.inf])
def test_gaps_in_floats_are_said(folder, gap):
    holed, whole = ramp(0, 1, F32), ramp(0, 1, F32)
    holed[3, 4] = gap
    root = folder(tiff(holed), *[tiff(whole)] * 3)
    found = sets.load(root)
    (why,) = found.unreadable.reasons.values()
    assert why.startswith("has pixels that are NaN or infinite; say which range is black to white with --range 0,1")
    given = sets.load(root, range="0,1")
    assert not given.unreadable.reasons
    assert shown(f"{root}/00.tif", "0,1")[3, 4].tolist() == [0 if np.isnan(gap) else 255] * 3
    assert "0 is black, and so are pixels that are NaN" in " ".join(given.notes)


def test_a_range_clips_and_leaves_pictures_of_8_bits_alone(folder):
    values = np.array([[-2000, -1000, 0, 1000, 30_000]], I32).repeat(5, 0)
    plain = Image.fromarray(np.arange(25, dtype=np.uint8).reshape(5, 5) * 10)
    root = folder(tiff(values), plain)
    assert shown(f"{root}/00.tif", "-1000,1000")[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (shown(f"{root}/01.tif", "-1000,1000")[..., 1] == np.asarray(plain)).all()
    alone = folder(Image.new("L", (16, 16), 9), place="plain")
    assert "--range 0,9 changes nothing" in " ".join(sets.load(alone, range="0,9").notes)


@pytest.mark.parametrize(
    "text", ["5", "5,1", "nan,1", "0,inf", "1,1", "a,b", "0,1,2", "", ",", "-1e308,1e308", "0,5e-324"]
)
def test_nonsense_is_no_range(text):
    with pytest.raises(UserError, match="--range cannot be"):
        Range.parse(text)


def test_a_range_is_spelled_as_numbers():
    assert str(Range.parse(" -1000.0, 1e3")) == "-1000,1000"
    assert Range.parse(None) is None


EIGHT = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
ORDINARY = {  # pictures of 8 bits or less: what was read of them before stays, bit for bit
    "RGB": Image.fromarray(EIGHT),
    "L": Image.fromarray(EIGHT[..., 0]),
    "1": Image.fromarray(EIGHT[..., 0]).convert("1"),
    "P": Image.fromarray(EIGHT).convert("P"),
    "P of few colours": Image.fromarray(EIGHT).quantize(5),
    "opaque RGBA": Image.fromarray(np.dstack([EIGHT, np.full((24, 32), 255, np.uint8)])),
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".gif", ".bmp"])
@pytest.mark.parametrize("mode", ORDINARY)
def test_ordinary_pictures_are_as_they_are(tmp_path, mode, suffix):
    image = ORDINARY[mode]
    if suffix == ".webp":
        image = image.convert("RGB")
    image.save(tmp_path / f"x{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(tmp_path / f"x{suffix}") as there:
        known = np.asarray(there.convert("RGB"))
    assert (shown(tmp_path / f"x{suffix}") == known).all()


def test_a_cmyk_jpeg_is_a_colour_and_has_no_range(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(shown(tmp_path / "x.jpg", "0,4095") - [255, 0, 0]).max() <= 4


def test_a_picture_of_many_bits_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = ramp(0, 65535, U16)
    Image.fromarray(values).save(tmp_path / "x.png", exif=exif)
    assert (shown(tmp_path / "x.png")[..., 0] == np.rot90(expected(values, 0, 65535), -1)).all()


def test_compressed_planes_of_16_bits_are_read_to_8_and_take_no_range(tmp_path):
    """Pillow reads the first byte of two alone."""
    values = ramp(0, 65535, U16, 3)
    (tmp_path / "x.tif").write_bytes(tiff(values, compressed=True, planes=True))
    assert np.abs(shown(tmp_path / "x.tif") - expected(values, 0, 65535)).max() <= 1
    with pytest.raises(UnreadableImage, match="its 16 bits lie in compressed planes; save it with its channels inter"):
        shown(tmp_path / "x.tif", "0,4095")
    (tmp_path / "x.tif").write_bytes(tiff(ramp(0, 65535, U16, 4), photometric=5, planes=True))
    with pytest.raises(UnreadableImage, match="its 16 bits lie in planes; save it with"):
        Picture(tmp_path / "x.tif")


def test_a_tiff_of_a_kind_that_is_not_read_is_said_to_be_one(tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff(ramp(0, 1, np.float64)))
    with pytest.raises(UnreadableImage, match="a TIFF of a kind that is not read; save it with"):
        Picture(tmp_path / "x.tif")


# ---- what is clear ---------------------------------------------------------------------------------------------------


def on_white(colours, alpha):
    """Return colours over white by the definition, colours and alpha in [0, 255]."""
    part = alpha[..., None] / 255
    return colours * part + 255 * (1 - part)


ALPHA = np.random.default_rng(2).integers(0, 256, (24, 32), np.uint8)
ALPHA[:4] = 0
FULL = ramp(0, 65535, U16, 4)
PART = np.minimum(FULL, FULL[..., 3:])  # colours that are multiplied by alpha are no larger
RGBA = np.dstack([EIGHT, ALPHA])
GRAY = EIGHT[..., :1].repeat(3, -1)
COLOUR = (10, 200, 30)
SPOTS = EIGHT.copy()
SPOTS[5:9, 5:9] = COLOUR
HOLE = np.where((SPOTS == COLOUR).all(-1), 0, 255)
FEW = np.random.default_rng(3).integers(0, 4, (24, 32))


def palette(image):
    """Return a palette picture of which the colour with the number 3 is clear."""
    made = Image.fromarray(image).quantize(8)
    made.info["transparency"] = 3
    return made


SEEN = {  # pictures with clear parts, how they are saved, and what is seen on white
    "RGBA PNG": (Image.fromarray(RGBA), ".png", {}, on_white(EIGHT, ALPHA)),
    "RGBA TIFF": (Image.fromarray(RGBA), ".tif", {}, on_white(EIGHT, ALPHA)),
    "RGBA WebP": (Image.fromarray(RGBA), ".webp", {"lossless": True, "exact": True}, on_white(EIGHT, ALPHA)),
    "LA PNG": (Image.fromarray(RGBA[..., 2:]), ".png", {}, on_white(EIGHT[..., 2:].repeat(3, -1), ALPHA)),
    "LA TIFF": (Image.fromarray(RGBA[..., 2:]), ".tif", {}, on_white(EIGHT[..., 2:].repeat(3, -1), ALPHA)),
    "RGB PNG with tRNS": (Image.fromarray(SPOTS), ".png", {"transparency": COLOUR}, on_white(SPOTS, HOLE)),
    "L PNG with tRNS": (
        Image.fromarray(EIGHT[..., 0]), ".png", {"transparency": 7},
        on_white(GRAY, np.where(EIGHT[..., 0] == 7, 0, 255)),
    ),
    "RGBA of 16 bits": (png(FULL, PNG_RGBA), ".png", {}, on_white(FULL[..., :3] / 257, FULL[..., 3] / 257)),
    "RGBA TIFF of 16 bits in planes": (
        tiff(FULL, extra=2, planes=True), ".tif", {}, on_white(FULL[..., :3] / 257, FULL[..., 3] / 257),
    ),
    "premultiplied TIFF of 16 bits": (
        tiff(PART, extra=1), ".tif", {}, PART[..., :3] / 257 + 255 - PART[..., 3:] / 257,
    ),
    "RGBA TIFF of 16 bits": (tiff(FULL, extra=2), ".tif", {}, on_white(FULL[..., :3] / 257, FULL[..., 3] / 257)),
    "LA of 16 bits": (
        png(FULL[..., :2], PNG_LA), ".png", {}, on_white(FULL[..., :1].repeat(3, -1) / 257, FULL[..., 1] / 257),
    ),
    "16-bit gray with tRNS": (
        png(FULL[..., 0], PNG_GRAY, clear=[int(FULL[3, 3, 0])]), ".png", {},
        on_white(FULL[..., :1].repeat(3, -1) / 257, np.where(FULL[..., 0] == FULL[3, 3, 0], 0, 255)),
    ),
    "16-bit RGB with tRNS": (
        png(FULL[..., :3], PNG_RGB, clear=FULL[3, 3, :3].tolist()), ".png", {},
        on_white(FULL[..., :3] / 257, np.where((FULL[..., :3] == FULL[3, 3, :3]).all(-1), 0, 255)),
    ),
    "2-bit gray with tRNS": (
        png(FEW, PNG_GRAY, 2, [2]), ".png", {}, on_white(FEW[..., None].repeat(3, -1) * 85, np.where(FEW == 2, 0, 255)),
    ),
    "4-bit gray with tRNS": (
        png(FEW * 5, PNG_GRAY, 4, [5]), ".png", {},
        on_white(FEW[..., None].repeat(3, -1) * 85, np.where(FEW == 1, 0, 255)),
    ),
    "1-bit gray with tRNS": (
        png(FEW % 2, PNG_GRAY, 1, [0]), ".png", {}, np.full((24, 32, 3), 255),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
def test_what_is_transparent_lies_on_white(tmp_path, kind):
    image, suffix, options, seen = SEEN[kind]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(image) if isinstance(image, bytes) else image.save(path, **options)
    assert np.abs(shown(path) - seen).max() < 1.5  # rounded once, or twice
    note = "transparent pictures are shown on white"
    assert note in sets.load(str(tmp_path)).notes
    assert note in json.loads(CliRunner().invoke(main, ["data", "check", str(tmp_path), "--json"]).stdout)["notes"]


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_the_clear_colour_of_a_palette_is_white(tmp_path, suffix):
    made = palette(EIGHT)
    numbers, colours = np.asarray(made), np.asarray(made.convert("RGB"))
    made.save(tmp_path / f"x{suffix}", transparency=3)
    assert (numbers == 3).any()
    assert (shown(tmp_path / f"x{suffix}") == np.where(numbers[..., None] == 3, 255, colours)).all()


def test_what_lies_under_a_clear_part_is_not_seen(tmp_path):
    """The same picture whatever colour a programme has left there."""
    for name, colour in (("a", 0), ("b", 200)):
        image = RGBA.copy()
        image[:4, :, :3] = colour
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    a, b = (torch.tensor(shown(tmp_path / f"{name}.png")) for name in "ab")
    assert torch.equal(a, b)
    assert a[:4].unique().tolist() == [255]


# ---- the flag on its way ---------------------------------------------------------------------------------------------


def run_cli(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


FLAG = ("--range", "-1000,1000")
QUICK = ("--epochs", 1, "--batch-size", 16, "--backbone", "small", "--no-baselines", "--workers", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A folder of two classes of scans in HU, bright and dark."""
    root = tmp_path_factory.mktemp("scans") / "set"
    for split, n in (("train", 16), ("test", 4)):
        for name, low in (("a", -1000), ("b", 0)):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                values = ramp(low, low + 1000, I16, shape=(16, 16), seed=i)
                (root / split / name / f"{i:02}.tif").write_bytes(tiff(values))
    return root


@pytest.fixture(scope="module")
def scanned(scans):
    """A run on the scans, with a range."""
    result = run_cli("train", "simsiam", "--data", scans, *QUICK, *FLAG, "--out", scans.parent / "runs")
    assert result.exit_code == 0, result.output
    assert "note: values of more than 8 bits: -1000 is black, 1000 white (--range)" in result.output
    (run,) = (scans.parent / "runs").iterdir()
    return run


def test_a_run_keeps_its_range(scanned):
    about = json.loads((scanned / "run.json").read_text())
    assert about["options"]["range"] == "-1000,1000"
    assert "values of more than 8 bits: -1000 is black, 1000 white (--range)" in about["decisions"]


def test_a_run_goes_on_with_its_range_and_with_no_other(scanned):
    assert run_cli("train", "--resume", scanned, "--range", "-1000.0,1e3").exit_code == 0
    assert run_cli("train", "--resume", scanned).exit_code == 0
    refused = run_cli("train", "--resume", scanned, "--range", "0,1")
    assert refused.exit_code == 2
    assert "--range belongs to the run (-1000,1000); leave it out" in refused.output


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_is_evaluated_with_its_range(scanned, scans, tmp_path, monkeypatch, streamed):
    """So are those beside it; the flag says another."""
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0 if streamed else 0.25)
    result = run_cli("knn", scanned, "raw", "--workers", 0, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["rows"]) == 2
    rows = []
    for flag in ((), FLAG, ("--range", "-2000,2000")):
        out = ("--out", tmp_path / "f.npz", "--force")
        assert run_cli("embed", scanned, "--workers", 0, "--no-cache", *out, *flag).exit_code == 0
        rows.append(np.load(tmp_path / "f.npz")["test_features"])
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()
    query = shutil.copy(scans / "test" / "b" / "01.tif", tmp_path / "copy.tif")  # a file of the set would be left out
    found = run_cli("search", scanned, query, "--split", "test", "-n", 1, "--workers", 0, "--json")
    ((nearest,),) = [one["neighbours"] for one in json.loads(found.stdout)["queries"]]
    assert nearest["similarity"] > 0.99999  # itself, read alike


@pytest.mark.parametrize("command", [
    ("train", "simsiam", *QUICK), ("ablate", "simsiam", "--flip", "predictor", *QUICK),
    ("embed", "raw", "--out", "f.npz"), ("knn", "raw"), ("search", "raw", "test:0"),
    ("study", "stop_gradient", *QUICK), ("data", "check"),
], ids=lambda words: words[0])  # fmt: skip
def test_without_a_range_every_command_refuses_scans_and_names_it(scans, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    data = (scans,) if command[0] == "data" else ("--data", scans)
    result = run_cli(*command, *data)
    assert result.exit_code == 2
    assert "have values from -1000 to 1000 in signed 16 bits; say which range is black to white with " in (
        " ".join(result.output.split())
    )
    assert not list(tmp_path.iterdir())


def test_check_says_what_a_run_would(scans):
    result = run_cli("data", "check", scans, *FLAG, "--json")
    report = json.loads(result.stdout)
    assert (report["ok"], report["bad"], report["kinds"]) == (True, [], {"signed 16 bits": 40})
    assert "values of more than 8 bits: -1000 is black, 1000 white (--range)" in report["notes"]
    assert "40 of signed 16 bits" in run_cli("data", "check", scans, *FLAG).stdout


def test_cells_of_a_table_belong_to_their_range(scans, tmp_path, monkeypatch):
    """Those of another are trained anew, in memory or not."""
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0)
    words = ("ablate", "simsiam", "--flip", "predictor", "--data", scans, *QUICK, "--out", tmp_path)
    for flag in (FLAG, FLAG, ("--range", "-1000,2000")):
        result = run_cli(*words, *flag)
        assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("ablate-*"))) == 2
    assert any("--range -1000,1000" in path.read_text() for path in tmp_path.glob("*/table.md"))


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int64, np.float32, np.float64])
def test_arrays_of_more_than_8_bits_need_a_range(tmp_path, dtype):
    values, name = ramp(0, 4095, dtype, shape=(6, 32, 32)[1:]), str(tmp_path / "x.npz")
    images = np.stack([values] * 6)
    np.savez(name, train_images=images)
    with pytest.raises(UserError, match=rf"train_images is {np.dtype(dtype)}; .* --range LOW,HIGH .* from 0 to 4095\."):
        sets.load(name)
    found = sets.load(name, range="0,4095")
    assert (found.train.images.pixels[0, 0].numpy() == expected(values, 0, 4095)).all()
    assert "0 is black, 4095 white (--range)" in " ".join(found.notes)


def test_a_range_of_arrays_with_gaps_and_of_8_bits(tmp_path):
    name, values = str(tmp_path / "x.npz"), ramp(0, 1, F32, shape=(32, 32))
    values[0, :2] = np.nan, np.inf
    np.savez(name, train_images=np.stack([values] * 4))
    found = sets.load(name, range="0,1")
    assert found.train.images.pixels[0, 0, 0, :2].tolist() == [0, 255]
    assert "so are pixels that are NaN" in " ".join(found.notes)
    np.savez(name, train_images=EIGHT[None].repeat(4, 0))
    assert "changes nothing" in " ".join(sets.load(name, range="0,1").notes)


# ---- pictures that show nothing, and the page ------------------------------------------------------------------------


def blank(n, level=128):
    return [Image.fromarray(np.full((32, 32), level, np.uint8)) for _ in range(n)]


def noise(n, high=256):
    return [Image.fromarray(np.random.default_rng(i).integers(0, high, (32, 32), np.uint8)) for i in range(n)]


MOST = "most show nothing to learn from; they are blank, or use little of 0 to 255: save them anew"
FLAT = {  # pictures: how many of them are nearly one colour, and the cause that is named
    "none": (noise(6), 0, None),
    "one": (noise(5) + blank(1), 1, None),
    "half": (noise(3) + blank(3, 0), 3, None),
    "most": (noise(2) + blank(4, 255), 4, MOST),
    "values 0 and 1": (noise(6, 2), 6, MOST),
    "faint": ([Image.fromarray(np.array([[126, 129]] * 2, np.uint8).repeat(16, 0).repeat(16, 1))] * 6, 6, MOST),
    "a line": ([Image.fromarray(np.eye(32, dtype=np.uint8) * 255)] * 6, 0, None),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", FLAT)
def test_pictures_that_are_nearly_one_colour_are_counted(folder, monkeypatch, kind, streamed):
    pictures, flat, cause = FLAT[kind]
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0 if streamed else 0.25)
    root = folder(*pictures, suffix=".png")
    trained = sets.load(root).notes
    checked = json.loads(run_cli("data", "check", root, "--json").stdout)["notes"]
    for notes in (trained, checked):
        found = [note for note in notes if "nearly one colour" in note]
        assert len(found) == bool(flat)
        if flat:
            are = "is" if flat == 1 else "are"
            assert found[0].startswith(f"{flat} of 6 images that were looked at {are} nearly one colour ({root}/0")
            assert found[0].endswith(cause or ")")


def test_arrays_that_are_nearly_one_colour_are_counted(tmp_path):
    name = str(tmp_path / "x.npz")
    both = [np.stack([np.asarray(image) for image in images]) for images in (noise(5) + blank(1), blank(1) + noise(2))]
    np.savez(name, train_images=both[0], test_images=both[1])
    assert "2 of 9 images that were looked at are nearly one colour (train:5, test:0)" in sets.load(name).notes
    assert not any("one colour" in note for note in sets.load("digits").notes)


def test_a_range_that_hides_everything_is_named(folder):
    root = folder(*(tiff(ramp(0, 255, I32, shape=(32, 32), seed=i)) for i in range(4)))
    (note,) = [note for note in sets.load(root, range="5000,90000").notes if "one colour" in note]
    assert note.endswith("or --range 5000,90000 is not their range")


def test_jpegs_of_one_colour_are_found_and_fine_texture_is_none(tmp_path):
    """A JPEG is decoded coarsely first, where noise nearly vanishes."""
    faint = np.random.default_rng(0).normal(128, 8, (512, 512)).clip(0, 255).astype(np.uint8)
    for i, image in enumerate((Image.fromarray(faint), Image.new("L", (512, 512), 90))):
        image.save(tmp_path / f"{i}.jpg", quality=95)
    (note,) = [note for note in sets.load(str(tmp_path)).notes if "one colour" in note]
    assert note == f"1 of 2 images that were looked at is nearly one colour ({tmp_path}/1.jpg)"


@pytest.mark.parametrize("n", [1, 2])
def test_the_page_counts_one_and_many(tmp_path, n):
    """Each number with its own word."""
    root, images = tmp_path / "set", noise(9)
    for split in ("train", "test"):
        for name in "ab":
            (root / split / name).mkdir(parents=True)
    for i in range(6):
        images[i].save(root / "train" / "ab"[i % 2] / f"{i}.png")
    for i in range(2):
        images[6 + i].save(root / "test" / "ab"[i] / f"{i}.png")
    for i in range(n):
        images[i].save(root / "train" / "ab"[i % 2] / f"again{i}.png")  # equal
        images[2 + i].save(root / "test" / "ab"[i % 2] / f"leak{i}.png")
        (root / "train" / f"note{i}.txt").write_text("")
        (root / "train" / f".hidden{i}").write_text("")
        (root / "train" / f".folder{i}").mkdir()
        (root / "train" / f"gone{i}.png").symlink_to(root / "nowhere")
        Image.new("L", (16, 16)).save(root / f"beside{i}.png")
        images[8].resize((20, 20)).save(root / "train" / "a" / f"small{i}.png") if i == 0 else None
    page = " ".join(run_cli("data", "check", root).stdout.split())
    one = {
        "px": "1 image is smaller",
        "skipped": ("1 other file", "1 hidden file", "1 hidden folder", "1 broken link",
                    "1 image outside the classes and splits"),
        "equal": "equal images: 1 in train that is there already",
        "leak": "leak: 1 of test is in train too; remove it from one of the two",
    }  # fmt: skip
    many = {
        "px": "1 image is smaller",
        "skipped": ("2 other files", "2 hidden files", "2 hidden folders", "2 broken links",
                    "2 images outside the classes and splits"),
        "equal": "equal images: 2 in train that are there already",
        "leak": "leak: 2 of test are in train too; remove them from one of the two",
    }  # fmt: skip
    for words in (one if n == 1 else many).values():
        for some in (words,) if isinstance(words, str) else words:
            assert some + "," in page + "," or some + " " in page, some
    assert ("files" in page.split("skipped:")[1].split("equal")[0]) == (n == 2)


def test_the_page_of_one_image(tmp_path):
    noise(1)[0].save(tmp_path / "x.png")
    result = run_cli("data", "check", tmp_path)
    assert result.stdout.startswith("1 image: 1 in train\n")
