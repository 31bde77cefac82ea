"""The training loop, and that each embedded model's training starts, on a handful of steps."""

import shlex
from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.training import autoencoder, classifier, clip, denoiser
from experiments.training.data import ClipBank, to_model_range
from experiments.training.loop import TrainingConfig, fit, training_time
from qvd.data.shapes import Shapes


def regression(model, stop_at=None):
    def loss_function(generator, step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(32, 4, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    return loss_function


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 1)


CONFIG = TrainingConfig(steps=60, learning_rate=0.05, warmup=5, ema_decay=0.9, checkpoint_every=10)


def test_the_ema_learns(tmp_path):
    model = linear()
    trained = fit(model, regression(model), CONFIG, tmp_path / "a.pt")
    torch.testing.assert_close(trained.weight, torch.ones(1, 4), atol=0.1, rtol=0)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path):
    model = linear()
    expected = fit(model, regression(model), CONFIG, tmp_path / "whole.pt").weight.clone()
    model = linear()
    with pytest.raises(KeyboardInterrupt):
        fit(model, regression(model, stop_at=37), CONFIG, tmp_path / "cut.pt")
    model = nn.Linear(4, 1)
    resumed = fit(model, regression(model), CONFIG, tmp_path / "cut.pt").weight
    assert torch.equal(resumed, expected)


def test_the_time_of_a_resumed_training_is_added_up(tmp_path, monkeypatch):
    """At three seconds a step; those after the last checkpoint are done again and count once."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def timed(loss_function):
        def loss(generator, step):
            nonlocal now
            now += 3
            return loss_function(generator, step)

        return loss

    model, checkpoint = linear(), tmp_path / "cut.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(model, timed(regression(model, stop_at=37)), CONFIG, checkpoint)
    assert training_time(checkpoint) == "0:01:30 (h:mm:ss)"
    fit(model, timed(regression(model)), CONFIG, checkpoint)
    assert training_time(checkpoint) == "0:03:00 (h:mm:ss)"


def test_an_old_checkpoint_has_no_time_and_goes_on(tmp_path):
    model, checkpoint = linear(), tmp_path / "old.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(model, regression(model, stop_at=37), CONFIG, checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    del state["seconds"]
    torch.save(state, checkpoint)
    fit(model, regression(model), CONFIG, checkpoint)
    assert torch.load(checkpoint, weights_only=True)["step"] == CONFIG.steps
    assert training_time(checkpoint) == "not recorded"


def test_options_are_the_command_line_and_the_card_repeats_them(monkeypatch, tmp_path):
    words = ["--steps", "7", "--high-noise-share", "0.25", "--work-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["denoiser", *words])
    options = denoiser.ModelScopeOptions.from_command_line("…")
    assert options == denoiser.ModelScopeOptions(steps=7, high_noise_share=0.25, work_dir=tmp_path)
    torch.save({"seconds": 3725.4}, tmp_path / "a.pt")
    facts = options.facts("denoiser", "a.pt")
    assert facts["training time"] == "1:02:05 (h:mm:ss)"
    monkeypatch.setattr("sys.argv", shlex.split(facts["command"].strip("`"))[2:])
    assert replace(denoiser.ModelScopeOptions.from_command_line("…"), work_dir=tmp_path) == options


def test_a_bank_holds_the_training_split():
    bank = ClipBank(3)
    assert bank.captions == [Shapes(split="train").prompt(i, "train") for i in range(3)]
    assert to_model_range(bank.frames).abs().max() <= 1


def test_high_noise_share():
    timesteps = denoiser.draw_timesteps(4000, 1000, 0.5, torch.Generator().manual_seed(0))
    assert timesteps.min() >= 0 and timesteps.max() <= 999
    assert (timesteps >= 700).float().mean().item() == pytest.approx(0.65, abs=0.03)


def test_every_model_trains_a_step(tmp_path):
    short = {"steps": 1, "clips": 2, "work_dir": tmp_path}
    vae = autoencoder.train(autoencoder.AutoencoderOptions(**short))
    assert vae.config.scaling_factor > 0
    vae.save_pretrained(tmp_path / "vae")
    unet, text_encoder, tokenizer = denoiser.train(denoiser.ModelScopeOptions(**short))
    assert unet.config.cross_attention_dim == text_encoder.config.hidden_size
    assert tokenizer("a red circle").input_ids[0] == tokenizer.bos_token_id
    assert classifier.train(classifier.ClassifierOptions(**short)).heads.keys() == {"shape", "colour", "motion"}
    model, _ = clip.train(clip.ClipOptions(**short))
    assert model.config.projection_dim == clip.WIDTH
    assert clip.still_caption("a red ring moving left on a plain background") == "a red ring on a plain background"
