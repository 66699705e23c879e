"""What the planes of a result are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
FlagImage = npt.NDArray[np.uint32]
CountImage = npt.NDArray[np.uint32]
BoolImage = npt.NDArray[np.bool_]
