"""What training leaves in a checkpoint is left out by name; anything else surplus is refused."""

import numpy as np
import pytest
from torch_files import saved

from convert_weights.array_pickle import CheckpointError
from convert_weights.generator import check_sharing, count_parameters, left_out, read_generator
from convert_weights.pickle_reader import read_pickle
from convert_weights.state_dict import read_state_dict
from convert_weights.storages import rebuild_tensor
from convert_weights.torch_archives import storage_from_bytes
from eg3d_jax.config import ffhq_512

DATA_PARALLEL = "torch.nn.parallel.data_parallel", "DataParallel"
DISTRIBUTED = "torch.nn.parallel.distributed", "DistributedDataParallel"
AVERAGED = "torch.optim.swa_utils", "AveragedModel"
COMPILED = "torch._dynamo.eval_frame", "OptimizedModule"


@pytest.fixture
def read(tmp_path, writer):
    """Write G_ema, or a whole file, and read it: the tree, and its configuration and state."""

    def run(generator):
        path = tmp_path / "x.pkl"
        whole = isinstance(generator, bytes)
        path.write_bytes(generator if whole else writer.dumps({"G_ema": generator}))
        tree = read_pickle(path)
        return tree, *read_generator(tree)

    return run


def held(writer, kind, name, inner, buffers=None):
    state = {"_parameters": {}, "_buffers": buffers or {}, "_modules": {name: inner}}
    return writer.Instance(writer.Global(*kind), state)


def with_tensor(writer, name, array):
    state = writer.state_dict(writer.smallest())
    return writer.generator_record(writer.smallest(), state | {name: array})


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("dataset_label_std", np.full(25, 0.5, np.float32)),
        ("dataset_label_std", np.zeros(0, np.float32)),  # without labels
        ("n_averaged", np.float32(1000)),
        ("backbone.synthesis.b4.num_batches_tracked", np.float32(7)),
    ],
)
def test_bookkeeping_is_left_out_and_reported(read, writer, name, array):
    array = np.asarray(array)
    tree, config, state = read(with_tensor(writer, name, array))
    assert config == writer.smallest()
    assert list(state) == list(writer.state_dict(config))
    assert left_out(tree) == [f"{name} {list(array.shape)}"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dataset_label_mean", (25,)),
        ("dataset_label_std2", (25,)),
        ("backbone.dataset_label_std", (25,)),  # the training loop gives it to the whole
        ("dataset_label_std", (5, 5)),
        ("num_batches_tracked", (3,)),
        ("backbone.synthesis.running_mean", (4,)),
        ("backbone.synthesis.b4.conv1.weight_u", (4,)),
    ],
)
def test_anything_else_surplus_is_refused_by_its_name(read, writer, name, shape):
    with pytest.raises(CheckpointError, match=f"unexpected: {name}$|unexpected: {name};"):
        read(with_tensor(writer, name, np.zeros(shape, np.float32)))


def test_a_tensor_that_is_left_out_still_has_to_be_sound(read, writer):
    good = writer.emit(np.zeros(25, np.float32))
    reaching = writer.emit(with_shape(writer, (26,)))
    data = writer.dumps({"G_ema": with_tensor(writer, "dataset_label_std", np.zeros(25, "f4"))})
    assert data.count(good) == 1
    with pytest.raises(CheckpointError, match="more elements than its storage|beyond its storage"):
        read(data.replace(good, reaching))


def with_shape(writer, shape):
    call = writer.tensor(np.zeros(25, np.float32))
    return writer.Call(call.function, (*call.arguments[:2], shape, *call.arguments[3:]))


def whole(writer):
    return writer.generator_record(writer.smallest())


def wrappers(writer):
    inner = whole(writer)
    yield "data-parallel", held(writer, DATA_PARALLEL, "module", inner), []
    yield "distributed", held(writer, DISTRIBUTED, "module", inner), []
    counted = held(writer, AVERAGED, "module", inner, {"n_averaged": np.asarray(np.float32(3))})
    yield "averaged", counted, ["n_averaged []"]
    compiled = writer.Call(writer.Global(*COMPILED), (inner, None))
    yield "compiled", compiled, []
    yield "two", held(writer, DATA_PARALLEL, "module", compiled), []


