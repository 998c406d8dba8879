"""StyleGAN2's general FIR resampling, by which the package's special cases are checked.

It is itself compared with PyTorch in test_resample.py.
"""

import jax
import jax.numpy as jnp
import numpy as np

_TAPS = np.array([1.0, 3.0, 3.0, 1.0], np.float32)
# The filter of every resampling layer; its sum is one.
FILTER_1331 = np.outer(_TAPS, _TAPS) / np.float32(64.0)


def upfirdn2d(
    image,
    filter2d,
    *,
    up: int = 1,
    down: int = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
):
    """Insert zeros, pad, convolve (a true convolution), keep every `down`-th sample.

    Args:
      image: [H, W, C].
      filter2d: [kh, kw], any values.
      up: spacing of the input samples; zeros follow every sample, the last included.
      down: stride of the output samples, starting at index 0.
      pad: (left, right, top, bottom) zeros; negative values crop.
      gain: factor on the filter.

    Returns:
      [ceil((H * up + top + bottom - kh + 1) / down), ..., C].
    """
    height, width, channels = image.shape
    filter2d = jnp.asarray(filter2d) * gain
    spread = jnp.pad(image[:, None, :, None], ((0, 0), (0, up - 1), (0, 0), (0, up - 1), (0, 0)))
    spread = spread.reshape(height * up, width * up, channels)
    left, right, top, bottom = pad
    padded = jax.lax.pad(
        spread, jnp.zeros((), image.dtype), ((top, bottom, 0), (left, right, 0), (0, 0, 0))
    )
    rows, columns = filter2d.shape
    out_h, out_w = padded.shape[0] - rows + 1, padded.shape[1] - columns + 1
    total = sum(
        filter2d[rows - 1 - i, columns - 1 - j] * padded[i : i + out_h, j : j + out_w]
        for i in range(rows)
        for j in range(columns)
    )
    return jnp.asarray(total)[::down, ::down]
