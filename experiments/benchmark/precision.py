"""What faster arithmetic costs: errors of pictures and gradients, and of an inversion's end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.generator import TriPlaneGenerator
from experiments.progress import Progress
from experiments.subjects import DEMO, EMBEDDED, load_generator
from inversion import evaluate, invert, load_frames, quick

# Of `jax.default_matmul_precision`; on a CPU products are float32 in all of them.
PRECISIONS = ("highest", "tensorfloat32", "bfloat16")


def errors(generator: TriPlaneGenerator) -> dict[str, dict[str, float]]:
    """Root mean square of each error over that of the value itself, by precision.

    'bfloat16' is of products, and of what convolutions read and write (`layers.in_bfloat16`);
    'bfloat16 throughout' stores all weights and features so.

    Args:
      generator: with any weights.

    Returns:
      By precision: image, depth, and gradient with respect to ws.
    """
    exact, found = _values(generator, "highest"), {}
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), generator)
    for name, model, precision in (
        *((p, generator, p) for p in PRECISIONS[1:]),
        ("bfloat16 throughout", half, "bfloat16"),
    ):
        values = _values(model, precision)
        found[name] = {
            key: float(np.sqrt(np.mean((values[key] - x) ** 2) / np.mean(x**2)))
            for key, x in exact.items()
        }
    return found


def end_results(progress: Progress) -> dict[str, float]:
    """PSNR of the demo head's unfitted frames, inverted in each precision, dB."""
    generator = load_generator(EMBEDDED)
    frames, found = load_frames(DEMO, generator), {}
    for precision in PRECISIONS:
        with progress.task(f"inverting the demo head: {precision}"):
            with jax.default_matmul_precision(precision):
                head = invert(generator, frames.evenly(7), quick(), key=jax.random.key(0))
                measured = evaluate(head, frames)
        psnr = measured.mean("psnr", "not fitted")
        assert psnr is not None  # seven of the frames are fitted, the others are not
        found[precision] = psnr
    return found


def _values(generator: TriPlaneGenerator, precision: str) -> dict[str, np.ndarray]:
    camera = yaw_pitch_camera(0.3, 0.1)
    dtype = jax.tree.leaves(generator)[0].dtype

    def loss(ws: jax.Array, generator: TriPlaneGenerator):
        out = generator.synthesize(ws, camera)
        return jnp.mean(jnp.square(out.image)) + jnp.mean(out.depth), out

    with jax.default_matmul_precision(precision):
        z = jnp.ones(generator.config.z_dim, dtype)
        ws = jax.jit(lambda g, z: g.map_to_ws(z))(generator, z).astype(dtype)
        gradient, out = jax.jit(jax.grad(loss, has_aux=True))(ws, generator)
    values = {"image": out.image, "depth": out.depth, "gradient": gradient}
    return {name: np.asarray(value, np.float64) for name, value in values.items()}
