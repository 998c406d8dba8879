"""Smoothing of a video's cameras: errors independent from frame to frame are removed.

Cameras that were found frame by frame have such errors, while the motion of a head changes little
from one frame to the next. How little is estimated from the cameras themselves.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import cho_solve_banded, cholesky_banded

from eg3d_jax.cameras import Cameras
from inversion.camera_refinement.motion import CameraPrior, tangents, transform_poses

_LEAST_FRAMES = 10  # fewer do not tell errors from motion
_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])
# Candidates for the variance of a velocity's change, over that of the errors. With errors of a
# degree: from a thousandth of a degree a frame to a thousand degrees.
_RATIOS = np.geomspace(1e-6, 1e6, 121)


def smooth(cameras: Cameras, prior: CameraPrior) -> Cameras:
    """Remove from the cameras of consecutive frames their most likely independent errors.

    Along each of the six axes of a rigid motion, errors and changes of velocity between frames are
    modelled as independent and normal (a local linear trend). Their two variances are the ones of
    maximum likelihood, and the errors removed are the posterior mean. A uniform motion has no
    errors, whatever its speed.

    If the errors along any axis have a larger deviation than the prior's, the frames are taken for
    photographs in some order, and all cameras are returned as given.

    Args:
      cameras: [T] in the order of time; fewer than ten are returned as given.
      prior: largest deviations of the errors.

    Returns:
      [T] cameras with other poses and the same intrinsics.
    """
    return replace(cameras, cam2world=smooth_poses(cameras.cam2world, prior))


def smooth_poses(poses: Array, prior: CameraPrior) -> Array:
    """Remove from camera poses [T, 4, 4] what `smooth` does from cameras."""
    if len(poses) < _LEAST_FRAMES:
        return poses
    velocity = np.asarray(tangents(poses[:-1], poses[1:]), np.float64)
    found = [likely_errors(change) for change in np.diff(velocity, axis=0).T]
    errors = np.stack([errors for errors, _ in found], axis=-1)
    distance = float(jnp.mean(jnp.linalg.norm(poses[:, :3, 3], axis=-1)))
    most = np.repeat([prior.translation * distance, prior.rotation], 3)
    if np.any(np.array([deviation for _, deviation in found]) > most):
        return poses
    return transform_poses(poses, jnp.asarray(-errors, poses.dtype))


def smooth_motions(rigid: np.ndarray) -> np.ndarray:
    """Remove from the motions of consecutive cameras their most likely independent errors.

    As `smooth` does from the cameras: for labels whose own errors change smoothly, so that what
    changes from frame to frame is an error of the motion found.

    Args:
      rigid: [T, 6] motions in the order of time, as `CameraMotion.rigid`.

    Returns:
      [T, 6]; fewer than ten are returned as given.
    """
    if len(rigid) < _LEAST_FRAMES:
        return rigid
    errors = [likely_errors(change)[0] for change in np.diff(rigid.astype(float), 2, axis=0).T]
    return rigid - np.stack(errors, axis=-1)


def likely_errors(change: np.ndarray) -> tuple[np.ndarray, float]:
    """Estimate the errors of a series from its second differences.

    Args:
      change: [T - 2] second differences.

    Returns:
      The posterior mean of the errors, [T], and the estimate of their standard deviation.
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
