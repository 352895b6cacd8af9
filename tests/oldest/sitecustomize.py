"""What Ultralytics 8.3.0 uses of the numpy below 2 that it pins, for processes that run it with today's."""

import numpy as np

if not hasattr(np, "trapz"):
    np.trapz = np.trapezoid
