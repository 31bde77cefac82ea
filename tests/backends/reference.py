"""What a quantized layer computes, spelled out with torch's own layers in double precision."""

import copy

import torch
from torch.nn import functional as F

from qvd.graph.sites import channel_dim, num_groups
from qvd.numerics.channels import scale_input_channels


@torch.no_grad()
def reference_output(layer, spec, x):
    """Ŵ∗grid((x - s)/c) + b + border∗1; where a norm absorbed s and c, `x` is (x - s)/c already."""
    shape = [1] * x.dim()
    shape[channel_dim(layer)] = -1
    inner = x.float()
    if spec.absorbed_by is None:
        inner = inner if spec.shift is None else inner - spec.shift.view(shape)
        inner = inner if spec.scale is None else inner / spec.scale.view(shape)
    inner = inner if spec.grid is None else spec.grid(inner)
    exact = copy.deepcopy(layer).double()
    if spec.weight is not None:
        exact.weight.copy_(spec.weight.dequantize())
    elif spec.scale is not None:
        exact.weight.copy_(scale_input_channels(exact.weight, spec.scale.double(), num_groups(layer)))
    if spec.bias is not None:
        exact.bias = torch.nn.Parameter(spec.bias.double())
    output = exact(inner.double())
    if spec.border is None:
        return output
    convolve = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
    ones = torch.ones(1, 1, *x.shape[2:], dtype=torch.float64)
    return output + convolve(ones, spec.border.double(), None, layer.stride, layer.padding, layer.dilation)
