"""CLIPSIM with a tiny random CLIP of transformers."""

import pytest
import torch
from transformers import CLIPImageProcessorPil

from metrics.clipsim import OPENAI_MEAN, ClipScorer, clip_scores
from metrics.temporal import neighbour_similarity

SIZE = 32  # of the tiny CLIP in conftest.py


def test_scores_are_mean_cosines_with_transformers_own_preprocessing(clip, videos):
    """Against the model's own logits, frame by frame, on images prepared by transformers."""
    batch, prompts = videos[0][:3], ["a b", "c", "a b"]
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    expected = []
    for video, prompt in zip(batch, prompts, strict=True):
        pixels = processor([frame.permute(1, 2, 0).numpy() for frame in video], return_tensors="pt")["pixel_values"]
        tokens = clip.tokenizer(prompt, return_tensors="pt")
        logits = clip.model(pixel_values=pixels, **tokens).logits_per_image
        expected.append(float(logits.mean() / clip.model.logit_scale.exp()))
    assert clip_scores(clip, batch, prompts).tolist() == pytest.approx(expected, abs=1e-3)


def test_preprocessing_equals_transformers_for_wide_frames(clip):
    frames = torch.randint(0, 256, (2, 3, 48, 75), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    expected = processor([f.permute(1, 2, 0).numpy() for f in frames], return_tensors="pt")["pixel_values"]
    grey_levels = (clip._preprocess(frames) - expected).abs().max() * clip.std.max() * 255
    assert grey_levels < 2


def test_each_frame_and_each_distinct_prompt_is_encoded_once(clip, videos):
    seen = {"frames": 0, "prompts": 0}

    def count(key):
        return lambda module, args, output: seen.update({key: seen[key] + len(output[0])})

    handles = [
        clip.model.vision_model.register_forward_hook(count("frames")),
        clip.model.text_model.register_forward_hook(count("prompts")),
    ]
    clip_scores(clip, videos[0][:4], ["a", "b", "a", "a"])
    for handle in handles:
        handle.remove()
    assert seen == {"frames": 16, "prompts": 2}


def test_long_prompts_are_cut(clip):
    assert clip.encode_prompts(["a " * 50]).shape == (1, 16)


def test_clip_temp_of_a_still_video_is_one(clip, videos):
    embeddings = clip.encode_frames(videos[0][:2, :1].expand(-1, 3, -1, -1, -1))
    assert neighbour_similarity(embeddings).tolist() == pytest.approx([1, 1])


def test_from_pretrained(clip, videos, tmp_path):
    clip.model.save_pretrained(tmp_path)
    clip.tokenizer.save_pretrained(tmp_path)
    loaded = ClipScorer.from_pretrained(tmp_path)
    assert loaded.sha256 == clip.sha256 and loaded.name == str(tmp_path)
    assert loaded.mean.flatten().tolist() == pytest.approx(OPENAI_MEAN)
    assert torch.equal(loaded.encode_frames(videos[0][:1]), clip.encode_frames(videos[0][:1]))
    CLIPImageProcessorPil(image_mean=[0.5, 0.5, 0.5]).save_pretrained(tmp_path)
    assert ClipScorer.from_pretrained(tmp_path).mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_compatibility_mode_feeds_raw_pixels(clip, videos):
    compatible = ClipScorer(clip.model, clip.tokenizer, evalcrafter_compat=True)
    assert compatible._preprocess(videos[0][0]).max() > 200
    assert clip._preprocess(videos[0][0]).max() < 3


def test_errors(clip, videos):
    with pytest.raises(ValueError, match="2 videos but 1 prompts"):
        clip_scores(clip, videos[0][:2], ["a"])
    with pytest.raises(ValueError, match="CLIP takes uint8"):
        clip.encode_frames(videos[0].float())
