"""Which frames are fitted, and which of them have a latent of their own."""

from types import SimpleNamespace
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eg3d_jax.errors import InputError
from inversion.config import InversionConfig
from inversion.methods import choose_methods
from inversion.pipeline import Fitter, Video
from inversion.views import Views

AZIMUTHS = np.linspace(0.5, 2.6, 31)


@given(views=st.integers(1, 31), data=st.data())
def test_knots_and_the_others_are_all_fitted_frames(views, data):
    latents = data.draw(st.integers(1, views))
    *_, method = choose_methods(AZIMUTHS, views=views, latents=latents)
    assert len(set(method.frames)) == views
    if latents == 1:
        assert method.knots is None
        assert not len(method.between)
        return
    assert len(set(method.knots)) == latents
    assert method.knots[0] == 0
    assert method.knots[-1] == views - 1
    assert np.max(np.diff(method.knots)) - np.min(np.diff(method.knots)) <= 1
    assert sorted([*method.knots, *method.between]) == list(range(views))


def test_knots_and_frames_between_alternate_as_in_the_paper():
    *_, method = choose_methods(AZIMUTHS, views=9, latents=5)
    assert list(method.knots) == [0, 2, 4, 6, 8]
    assert list(method.between) == [1, 3, 5, 7]


def test_several_latents_start_from_the_single_one_of_the_same_frames():
    baseline, single, several = choose_methods(AZIMUTHS, views=7, latents=4, baseline=True)
    assert [m.name for m in (baseline, single, several)] == [
        "1 view",
        "7 views",
        "7 views, 4 latents",
    ]
    assert several.start is single
    np.testing.assert_array_equal(several.frames, single.frames)
    assert several.latent_stage == "7 views, 4 latents, latents"
    assert single.latent_stage == "7 views, latent"


@pytest.mark.parametrize("latents", [0, -1, 8])
def test_impossible_numbers_of_latents_are_refused(latents):
    with pytest.raises(InputError, match="--latents"):
        choose_methods(AZIMUTHS, views=7, latents=latents)


@pytest.mark.parametrize(
    ("views_per_step", "lone"),
    [(None, 1), (1, 7), (6, 7), (7, 1)],  # 7 and None show all frames
)
def test_a_lone_frame_counts_as_often_as_it_is_repeated(views_per_step, lone):
    """Where a step draws some of the frames; the other methods of the video stay as they are."""
    fitter: Any = SimpleNamespace(config=InversionConfig(views_per_step=views_per_step))
    baseline, single, several = choose_methods(AZIMUTHS, views=7, latents=4, baseline=True)
    video = Video(name="", frames=cast(Any, None), methods=(baseline, single, several))
    for method, shown in ((baseline, lone), (single, 7), (several, 7)):
        frames = jnp.asarray(method.frames)
        views = Views(images=frames, cameras=cast(Any, frames))
        filled, count = Fitter._filled(fitter, video, views)
        found = np.asarray(filled.images)
        assert count is None
        assert len(found) == shown
        assert set(found.tolist()) == set(method.frames.tolist())


@pytest.mark.parametrize(("views_per_step", "shown"), [(None, 3), (1, 9), (8, 9), (9, 3)])
def test_few_frames_are_filled_up_to_those_of_other_videos_and_not_counted(views_per_step, shown):
    fitter: Any = SimpleNamespace(config=InversionConfig(views_per_step=views_per_step))
    (single,) = choose_methods(AZIMUTHS, views=3, latents=1)
    video = Video(name="", frames=cast(Any, None), methods=(single,), most_views=9)
    frames = jnp.asarray(single.frames)
    views = Views(images=frames, cameras=cast(Any, frames))
    filled, count = Fitter._filled(fitter, video, views)
    found = np.asarray(filled.images).tolist()
    assert found == [*frames.tolist(), *[int(frames[-1])] * (shown - 3)]
    assert count == (None if shown == 3 else 3)
