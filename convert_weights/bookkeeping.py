"""Tensors that training leaves in a generator and that nothing reads when a picture is made.

They are left out by name, and only those: a tensor that is not known may be part of a layer that is
not known, and leaving it out would change the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

from convert_weights.storages import Tensor

# EG3D's training loop registers this on the generator: the spread of each of the label's numbers.
_LABEL_SPREAD = "dataset_label_std"
# Counters of torch: models averaged by an AveragedModel, batches seen by a batch normalisation
# (whose other tensors are not left out, as they do take part).
_COUNTERS = ("n_averaged", "num_batches_tracked")


def split(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate a generator's tensors from what its training left beside them.

    Args:
      tensors: all tensors by their dotted names.

    Returns:
      The tensors that belong to layers, and those that are left out.
    """
    left_out = {name: tensor for name, tensor in tensors.items() if _is_bookkeeping(name, tensor)}
    return {k: v for k, v in tensors.items() if k not in left_out}, left_out


def _is_bookkeeping(name: str, tensor: Tensor) -> bool:
    if name == _LABEL_SPREAD:
        return len(tensor.shape) == 1
    return name.rpartition(".")[2] in _COUNTERS and tensor.size == 1
