"""Propagated errors against the scatter of many realisations: ``-m benchmarks.propagation``."""

import argparse
from functools import partial

from benchmarks.run import table
from webbkg.simulate import realisations

CASES = {
    "image, 5 backgrounds": realisations.image,
    "image, 12 backgrounds": partial(realisations.image, n_backgrounds=12),
    "WFSS": realisations.wfss,
    "SOSS": realisations.soss,
}


def rows(number, seed):
    """Calibrate every case."""
    for name, make in CASES.items():
        found = realisations.calibrate(make, number, seed)
        yield {
            "case": name,
            "realisations": found.realisations,
            "ERR, propagated": f"{found.err:.3f}",
            "ERR, as it was": f"{found.plain_err:.3f}",
            "variance of 100 pixels, recipe": f"{found.sums:.3f}",
            "sum of ERR² alone": f"{found.plain_sums:.3f}",
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realisations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    print("Quoted, as a fraction of what the scatter shows:\n")
    print(table(list(rows(options.realisations, options.seed))))


if __name__ == "__main__":
    main()
