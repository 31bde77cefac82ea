"""What reconstruction gains and costs on the tiny model, against limits.

    python -m experiments.benchmarks.reconstruction

(a) Output error of `tiny_modelscope` W4A32 on held-out calibration samples: nearest rounding, block AdaRound, layers.
(b) One layer's AdaRound in Gram form and by a straightforward minibatch loop: error and seconds.
(c) Seconds of the W4 lp weight ranges of a 1280×1280×3×3 convolution on one thread.
Exit status 1: a limit below is not kept.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median

import torch
from rich.console import Console
from torch import Tensor, nn

from experiments.attributes import compose_run_config
from experiments.benchmarks.timing import interleaved_seconds, print_ratios
from experiments.progress import Reporter
from qvd.algorithms.reconstruction.block import channel_loss
from qvd.algorithms.reconstruction.engine import Task, reconstruct_rounding
from qvd.algorithms.reconstruction.gram import Errors, learn_layer
from qvd.backends.convert import convert
from qvd.backends.trainable import TrainedLayer
from qvd.calibration.calibration_set import CalibrationSet
from qvd.calibration.capture import capture_calibration_batch
from qvd.graph.sites import kind, weighted_layers
from qvd.models.loading import load_pipeline
from qvd.numerics.adaround import annealed_beta, regularizer
from qvd.numerics.range_search import channel_parameters
from qvd.options.calibration import CalibrationPlan
from qvd.options.reconstruction import AdaRoundSettings
from qvd.options.rules import RangeMethod
from qvd.options.units import Reconstruction
from qvd.spec.quantization import LayerQuantization, Quantization, quantize_weight

MIN_REDUCTION, MAX_TIME_RATIO, MAX_INIT_SECONDS = 0.25, 0.1, 2.0
# Of the loop's steps: without the noise of minibatches, and settled afterwards, fewer and larger ones do.
GRAM_STEPS, GRAM_SWEEPS = 0.1, 2
STEPS = 10
LAYERS = (
    "down_blocks.0.resnets.0.conv2",
    "down_blocks.1.resnets.0.conv2",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
)
console = Console()


def calibration_sets(
    train_samples: int, test_samples: int
) -> tuple[nn.Module, tuple[str, ...], CalibrationSet, CalibrationSet]:
    """The denoiser, its blocks, and calibration entries of different prompts to learn from and to judge by."""
    config = compose_run_config(["model=tiny_modelscope"])
    pipeline = load_pipeline(config.model, "cpu")
    sets, first = [], 0
    for count in (train_samples, test_samples):
        indices = range(first, first + count)
        prompts = [config.dataset.prompt(index, "calibration") for index in indices]
        plan, steps = CalibrationPlan(count, STEPS), config.num_inference_steps
        captured = capture_calibration_batch(
            config.model, pipeline, prompts, indices, seed=config.seed, num_inference_steps=steps, plan=plan
        )
        sets.append(CalibrationSet.from_tensors(captured))
        first += count
    denoiser = config.model.denoiser(pipeline)
    return denoiser, config.model.anatomy(denoiser).blocks[Reconstruction.block], sets[0], sets[1]


def nearest(denoiser: nn.Module) -> Quantization:
    """W4A32 with lp ranges and nearest rounding."""
    layers = {
        name: LayerQuantization(name, kind(layer), "all", quantize_weight(layer.weight, 4, RangeMethod.lp))
        for name, layer in weighted_layers(denoiser).items()
    }
    return Quantization(layers, {})


@torch.no_grad()
def output_error(denoiser: nn.Module, quantization: Quantization, entries: CalibrationSet) -> float:
    """‖ε̂ - ε‖²/‖ε‖² of the denoiser's output."""
    converted, error, power = convert(denoiser, quantization), 0.0, 0.0
    for batch in entries.batches(16):
        reference = denoiser(**batch).sample
        error += (converted(**batch).sample - reference).square().sum().item()
        power += reference.square().sum().item()
    return error / power


def block_gain(iterations: int) -> bool:
    """(a)"""
    denoiser, blocks, train, test = calibration_sets(8, 4)
    start = nearest(denoiser)
    before = output_error(denoiser, start, test)
    settings = AdaRoundSettings(iterations=iterations)
    began = time.perf_counter()
    task = Task(denoiser, train, blocks, None, Reporter().track)
    after = output_error(denoiser, reconstruct_rounding(task, start, settings), test)
    seconds = time.perf_counter() - began
    console.print(
        f"(a) W4A32 output error on {len(test)} held-out entries: nearest {before:.5f}, block AdaRound "
        f"({iterations} steps, {len(train)} entries, {seconds:.0f} s) {after:.5f}: {1 - after / before:.1%} lower"
    )
    return 1 - after / before >= MIN_REDUCTION


