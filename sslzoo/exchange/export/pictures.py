"""Python for a model card: a picture as an encoder was shown pictures, by Pillow and numpy alone."""

from .subject import Subject

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels
SQUARE = """\
image = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("{mode}")
scale = {size} / min(image.size)  # the shorter side to {size} px, then the centre, as in training
image = image.resize([max({size}, round(scale * side)) for side in image.size], Image.Resampling.BILINEAR)
left, top = ((side - {size}) // 2 for side in image.size)
image = image.crop((left, top, left + {size}, top + {size}))
"""


def square(subject: Subject) -> str | None:
    """Return lines that make ``image`` of a picture, of the encoder's size; None where Pillow lacks such pictures."""
    mode = MODES.get(subject.channels)
    return None if mode is None else SQUARE.format(mode=mode, size=subject.size)


def arrays(subject: Subject, normalise: bool) -> tuple[str, str]:
    """Return imports and lines that make ``images`` of a picture, float32 [1, C, size, size] of numpy."""
    size, lines = subject.size, square(subject)
    shape = f"{size}, {size}, {subject.channels}"
    if lines is None:
        imports = "import numpy\n"
        lines = f'images = numpy.zeros([1, {subject.channels}, {size}, {size}], "float32")  # yours, in [0, 1]\n'
    else:
        imports = "import numpy\nfrom PIL import Image, ImageOps\n"
        lines += f'images = numpy.asarray(image, "float32").reshape([1, {shape}]).transpose(0, 3, 1, 2) / 255\n'
    if normalise:
        mean, std = (f'numpy.array({[*values]}, "float32")' for values in (subject.mean, subject.std))
        lines += f"mean, std = {mean}, {std}\n"
        lines += "images = (images - mean[:, None, None]) / std[:, None, None]\n"
    return imports, lines
