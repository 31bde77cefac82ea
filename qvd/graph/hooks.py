"""Watching what a denoiser's layers and attentions read while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from qvd.graph.attention import OperandAttnProcessor, Operands, check_processor
from qvd.graph.sites import OPERANDS, attention_modules, weighted_layers


@contextmanager
def layer_inputs_to(denoiser: nn.Module, sinks: Mapping[str, Callable[[Tensor], object]]) -> Iterator[None]:
    """While open, `sinks[name]` is called with each input of the weighted layer `name`."""

    def hook(name: str) -> Callable[..., None]:
        def watch(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            sinks[name](args[0] if args else kwargs["input"])

        return watch

    layers = weighted_layers(denoiser)
    handles = [layers[name].register_forward_pre_hook(hook(name), with_kwargs=True) for name in sinks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def attention_operands_to(denoiser: nn.Module, sinks: Mapping[str, Callable[[Tensor], object]]) -> Iterator[None]:
    """While open, `sinks["<attention>.<operand>"]` is called with that attention operand; the output is unchanged."""

    def watched(site: str) -> Callable[[Tensor], Tensor]:
        def operand(x: Tensor) -> Tensor:
            if site in sinks:
                sinks[site](x)
            return x

        return operand

    attentions = attention_modules(denoiser)
    originals = {name: attn.processor for name, attn in attentions.items()}
    try:
        for name, attn in attentions.items():
            check_processor(name, attn)
            q, k, probabilities, v = (watched(f"{name}.{operand}") for operand in OPERANDS)
            attn.processor = OperandAttnProcessor(Operands(q, k, probabilities, v))
        yield
    finally:
        for name, attn in attentions.items():
            attn.processor = originals[name]
