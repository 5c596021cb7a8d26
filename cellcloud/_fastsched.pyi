import numpy as np
import numpy.typing as npt

def fitting(
    free: npt.NDArray[np.int64], need: npt.NDArray[np.int64], allowed: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]: ...
