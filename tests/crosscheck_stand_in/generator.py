"""The generator in PyTorch (spec eg3d 3, 5, 9 and 10), built around a checkpoint's tensors."""

import torch
import torch.nn.functional as F
from layers import GAIN, Block, Linear
from renderer import ImportanceRenderer, cast_rays
from torch import nn


def normalized(x):
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def clamp_of(block):
    return block.module("conv1").get("conv_clamp")


class Mapping(nn.Module):
    def __init__(self, tensors, name, num_ws, options):
        super().__init__()
        self.embed = Linear(tensors, f"{name}.embed")
        count = sum(key.startswith(f"{name}.fc") for key in tensors) // 2
        self.layers = nn.ModuleList(Linear(tensors, f"{name}.fc{i}", 0.01) for i in range(count))
        self.num_ws, self.scale = num_ws, options.get("c_scale", 0)
        if options.get("c_gen_conditioning_zero"):
            self.scale = 0

    def forward(self, z, c):
        x = torch.cat([normalized(z), normalized(self.embed(c * self.scale))], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * GAIN
        return x[:, None].repeat(1, self.num_ws, 1)


class Synthesis(nn.Module):
    def __init__(self, record, tensors, name):
        super().__init__()
        self.sides = [int(key[1:]) for key in record.modules]
        self.const = nn.Parameter(tensors[f"{name}.b4.const"])
        self.blocks = nn.ModuleList(
            Block(tensors, f"{name}.b{side}", side > 4, clamp_of(record.module(f"b{side}")))
            for side in self.sides
        )

    def forward(self, ws, noise_mode="random", force_fp32=False):
        x, image, position = self.const[None].repeat(ws.shape[0], 1, 1, 1), None, 0
        for block in self.blocks:
            convolutions = 1 if image is None else 2
            used = ws[:, position : position + convolutions + 1]
            x, image = block(x, image, used, noise_mode)
            position += convolutions
        return image


class Backbone(nn.Module):
    def __init__(self, record, tensors, options):
        super().__init__()
        self.synthesis = Synthesis(record.module("synthesis"), tensors, "backbone.synthesis")
        num_ws = 2 * len(self.synthesis.sides)
        self.mapping = Mapping(tensors, "backbone.mapping", num_ws, options)


class Decoder(nn.Module):
    def __init__(self, tensors, lr_mul):
        super().__init__()
        self.net = nn.Sequential(
            Linear(tensors, "decoder.net.0", lr_mul),
            nn.Softplus(),
            Linear(tensors, "decoder.net.2", lr_mul),
        )

    def forward(self, features):
        out = self.net(features)
        return torch.sigmoid(out[..., 1:]) * (1 + 2 * 0.001) - 0.001, out[..., :1]


class SuperResolution(nn.Module):
    def __init__(self, record, tensors):
        super().__init__()
        blocks = [record.module("block0"), record.module("block1")]
        for index, block in enumerate(blocks):
            up = not block.class_name.endswith("NoUp")
            name = f"superresolution.block{index}"
            setattr(self, f"block{index}", Block(tensors, name, up, clamp_of(block)))
        self.side, self.antialias = record.get("input_resolution"), record.get("sr_antialias")

    def forward(self, rgb, x, ws, noise_mode="none", force_fp32=False):
        ws = ws[:, -1:].repeat(1, 3, 1)
        if x.shape[-1] != self.side:
            size = (self.side, self.side)
            x, rgb = (
                F.interpolate(
                    y, size, mode="bilinear", align_corners=False, antialias=self.antialias
                )
                for y in (x, rgb)
            )
        x, rgb = self.block0(x, rgb, ws, noise_mode)
        return self.block1(x, rgb, ws, noise_mode)[1]


class TriPlaneGenerator(nn.Module):
    def __init__(self, record, tensors):
        super().__init__()
        self.rendering_kwargs = record.get("rendering_kwargs")
        self.neural_rendering_resolution = record.get("neural_rendering_resolution")
        self.backbone = Backbone(record.module("backbone"), tensors, self.rendering_kwargs)
        axes = record.module("renderer").get("plane_axes").numpy()
        self.renderer = ImportanceRenderer(torch.tensor(axes.copy()))
        self.decoder = Decoder(tensors, self.rendering_kwargs.get("decoder_lr_mul", 1))
        self.superresolution = SuperResolution(record.module("superresolution"), tensors)

    def mapping(self, z, c):
        return self.backbone.mapping(z, c)

    def synthesis(self, ws, c, neural_rendering_resolution=None, noise_mode="random", **more):
        side = neural_rendering_resolution or self.neural_rendering_resolution
        self.neural_rendering_resolution = side
        cameras = c[:, :16].reshape(-1, 4, 4), c[:, 16:].reshape(-1, 3, 3)
        planes = self.backbone.synthesis(ws, noise_mode=noise_mode, **more)
        count = len(self.renderer.plane_axes)
        features, depth, _ = self.renderer(
            planes.reshape(len(planes), count, -1, *planes.shape[2:]),
            self.decoder,
            *cast_rays(*cameras, side),
            self.rendering_kwargs,
        )
        image = features.transpose(1, 2).reshape(len(ws), -1, side, side)
        rgb = image[:, :3]
        mode = self.rendering_kwargs["superresolution_noise_mode"]
        larger = self.superresolution(rgb, image, ws, noise_mode=mode, **more)
        depth = depth.transpose(1, 2).reshape(len(ws), 1, side, side)
        return {"image": larger, "image_raw": rgb, "image_depth": depth}
