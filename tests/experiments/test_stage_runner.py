"""A video whose loss is no number ends alone, and its last sound state is kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import toy_inversion
from hypothesis import given
from hypothesis import strategies as st

from inversion.fitting import states
from inversion.pipeline import batches


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_one_video_of_a_batch(tmp_path):
    fits = toy_inversion.invert(tmp_path, "03")
    assert not fits["0"].usable
    assert "is not finite after step 0" in fits["0"].stopped[0]
    assert fits["3"].usable
    assert not fits["3"].stopped
    assert np.isfinite(fits["0"].latents.w_plus).all()
    folder = tmp_path / "0" / "state" / "3-views-latent"
    assert states.steps(folder) == [0]
    # Of the other the last two are kept.
    end, save_steps = toy_inversion.STEPS, toy_inversion.SAVE_STEPS
    assert states.steps(tmp_path / "3" / "state" / folder.name) == [end - save_steps, end]
    again = toy_inversion.invert(tmp_path, "03")  # it does not begin anew
    np.testing.assert_array_equal(again["3"].latents.w_plus, fits["3"].latents.w_plus)
    assert again["0"].stopped == fits["0"].stopped


@pytest.mark.slow
def test_a_video_at_its_target_ends_alone_where_it_would_by_itself(tmp_path):
    # After twenty steps, the least that count, the first ones' 0.7 of 1 and 2.8 of 9 still do.
    stage, target, steps = "3-views-latent", 0.2, 24
    fits = toy_inversion.invert(tmp_path / "both", "19", target, num_steps=steps)
    (near,) = states.steps(tmp_path / "both" / "1" / "state" / stage)[-1:]
    assert steps > near >= 20
    assert states.steps(tmp_path / "both" / "9" / "state" / stage)[-1] == steps
    assert not fits["1"].stopped
    alone = toy_inversion.invert(tmp_path / "alone", "1", target, num_steps=steps)
    np.testing.assert_array_equal(alone["1"].latents.w_plus, fits["1"].latents.w_plus)
    # From the save before the last, which is damaged, it comes to the same end.
    for folder in (tmp_path / "alone" / "1" / "state").iterdir():
        (folder / f"{states.steps(folder)[-1]:08d}" / "arrays" / "manifest.ocdbt").write_text("")
    logged = (tmp_path / "alone" / "1" / "log.csv").read_text()
    with pytest.warns(UserWarning, match="is damaged"):
        again = toy_inversion.invert(tmp_path / "alone", "1", target, num_steps=steps)
    # Every step once, as before, if in another order.
    relogged = (tmp_path / "alone" / "1" / "log.csv").read_text()
    assert sorted(relogged.splitlines()) == sorted(logged.splitlines())
    np.testing.assert_array_equal(again["1"].latents.w_plus, fits["1"].latents.w_plus)
    assert states.steps(tmp_path / "alone" / "1" / "state" / stage)[-1] == near


@pytest.mark.slow
def test_each_video_keeps_the_noise_maps_fitted_to_it_in_all_stages(tmp_path):
    fits = toy_inversion.invert(tmp_path, "19", fit_noise_maps=True)
    first, second = (fits[name].noise_maps["backbone"] for name in "19")
    assert np.abs(first - second).max() > 0.01
    for name, fit in fits.items():
        stored = fit.generator.backbone.noise_map[...]
        np.testing.assert_array_equal(stored, fit.noise_maps["backbone"])
        # Tuned on its own canvas: another's would show 0.1 times its number worse than this.
        shown = fit.generator.tri_planes(fit.latents.w_plus[1])
        assert float(shown) == pytest.approx(0.1 * int(name), abs=0.1), name
    again = toy_inversion.invert(tmp_path, "19", fit_noise_maps=True)  # from the saved states
    np.testing.assert_array_equal(again["9"].noise_maps["backbone"], second)


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=12), st.integers(1, 5))
def test_batches_hold_every_video_once_and_are_alike(shapes, size):
    videos = [SimpleNamespace(name=i, shape=shape) for i, shape in enumerate(shapes)]
    found = batches(videos, size)
    assert sorted(video.name for batch in found for video in batch) == list(range(len(videos)))
    for batch in found:
        assert 1 <= len(batch) <= size
        assert len({video.shape for video in batch}) == 1
    for shape in set(shapes):
        sizes = [len(batch) for batch in found if batch[0].shape == shape]
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-shapes.count(shape) // size)
