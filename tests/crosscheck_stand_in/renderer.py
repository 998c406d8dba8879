"""Rays and the volume renderer in PyTorch (spec eg3d 6.2, 7 and 8)."""

import torch
import torch.nn.functional as F
from torch import nn


def cast_rays(cam2world, intrinsics, side):
    """[N, 4, 4], [N, 3, 3] -> origins and directions [N, side * side, 3]."""
    centres = (torch.arange(side, dtype=torch.float32, device=cam2world.device) + 0.5) / side
    v, u = (x.reshape(1, -1) for x in torch.meshgrid(centres, centres, indexing="ij"))
    fx, skew, cx = (intrinsics[:, 0, k, None] for k in range(3))
    fy, cy = intrinsics[:, 1, 1, None], intrinsics[:, 1, 2, None]
    y = (v - cy) / fy
    x = (u - cx + cy * skew / fy - skew * v / fy) / fx
    points = torch.stack([x, y, torch.ones_like(x), torch.ones_like(x)], dim=-1)
    world = (points @ cam2world.transpose(1, 2))[..., :3]
    origin = cam2world[:, None, :3, 3]
    return origin.expand_as(world), F.normalize(world - origin, dim=-1)


def midpoints(x, dim=2):
    count = x.shape[dim] - 1
    return (x.narrow(dim, 0, count) + x.narrow(dim, 1, count)) / 2


def march(colours, densities, depths, options):
    """[N, R, S, *] -> colours [N, R, C], depth [N, R, 1] and weights [N, R, S - 1, 1]."""
    extinction = F.softplus(midpoints(densities) - 1)
    alpha = 1 - torch.exp(-extinction * depths.diff(dim=2))
    shifted = torch.cat([torch.ones_like(alpha[:, :, :1]), 1 - alpha + 1e-10], dim=2)
    weights = alpha * shifted.cumprod(dim=2)[:, :, :-1]
    total = weights.sum(dim=2)
    colour = (weights * midpoints(colours)).sum(dim=2)
    depth = (weights * midpoints(depths)).sum(dim=2) / total
    depth = depth.nan_to_num(float("inf")).clamp(depths.min(), depths.max())
    if options.get("white_back"):
        colour = colour + 1 - total
    return 2 * colour - 1, depth, weights


class ImportanceRenderer(nn.Module):
    def __init__(self, plane_axes):
        super().__init__()
        self.plane_axes = plane_axes

    def forward(self, planes, decoder, origins, directions, options):
        """Planes [N, 3, C, P, P] -> features [N, R, C], depth [N, R, 1], opacity [N, R, 1]."""

        def field(depths):
            points = origins[:, :, None] + depths * directions[:, :, None]
            sampled = self.sample(planes, points.flatten(1, 2), options["box_warp"])
            colours, densities = decoder(sampled)
            return (x.reshape(*depths.shape[:3], -1) for x in (colours, densities))

        start, end, count = options["ray_start"], options["ray_end"], options["depth_resolution"]
        steps = torch.linspace(0, 1, count, device=planes.device).reshape(1, 1, count, 1)
        depths = (start + steps * (end - start)).repeat(*origins.shape[:2], 1, 1)
        depths = depths + torch.rand_like(depths) * ((end - start) / (count - 1))
        colours, densities = field(depths)
        more = options["depth_resolution_importance"]
        if more:
            with torch.no_grad():
                weights = march(colours, densities, depths, options)[2]
                fine = self.importance(depths, weights, more)
            fine_colours, fine_densities = field(fine)
            depths, order = torch.cat([depths, fine], dim=2).sort(dim=2)
            colours = torch.cat([colours, fine_colours], dim=2)
            colours = colours.gather(2, order.expand(-1, -1, -1, colours.shape[-1]))
            densities = torch.cat([densities, fine_densities], dim=2).gather(2, order)
        colour, depth, weights = march(colours, densities, depths, options)
        return colour, depth, weights.sum(dim=2)

    def sample(self, planes, points, box_warp):
        """Features [N, M, C] at points [N, M, 3], the mean over the planes."""
        axes = torch.linalg.inv(self.plane_axes.to(points.device))
        places = torch.einsum("nmi,kij->nkmj", points * (2 / box_warp), axes)[..., :2]
        sampled = F.grid_sample(
            planes.flatten(0, 1),
            places.flatten(0, 1)[:, None],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        return sampled[:, :, 0].reshape(*planes.shape[:3], -1).mean(dim=1).transpose(1, 2)

    def importance(self, depths, weights, count):
        n, rays = depths.shape[:2]
        z, w = depths.reshape(n * rays, -1), weights.reshape(n * rays, -1)
        largest = F.max_pool1d(w[:, None], 2, 1, padding=1)
        smooth = F.avg_pool1d(largest, 2, 1)[:, 0] + 0.01
        bins = (z[:, 1:] + z[:, :-1]) / 2
        pdf = smooth[:, 1:-1] + 1e-5
        cdf = (pdf / pdf.sum(dim=1, keepdim=True)).cumsum(dim=1)
        cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], dim=1)
        u = torch.rand(n * rays, count, device=z.device)
        above = torch.searchsorted(cdf, u, right=True)
        low, high = (above - 1).clamp(min=0), above.clamp(max=cdf.shape[1] - 1)
        width = cdf.gather(1, high) - cdf.gather(1, low)
        width = torch.where(width < 1e-5, torch.ones_like(width), width)
        share = (u - cdf.gather(1, low)) / width
        fine = bins.gather(1, low) + share * (bins.gather(1, high) - bins.gather(1, low))
        return fine.reshape(n, rays, count, 1)
