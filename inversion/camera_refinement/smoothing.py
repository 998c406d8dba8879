"""Cameras of a video's frames without what shakes from one frame to the next.

Found frame by frame, cameras err frame by frame, while a head has weight: its motion changes
little between frames. How little is estimated from the cameras themselves.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from eg3d_jax.cameras import Cameras
from inversion.camera_refinement.motion import CameraSpread, carried, tangents

_LEAST_FRAMES = 10  # fewer do not tell errors from motion
_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])
# What is tried as the variance of a motion's change, over that of the errors. With errors of a
# degree: motions that change by a thousandth of one, up to such that change by a thousand.
_RATIOS = np.geomspace(1e-6, 1e6, 121)


def steadied(cameras: Cameras, spread: CameraSpread) -> Cameras:
    """Cameras of consecutive frames, less what is most probably error.

    Along each of the six axes of a rigid motion errors are taken as independent and normal, and so
    are changes of the motion from one step between frames to the next (a local linear trend). The
    variances of both are those that make what is seen most likely; errors are then the mean of what
    they can be. A motion that is uniform is no error, whatever its speed.

    Where errors along any axis would be larger than expected, what is seen is no video but
    photographs in some order, and all cameras stay.

    Args:
      cameras: [T] in the order of time; fewer than ten stay as they are.
      spread: deviations expected of the cameras, at most.
    """
    poses = cameras.cam2world
    if len(poses) < _LEAST_FRAMES:
        return cameras
    velocity = np.asarray(tangents(poses[:-1], poses[1:]), np.float64)
    found = [likely_errors(change) for change in np.diff(velocity, axis=0).T]
    errors = np.stack([errors for errors, _ in found], axis=-1)
    distance = float(jnp.mean(jnp.linalg.norm(cameras.position, axis=-1)))
    most = np.repeat([spread.translation * distance, spread.rotation], 3)
    if np.any(np.array([deviation for _, deviation in found]) > most):
        return cameras
    return replace(cameras, cam2world=carried(poses, jnp.asarray(-errors, poses.dtype)))


def likely_errors(change: np.ndarray) -> tuple[np.ndarray, float]:
    """Errors of a series of which second differences are known, [T - 2].

    Returns:
      The mean of what the errors can be, [T], and the deviation that they were taken to have.
    """
    if not np.any(change):
        return np.zeros(len(change) + 2), 0.0
    lowest, found = np.inf, (np.zeros(len(change) + 2), 0.0)
    for ratio in _RATIOS:
        # Covariance of second differences, over the errors' variance: lower bands of a matrix.
        bands = np.repeat([[6.0 + ratio], [-4.0], [1.0]], len(change), axis=1)
        factor = cholesky_banded(bands, lower=True)
        solved = cho_solve_banded((factor, True), change)
        variance = change @ solved / len(change)  # the likeliest for this ratio
        cost = len(change) * np.log(variance) + 2 * np.sum(np.log(factor[0]))
        if cost < lowest:
            lowest = cost
            found = np.convolve(solved, _SECOND_DIFFERENCE), float(np.sqrt(variance))
    return found
