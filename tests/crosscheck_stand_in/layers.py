"""Layers of StyleGAN2 in PyTorch (spec eg3d 2 and 4), built around the tensors of a checkpoint."""

import math

import torch
import torch.nn.functional as F
from torch import nn

GAIN = math.sqrt(2)


class Linear(nn.Module):
    def __init__(self, tensors, name, lr_mul=1.0):
        super().__init__()
        self.weight = nn.Parameter(tensors[f"{name}.weight"])
        self.bias = nn.Parameter(tensors[f"{name}.bias"])
        self.lr_mul = lr_mul

    def forward(self, x):
        weight = self.weight * (self.lr_mul / math.sqrt(self.weight.shape[1]))
        return F.linear(x, weight, self.bias * self.lr_mul)


def modulated_weight(weight, style, demodulate):
    """Weights of each sample, [N, out, in, k, k]: the fused form."""
    weight = weight[None] * style[:, None, :, None, None]
    if demodulate:
        weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    return weight


def grouped(function, x, weight, **options):
    """A convolution with weights [N, a, b, k, k], a group for each sample."""
    count = x.shape[0]
    out = function(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), groups=count, **options)
    return out.reshape(count, -1, *out.shape[2:])


def filtered(x, kernel, before, after, gain):
    """Zero padding, then a convolution of each channel with the filter."""
    x = F.pad(x, (before, after, before, after))
    channels = x.shape[1]
    kernel = kernel.flip(0, 1)[None, None].expand(channels, 1, -1, -1) * gain
    return F.conv2d(x, kernel, groups=channels)


def upsample_image(x, kernel):
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    return filtered(wide, kernel, 2, 1, 4)


def clamped(x, limit):
    return x if limit is None else x.clamp(-limit, limit)


class SynthesisLayer(nn.Module):
    def __init__(self, tensors, name, up, clamp):
        super().__init__()
        self.affine = Linear(tensors, f"{name}.affine")
        self.weight = nn.Parameter(tensors[f"{name}.weight"])
        self.bias = nn.Parameter(tensors[f"{name}.bias"])
        self.noise_strength = nn.Parameter(tensors[f"{name}.noise_strength"])
        self.register_buffer("noise_const", tensors[f"{name}.noise_const"])
        self.register_buffer("kernel", tensors[f"{name}.resample_filter"])
        self.up, self.clamp = up, clamp

    def forward(self, x, w, noise_mode):
        weight = modulated_weight(self.weight, self.affine(w), demodulate=True)
        if self.up:
            x = grouped(F.conv_transpose2d, x, weight.transpose(1, 2), stride=2)
            x = filtered(x, self.kernel, 1, 1, 4)
        else:
            x = grouped(F.conv2d, x, weight, padding=1)
        if noise_mode == "const":
            x = x + self.noise_const * self.noise_strength
        elif noise_mode == "random":
            x = x + torch.randn_like(x[:, :1]) * self.noise_strength
        x = F.leaky_relu(x + self.bias[:, None, None], 0.2) * GAIN
        return clamped(x, self.clamp)


class ToRgb(nn.Module):
    def __init__(self, tensors, name, clamp):
        super().__init__()
        self.affine = Linear(tensors, f"{name}.affine")
        self.weight = nn.Parameter(tensors[f"{name}.weight"])
        self.bias = nn.Parameter(tensors[f"{name}.bias"])
        self.clamp = clamp

    def forward(self, x, w):
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        x = grouped(F.conv2d, x, modulated_weight(self.weight, style, demodulate=False))
        return clamped(x + self.bias[:, None, None], self.clamp)


class Block(nn.Module):
    def __init__(self, tensors, name, up, clamp):
        super().__init__()
        first = f"{name}.conv0.weight" not in tensors
        self.conv0 = None if first else SynthesisLayer(tensors, f"{name}.conv0", up, clamp)
        self.conv1 = SynthesisLayer(tensors, f"{name}.conv1", False, clamp)
        self.torgb = ToRgb(tensors, f"{name}.torgb", clamp)
        self.register_buffer("kernel", tensors[f"{name}.resample_filter"])
        self.up = up

    def forward(self, x, image, ws, noise_mode):
        """Latents [N, 3, D], or [N, 2, D] for the first block."""
        if self.conv0 is not None:
            x = self.conv0(x, ws[:, 0], noise_mode)
        x = self.conv1(x, ws[:, -2], noise_mode)
        colour = self.torgb(x, ws[:, -1])
        if image is None:
            return x, colour
        if self.up:
            image = upsample_image(image, self.kernel)
        return x, image.add_(colour)  # in place, as in the original (spec 9, aliasing quirk)
