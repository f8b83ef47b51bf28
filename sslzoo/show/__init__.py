"""What a person sees: rich only. Coloured tables and a live line on a terminal, plain lines elsewhere."""

from .bench import about, clusters_table, knn_tables, left_out, neighbours_table, runs_table
from .cells import CellsScreen, cells_table, studies_table
from .pages import diff_table, map_tree, methods_markdown, methods_table, presets_page, recipe_page
from .plain import duration, error, line
from .screen import Screen
from .survey import survey_page
from .waiting import Bar, Waiting

__all__ = [
    "Bar",
    "CellsScreen",
    "Screen",
    "Waiting",
    "about",
    "cells_table",
    "clusters_table",
    "diff_table",
    "duration",
    "error",
    "knn_tables",
    "left_out",
    "line",
    "map_tree",
    "methods_markdown",
    "methods_table",
    "neighbours_table",
    "presets_page",
    "recipe_page",
    "runs_table",
    "studies_table",
    "survey_page",
]  # fmt: skip
