"""The reference implementation, run as a black box without CRDS.

``python -m benchmarks.peer TARGET BACKGROUND...`` runs its step from file to file.
"""

import logging
import os
import sys


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
    without_crds()
    from jwst.background import BackgroundStep

    logging.disable(logging.CRITICAL)
    BackgroundStep.call(
        sys.argv[1],
        sys.argv[2:],
        override_bkg="N/A",
        override_wavelengthrange="N/A",
        save_results=True,
        suffix="peer",
    )


if __name__ == "__main__":
    main()
