"""Write the golden files anew: ``python tests/golden.py``, or ``python tests/golden.py cli`` for one of them.

A golden file is what the package does, as text: a test holds the package to it, and whoever changes what the package
does writes it anew, so that the change shows in review.
"""

import sys

import golden_cli
import golden_curves

KINDS = {"cli": golden_cli, "curves": golden_curves}

if __name__ == "__main__":
    for name in sys.argv[1:] or KINDS:
        KINDS[name].FILE.write_text(KINDS[name].listing(), encoding="utf-8")
        print(KINDS[name].FILE)
