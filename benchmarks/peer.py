"""The reference implementation, run as a black box without CRDS.

``python -m benchmarks.peer [--override_bkg=FILE] [--override_wavelengthrange=FILE]
[--wfss_mask=FILE] TARGET BACKGROUND...`` runs its step from file to file.
"""

import argparse
import logging
import os


def without_crds():
    """Tell stpipe to ask CRDS for nothing."""
    os.environ["STPIPE_DISABLE_CRDS_STEPPARS"] = "true"
    import stpipe.crds_client

    stpipe.crds_client.get_context_used = lambda observatory: "none"


def average(target, paths):
    """Average background files on an open target's window, as the reference does."""
    from jwst.background.background_sub import average_background

    return average_background(target, [str(path) for path in paths], 3.0, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--override_bkg", default="N/A")
    parser.add_argument("--override_wavelengthrange", default="N/A")
    parser.add_argument("--wfss_mask")
    parser.add_argument("target")
    parser.add_argument("backgrounds", nargs="*")
    given = vars(parser.parse_args())
    without_crds()
    from jwst.background import BackgroundStep

    logging.disable(logging.CRITICAL)
    BackgroundStep.call(
        given.pop("target"), given.pop("backgrounds"), **given, save_results=True, suffix="peer"
    )


if __name__ == "__main__":
    main()
