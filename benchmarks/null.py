"""The null step: open a target with stdatamodels, save it. What any step has to pay."""

import sys

from stdatamodels.jwst import datamodels

with datamodels.open(sys.argv[1]) as model:
    model.save(sys.argv[2])
