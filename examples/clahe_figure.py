#!/usr/bin/env python3
"""A film before and after CLAHE, with the histogram of each, like the paper's Figure 1.

    python examples/clahe_figure.py FILM.jpg OUT.png [--film-size 256] [--backend opencv|skimage]

The pixels are those that the film cache holds. docs/clahe.png shows a film of `fusionctl synth`: generated data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fusionctl.data.images import read_film
from fusionctl.data.jpeg import UnreadableFilm
from fusionctl.errors import FusionctlError


def draw(film: Path, *, size: int, backend: str) -> Figure:
    """The figure: film and histogram in a column, without CLAHE on the left, with it on the right."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=(3, 1), sharey="row")
    for column, (clahe, title) in zip(axes.T, ((False, "original"), (True, "CLAHE")), strict=True):
        pixels = read_film(film.parent, film.name, size=size, fit="squeeze", clahe=clahe, backend=backend)
        column[0].imshow(pixels, cmap="gray", vmin=0, vmax=255)
        column[0].set(title=title, xticks=[], yticks=[])
        column[1].stairs(
            np.bincount(pixels.ravel(), minlength=256) / pixels.size, np.arange(257), fill=True, color="0.3"
        )
        column[1].set(xlabel="grey level", xlim=(0, 256))
        column[1].spines[["top", "right"]].set_visible(False)
    axes[1][0].set_ylabel("share of pixels")
    return figure


def main() -> None:
    """Parse the options and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path, help="JPEG file")
    parser.add_argument("out", type=Path, help="figure to write (.png, .svg or .pdf)")
    parser.add_argument("--film-size", type=int, default=256, help="side of the film in pixels, a multiple of 8 (256)")
    parser.add_argument("--backend", choices=("opencv", "skimage"), default="opencv", help="whose CLAHE (opencv)")
    options = parser.parse_args()
    try:
        draw(options.film, size=options.film_size, backend=options.backend).savefig(options.out, dpi=96)
    except UnreadableFilm as error:
        sys.exit(f"{options.film}: film {error}")
    except FusionctlError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
