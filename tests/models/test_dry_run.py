"""A dry run goes through every stage with random weights in the true architecture."""

from experiments.attributes import compose_run_config
from experiments.dry_run import main


def test_every_stage_is_measured(monkeypatch, capsys):
    words = ["model=tiny_modelscope", "quantizer=naive", "model.batch_size=1"]
    monkeypatch.setattr("sys.argv", ["dry_run", *words])
    main()
    shown = capsys.readouterr()
    assert "random weights" in shown.out and "no quality" in shown.out
    stages = ("FP sampling", "calibration set", "ranges", "quantization", "quantized sampling")
    assert all(f"{stage}" in shown.err for stage in stages) and shown.err.count(" GiB") == len(stages)


def test_random_weights_are_seeded_and_marked():
    model = compose_run_config(["model=tiny_modelscope", "model.init=random"]).model
    assert model.fingerprint() == "random"
    one, other = (dict(model.random_pipeline().unet.named_parameters()) for _ in range(2))
    assert all(bool((one[name] == other[name]).all()) for name in one)