def captured_pair(name: str, denoiser: nn.Module, entries: CalibrationSet) -> tuple[Tensor, Tensor, int]:
    """All inputs and outputs of a layer, and how many rows one entry has."""
    inputs: list[Tensor] = []
    handle = denoiser.get_submodule(name).register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        for batch in entries.batches(16):
            denoiser(**batch)
    handle.remove()
    x = torch.cat(inputs)
    return x, denoiser.get_submodule(name)(x), len(x) // len(entries)


def minibatch_loop(trained: TrainedLayer, x: Tensor, y: Tensor, rows: int, settings: AdaRoundSettings) -> Errors:
    """The straightforward AdaRound of one layer: random entries, forward, backward, Adam."""
    generator = torch.Generator().manual_seed(0)
    x, y = x.unflatten(0, (-1, rows)), y.unflatten(0, (-1, rows))
    alpha = trained.start_rounding()
    optimizer = torch.optim.Adam([alpha], settings.learning_rate)
    for iteration in range(settings.iterations):
        chosen = torch.randperm(len(x), generator=generator)[: settings.batch_size]
        up = trained.soften()
        loss = channel_loss(trained(x[chosen].flatten(0, 1)), y[chosen].flatten(0, 1))
        beta = annealed_beta(iteration, settings.iterations, settings.warmup, settings.beta_start, settings.beta_end)
        if beta is not None:
            loss = loss + settings.regularization * regularizer(up, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained.harden(alpha)
    return _errors(trained, x.flatten(0, 1), y.flatten(0, 1))


@torch.no_grad()
def _errors(trained: TrainedLayer, x: Tensor, y: Tensor) -> Errors:
    after = (trained(x) - y).square().sum() / y.square().sum()
    trained.harden(None)
    before = (trained(x) - y).square().sum() / y.square().sum()
    return Errors(before.item(), after.item())


def gram_against_loop(iterations: int, rounds: int) -> bool:
    """(b)"""
    denoiser, _, train, _ = calibration_sets(8, 1)
    settings = replace(AdaRoundSettings(), iterations=iterations, batch_size=32)
    gram_settings = replace(
        settings,
        iterations=round(GRAM_STEPS * iterations),
        learning_rate=settings.learning_rate / GRAM_STEPS,
        sweeps=GRAM_SWEEPS,
    )
    start, originals, kept = nearest(denoiser), weighted_layers(denoiser), True
    for name in LAYERS:
        x, y, rows = captured_pair(name, denoiser, train)
        found: dict[str, Errors] = {}

        def gram(name: str = name, x: Tensor = x, y: Tensor = y, found: dict = found) -> None:
            trained = TrainedLayer(originals[name], start.layers[name])
            found["gram"] = learn_layer(trained, [(x, y)], gram_settings)

        def loop(name: str = name, x: Tensor = x, y: Tensor = y, rows: int = rows, found: dict = found) -> None:
            trained = TrainedLayer(originals[name], start.layers[name])
            found["minibatch loop"] = minibatch_loop(trained, x, y, rows, settings)

        seconds = interleaved_seconds({"gram": gram, "minibatch loop": loop}, rounds=rounds, warmup=0)
        print_ratios(f"(b) {name}, {iterations} steps", seconds, baseline="minibatch loop")
        errors = {how: e.after for how, e in found.items()}
        shown = ", ".join(f"{how} {error:.6f}" for how, error in errors.items())
        console.print(f"    layer error: nearest {found['gram'].before:.6f}, {shown}")
        kept &= errors["gram"] <= errors["minibatch loop"]
        kept &= median(seconds["gram"]) <= MAX_TIME_RATIO * median(seconds["minibatch loop"])
    return kept


def weight_init() -> bool:
    """(c)"""
    torch.set_num_threads(1)
    weight = 0.02 * torch.randn(1280, 1280, 3, 3, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(3):
        began = time.process_time()  # of one thread: what a quiet machine's clock would show
        channel_parameters(weight, 4, RangeMethod.lp)
        seconds.append(time.process_time() - began)
    fastest = min(seconds)
    console.print(f"(c) W4 lp ranges of 1280×1280×3×3 on one thread: {fastest:.2f} s")
    return fastest <= MAX_INIT_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default="abc", help="which of a, b, c")
    options = parser.parse_args()
    parts = {
        "a": lambda: block_gain(options.iterations),
        "b": lambda: gram_against_loop(options.iterations, options.rounds),
        "c": weight_init,
    }
    kept = {part: parts[part]() for part in options.parts}
    console.print({part: "kept" if ok else "NOT KEPT" for part, ok in kept.items()})
    raise SystemExit(not all(kept.values()))


if __name__ == "__main__":
    main()
