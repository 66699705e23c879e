"""``webbkg make-template``: a reference file of a bare sky image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from webbkg.cli.status import told_errors
from webbkg.cli.terminal import say


def make_template_command(
    image: Annotated[
        Path, typer.Argument(help="Sky image: FITS (zipped too) or .npy.", metavar="IMAGE")
    ],
    like: Annotated[
        Path, typer.Option(help="A target of the exposures that it is for.", metavar="FILE")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.fits).", metavar="FILE")
    ],
) -> None:
    """Wrap a bare sky image into a reference file, for --override-bkg."""
    from webbkg.files.templates import make_template

    with told_errors():
        made = make_template(image, like, output)
    say(f"{made}: template of {image.name}, for exposures like {like.name}")