def test_wrappers_are_peeled_and_names_are_those_without_them(read, writer):
    for kind, generator, rest in wrappers(writer):
        tree, config, state = read(generator)
        assert config == writer.smallest(), kind
        assert list(state) == list(writer.state_dict(config)), kind
        assert left_out(tree) == rest, kind


@pytest.mark.parametrize(
    "part",
    ["backbone", "backbone.synthesis", "backbone.synthesis.b4.conv1", "superresolution.block0"],
)
def test_wrappers_of_parts_are_peeled(read, writer, part):
    inner = whole(writer)
    *path, last = part.split(".")
    parent = inner
    for name in path:
        parent = children(parent)[name]
    children(parent)[last] = held(writer, DATA_PARALLEL, "module", children(parent)[last])
    _, config, state = read(inner)
    assert list(state) == list(writer.state_dict(config))


def children(record):
    state = record.state if hasattr(record, "state") else record.arguments[0]["state"]
    return state["_modules"]


def test_a_wrapper_of_something_else_is_refused(read, writer):
    inner = whole(writer)
    for kind, name, others in (
        (DATA_PARALLEL, "other", {}),
        (DATA_PARALLEL, "module", {"b": inner}),
    ):
        wrapper = held(writer, kind, name, inner)
        wrapper.state["_modules"] |= others
        with pytest.raises(CheckpointError, match="malformed"):
            read(wrapper)
    with pytest.raises(CheckpointError, match="dataset"):  # by its name only on the generator
        read(held(writer, DATA_PARALLEL, "module", inner, {"dataset_x": np.zeros(25, np.float32)}))


def test_a_wrapper_that_holds_itself_is_refused(tmp_path):
    data = b"\x80\x04}(\x8c\x05G_emactorch.nn.parallel.data_parallel\nDataParallel\n)\x81q\x00}"
    data += b"(\x8c\x08_modules}(\x8c\x06moduleh\x00uubu."
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match="contain each other"):
        read_generator(read_pickle(tmp_path / "x.pkl"))


def test_a_compiled_module_of_an_unknown_torch_is_told_with_the_way_on(tmp_path, writer):
    strange = writer.Call(writer.Global("torch._dynamo.new_part", "Guard"), ())
    (tmp_path / "x.pkl").write_bytes(writer.dumps({"G_ema": strange}))
    with pytest.raises(CheckpointError, match=r"new_part\.Guard; .*_orig_mod"):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_a_wrapped_networks_state_dict_are_those_without_it(tmp_path, prefix):
    names = ("a.weight", "module.bias")
    state = {prefix + name: np.float32([i]) for i, name in enumerate(names)}
    path = tmp_path / "x.pth"
    path.write_bytes(saved({"n_averaged": np.asarray(4), **state}, legacy=False))
    assert list(read_state_dict(path)) == list(names)
    path.write_bytes(saved({"other": np.int64([4]), **state}, legacy=True))
    assert list(read_state_dict(path)) == ["other", *state]


def test_parameters_are_counted_without_buffers():
    assert count_parameters(ffhq_512()) == (132, 30_662_136)


def test_tensors_may_see_one_storage_in_proportion(read, writer):
    """One storage under many tensors is what torch writes for tied and for flattened ones."""
    state = writer.state_dict(writer.smallest())
    data = writer.dumps({"G_ema": writer.generator_record(writer.smallest(), state)})
    filters = writer.emit(state["superresolution.resample_filter"])
    assert data.count(filters) > 5
    first = data.index(filters) + len(filters)
    _, _, found = read(data[:first] + b"q\x01" + data[first:].replace(filters, b"h\x01"))
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


def test_tensors_that_see_one_storage_again_and_again_are_refused(writer):
    storage = storage_from_bytes(memoryview(writer.storage_bytes(np.zeros(1 << 16, np.float32))))
    tensors = [rebuild_tensor(storage, 0, (1 << 16,), (1,)) for _ in range(6)]
    check_sharing(tensors[:5])
    with pytest.raises(CheckpointError, match="again and again"):
        check_sharing(tensors)
