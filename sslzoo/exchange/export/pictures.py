"""Python for a model card: from a picture to a net's input, as an encoder was shown pictures."""

from .subject import Subject

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels
IMPORTS = "from PIL import Image\n"
IMPORTS_OF_V2 = IMPORTS + "from torchvision.transforms import v2\n"


def opened(subject: Subject) -> str:
    """Return the expression that reads a picture."""
    return f'Image.open("picture.jpg").convert("{MODES[subject.channels]}")'


def transform(subject: Subject, normalise: bool) -> tuple[str, str]:
    """Return the imports, and the lines that make ``images`` [1, C, size, size] of a picture, by torchvision.

    Pillow has no pictures of other channels than 1, 3 and 4: of such the lines say what the input is.
    """
    size = subject.size
    if subject.channels not in MODES:
        values = "normalised" if normalise else "in [0, 1]"
        return "", f"images = torch.zeros(1, {subject.channels}, {size}, {size})  # in place of yours, {values}\n"
    last = f"\n    v2.Normalize({[*subject.mean]}, {[*subject.std]})," if normalise else ""
    return IMPORTS_OF_V2, (
        "transform = v2.Compose([\n"
        f"    v2.PILToTensor(), v2.Resize({size}, antialias=True), v2.CenterCrop({size}),\n"
        f"    v2.ToDtype(torch.float32, scale=True),{last}\n])\n"
        f"images = transform({opened(subject)})[None]\n"
    )
