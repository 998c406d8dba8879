"""MS-SSIM against the package pytorch-msssim: its stored values, and the package where installed.

Pictures are defined by rule, values stored; see tests/golden/README.md.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_rule import load

from inversion.metrics import ms_ssim

pytestmark = pytest.mark.compiled_in_full

# A mean or product of numbers within m of the mean colour is off by at most some ulps of m^2, about
# 2e-7 m^2 in float32, and a term (2 cov + c2) / (va + vb + c2), c2 = 9e-4, by 2e-7 m^2 / 9e-4 =
# 2e-4 m^2 where the picture is flat, and less with contrast. Flat parts far from the mean colour
# cost digits, then, unless both pictures are equal there, when the errors of numerator and
# denominator are. Grain as here has va = vb > 6e-4, of either sign in thousands of pixels.
TOLERANCE = 1e-5

CASES = [
    ("noisy", 161, 161), ("negative", 161, 161), ("one_negative", 161, 161), ("flat", 161, 161),
    ("noisy", 175, 181), ("shifted", 175, 181), ("unrelated", 175, 181), ("white", 175, 181),
    ("noisy", 256, 256), ("brighter", 256, 256), ("one_negative", 256, 256), ("white", 256, 256),
    ("shifted", 512, 512), ("unrelated", 512, 512),
]  # fmt: skip
NAMES = [f"{kind}_{height}x{width}" for kind, height, width in CASES]
EACH = pytest.mark.parametrize(("case", "name"), list(zip(CASES, NAMES, strict=True)), ids=NAMES)
# Where the package loses digits itself, if called in float32.
FLAT = ("flat", "white")


def picture(rng, height, width):
    """[height, width, 3] in [-1, 1]: colour patches of 23 pixels under fine grain."""
    patches = rng.uniform(-0.8, 0.8, (height // 23 + 1, width // 23 + 1, 3))
    large = np.repeat(np.repeat(patches, 23, axis=0), 23, axis=1)[:height, :width]
    return np.clip(large + 0.05 * rng.standard_normal(large.shape), -1, 1)


def pair(kind, height, width):
    """Two pictures [height, width, 3] float32 in [-1, 1] by rule."""
    rng = np.random.default_rng(zlib.crc32(f"msssim/{kind}_{height}x{width}".encode()))
    a = picture(rng, height, width)
    if kind == "noisy":
        b = a + 0.1 * rng.standard_normal(a.shape)
    elif kind == "shifted":
        b = np.roll(a, 3, axis=1)
    elif kind == "brighter":
        b = 0.5 * a + 0.4
    elif kind == "unrelated":
        b = picture(rng, height, width)
    elif kind == "negative":
        b = -a
    elif kind == "one_negative":
        b = a * [0.9, -1.0, 0.8]
    elif kind == "white":  # the middle of a picture on white, and it darker on light grey
        inside = np.zeros((height, width, 1), bool)
        inside[height // 4 : -height // 4, width // 4 : -width // 4] = True
        a, b = np.where(inside, a, 1.0), np.where(inside, a - 0.05, 0.8)
    else:
        a, b = np.full_like(a, 0.3), np.full_like(a, -0.2)
    return a.astype(np.float32), np.clip(b, -1, 1).astype(np.float32)


def package_values(a, b):
    """MS-SSIM of pictures in [-1, 1] by pytorch-msssim in float64, window included, and float32."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    package = pytest.importorskip("pytorch_msssim", reason="pip install pytorch-msssim==1.0.0")
    offsets = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    windows = {"float64": (window / window.sum()).repeat(3, 1, 1, 1), "float32": None}
    values = []
    for kind, win in windows.items():
        x, y = (torch.from_numpy((i.transpose(2, 0, 1)[None].astype(kind) + 1) / 2) for i in (a, b))
        values.append(float(package.ms_ssim(x, y, data_range=1.0, win=win)))
    return values


@pytest.fixture(scope="module")
def compiled():
    return jax.jit(ms_ssim)


@EACH
def test_ms_ssim_equals_the_packages_stored_values(compiled, case, name):
    a, b = pair(*case)
    found = float(compiled(jnp.asarray(a), jnp.asarray(b)))
    exact, single = load("ms_ssim")[name]
    assert found == pytest.approx(exact, abs=TOLERANCE)
    if case[0] not in FLAT:
        assert found == pytest.approx(single, abs=TOLERANCE)


def test_the_pictures_range_from_alike_to_opposite():
    exact = {name: values[0] for name, values in load("ms_ssim").items()}
    assert exact["negative_161x161"] == 0.0  # contrast is negative in every channel
    assert 0.6 < exact["one_negative_161x161"] < 2 / 3  # and here in one of three
    assert 0.0 < exact["unrelated_512x512"] < 0.1
    assert exact["noisy_256x256"] > 0.9


@EACH
def test_the_package_says_what_is_stored(case, name):
    exact, single = load("ms_ssim")[name]
    found = package_values(*pair(*case))
    assert found[0] == pytest.approx(exact, abs=1e-9)
    assert found[1] == pytest.approx(single, abs=1e-6 if case[0] not in FLAT else 2e-4)
