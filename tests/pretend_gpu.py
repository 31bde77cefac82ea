"""Tensors that say they lie on a GPU while they are computed on the CPU, and that refuse to meet the CPU's own.

The maths is real, so that `.item()` and what depends on it works, which fake tensors cannot offer.
"""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

# A backend written in Python: torch without CUDA's libraries knows no device guard for "cuda".
_setup_privateuseone_for_python_backend("pretend")
GPU = torch.device("pretend", 0)
aten = torch.ops.aten
BETWEEN_DEVICES = {aten._to_copy.default, aten.copy_.default}
TAKES_CPU_INDICES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class OnGpu(torch.Tensor):
    """A tensor whose `device` is the GPU; `content` is where it really is."""

    @staticmethod
    def __new__(cls, content, requires_grad=False):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            content.size(),
            strides=content.stride(),
            storage_offset=content.storage_offset(),
            dtype=content.dtype,
            device=GPU,
            requires_grad=requires_grad,
        )

    def __init__(self, content, requires_grad=False):
        self.content = content

    def __repr__(self):
        return f"OnGpu({self.content})"

    def tolist(self):
        return self.content.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


class PretendGpu(TorchDispatchMode):
    """While active, what is made on `GPU` is an `OnGpu`."""

    def __enter__(self):
        self.before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor fills its memory on the CPU, then moves it
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        torch._C._set_only_lift_cpu_tensors(self.before)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def dispatch(func, args, kwargs):
    """Compute an operator; what it gives lies where it would on a machine with a GPU."""
    device = kwargs.get("device")
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
    on_gpu = [isinstance(t, OnGpu) for t in tensors]
    if any(on_gpu) and not all(on_gpu):
        _check_devices(func, args, kwargs)
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    inner_args, inner_kwargs = tree_map_only(OnGpu, lambda t: t.content, (args, kwargs))
    out = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default:
        return args[0]
    goes_to_gpu = any(on_gpu) if device is None else torch.device(device).type == GPU.type
    if not goes_to_gpu:
        return out
    out = tree_map_only(torch.Tensor, OnGpu, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if any(on_gpu) else out


def _check_devices(func, args, kwargs):
    """Raise as torch does; single numbers of the CPU may meet a GPU's tensors, and index them any of its tensors."""
    if func in BETWEEN_DEVICES:
        return
    if func in TAKES_CPU_INDICES:
        args = [args[0], *args[2:]]
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
    if any(isinstance(t, OnGpu) for t in tensors) and any(not isinstance(t, OnGpu) and t.dim() for t in tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got the CPU and the GPU")
    if func in TAKES_CPU_INDICES and not isinstance(args[0], OnGpu):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got indices on the GPU")


def to_gpu_(module: nn.Module) -> nn.Module:
    """`module.to(GPU)`, in place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(OnGpu(parameter.data), requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnGpu(buffer)
    return module
