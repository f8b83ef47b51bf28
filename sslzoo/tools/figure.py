"""A figure of matplotlib as a file."""

import io

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from .quoting import printable

MADE_BY = {"Software": "sslzoo"}
GREY = "#8a8a8a"  # of what has no class and no verdict


def saved(figure: Figure) -> bytes:
    """Return a figure as a PNG, a $ in a text being a $, and what no font has being spelled."""
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        FigureCanvasAgg(figure)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=160, bbox_inches="tight", pad_inches=0.15, metadata=MADE_BY)
    return image.getvalue()
