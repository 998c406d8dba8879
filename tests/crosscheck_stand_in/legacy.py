"""Stands in for NVIDIA's checkout: the part of its interface that the cross-check relies on.

A PyTorch implementation written from the specification, for tests only. Where NVIDIA's loader
executes the pickle, this one reads it with our reader, which is all that it shares with our code.
"""

import torch
from generator import TriPlaneGenerator

from convert_weights.pickle_reader import read_pickle, state_tensors


def load_network_pkl(file):
    record = read_pickle(file.name)["G_ema"]
    tensors = {
        name: torch.tensor(tensor.numpy().copy()) for name, tensor in state_tensors(record).items()
    }
    return {"G_ema": TriPlaneGenerator(record, tensors)}
