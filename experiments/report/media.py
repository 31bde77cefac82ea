"""Pictures and animations that set the FP videos above the quantized ones, same seeds and prompts."""

from __future__ import annotations

import io
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from experiments.result import ArmResult, drawable

FPS = 8
_MP4_LOOPS = 4
_GRID_FRAMES = 4
_GRID_PROMPTS_PER_ROW = 3
_GRID_FRAME_SIDE = 96
_ANIMATION_FRAME_SIDE = 128
_CAPTION_WIDTH = 156
_MAX_ARMS = 8

_GAP = 6
_LINE_HEIGHT = 17
_FONT_SIZE = 14
_BACKGROUND, _INK, _FAINT = (255, 255, 255), (20, 24, 32), (98, 106, 120)


def write_grid(arms: list[ArmResult], path: Path, count: int = 6) -> None:
    """Write `grid_image` as PNG."""
    grid_image(arms, count).save(path)


def write_gif(arms: list[ArmResult], path: Path, count: int = 6) -> None:
    """Write `animation_frames` as an endlessly looping GIF."""
    path.write_bytes(gif_bytes(arms, count))


def write_mp4(arms: list[ArmResult], path: Path, count: int = 6) -> None:
    """Write `animation_frames` as H.264, repeated a few times because players stop at the end."""
    frames = np.stack([np.asarray(frame) for frame in animation_frames(arms, count)])
    write_h264(path, np.concatenate([frames] * _MP4_LOOPS), quality=18)


def write_h264(path: Path, frames: np.ndarray, quality: int) -> None:
    """Write uint8 (T, H, W, 3) as an mp4 that every browser plays.

    Args:
        quality: constant rate factor, 0 (best) to 51.
    """
    # yuv420p, the only layout every browser plays, halves both sides.
    odd_height, odd_width = frames.shape[1] % 2, frames.shape[2] % 2
    frames = np.pad(frames, ((0, 0), (0, odd_height), (0, odd_width), (0, 0)), mode="edge")
    iio.imwrite(
        path,
        frames,
        plugin="FFMPEG",
        fps=FPS,
        codec="libx264",
        macro_block_size=2,
        output_params=["-preset", "veryfast", "-crf", str(quality)],
    )


def gif_bytes(arms: list[ArmResult], count: int = 6) -> bytes:
    return _animated(animation_frames(arms, count), "GIF")


def apng_bytes(arms: list[ArmResult], count: int = 6) -> bytes:
    """`animation_frames` as animated PNG: lossless, where a GIF's 256 colours add an error of their own."""
    return _animated(animation_frames(arms, count), "PNG")


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def grid_image(arms: list[ArmResult], count: int = 6) -> Image.Image:
    """One block per prompt: the caption, then a row of evenly spaced frames for every arm, FP first."""
    arms = _pictured(arms)
    count = min([count, *(len(arm.prompts) for arm in arms)])
    blocks = [_grid_block(arms, index) for index in range(count)]
    columns = min(_GRID_PROMPTS_PER_ROW, count)
    return _tile(blocks, columns, gap=4 * _GAP, margin=2 * _GAP)


def frames_image(videos: torch.Tensor, prompts: list[str]) -> Image.Image:
    """A row per prompt: the caption, then every frame.

    Args:
        videos: uint8 (N, T, 3, H, W), one for each prompt.
    """
    rows = [_upscaled(video, _GRID_FRAME_SIDE) for video in videos]
    (width, height), count = rows[0][0].size, len(rows[0])
    size = (_CAPTION_WIDTH + count * (width + 2) + 2 * _GAP, len(rows) * (height + _GAP) + _GAP)
    out = Image.new("RGB", size, _BACKGROUND)
    for row, (frames, prompt) in enumerate(zip(rows, prompts, strict=True)):
        y = _GAP + row * (height + _GAP)
        _write(ImageDraw.Draw(out), (_GAP, y), _wrap(prompt, _CAPTION_WIDTH - 2 * _GAP), _INK)
        for t, frame in enumerate(frames):
            out.paste(frame, (_GAP + _CAPTION_WIDTH + t * (width + 2), y))
    return out


def animation_frames(arms: list[ArmResult], count: int = 6) -> list[Image.Image]:
    """Frame t of every arm and prompt: a column per prompt, a row per arm, FP first."""
    arms = _pictured(arms)
    count = min([count, *(len(arm.prompts) for arm in arms)])
    clips = [[_upscaled(arm.videos[index], _ANIMATION_FRAME_SIDE) for index in range(count)] for arm in arms]
    side = clips[0][0][0].width
    captions = [_wrap(prompt, side) for prompt in arms[0].prompts[:count]]
    tallest = max(len(lines) for lines in captions)
    top, left = tallest * _LINE_HEIGHT + 2 * _GAP, _label_width(arms)
    width = left + count * (side + _GAP) + _GAP
    base = Image.new("RGB", (width, top + len(arms) * (clips[0][0][0].height + _GAP) + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(base)
    for column, lines in enumerate(captions):
        y = _GAP + (tallest - len(lines)) * _LINE_HEIGHT
        _write(draw, (left + column * (side + _GAP), y), lines, _FAINT)
    num_frames = len(clips[0][0])
    frames = [base.copy() for _ in range(num_frames)]
    for row, arm in enumerate(arms):
        y = top + row * (clips[0][0][0].height + _GAP)
        for t, frame in enumerate(frames):
            _write(ImageDraw.Draw(frame), (_GAP, y + _GAP), arm.name.split(), _INK)
            for column in range(count):
                frame.paste(clips[row][column][t], (left + column * (side + _GAP), y))
    return frames


def _animated(frames: list[Image.Image], kind: str) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(buffer, format=kind, save_all=True, append_images=frames[1:], duration=1000 // FPS, loop=0)
    return buffer.getvalue()


def _pictured(arms: list[ArmResult]) -> list[ArmResult]:
    """FP first; of many arms those that `drawable` picks."""
    return drawable(sorted(arms, key=lambda arm: arm.quantizer != "fp"), _MAX_ARMS)


def _grid_block(arms: list[ArmResult], index: int) -> Image.Image:
    rows = [_upscaled(arm.videos[index], _GRID_FRAME_SIDE) for arm in arms]
    shown = np.linspace(0, len(rows[0]) - 1, min(_GRID_FRAMES, len(rows[0]))).round().astype(int)
    width, height = rows[0][0].size
    top, left = _LINE_HEIGHT + _GAP, _label_width(arms)
    block = Image.new(
        "RGB", (left + len(shown) * (width + 2) - 2, top + len(rows) * (height + _GAP) - _GAP), _BACKGROUND
    )
    draw = ImageDraw.Draw(block)
    _write(draw, (left, 0), _wrap(arms[0].prompts[index], block.width - left)[:1], _FAINT)
    for row, (arm, frames) in enumerate(zip(arms, rows, strict=True)):
        y = top + row * (height + _GAP)
        _write(draw, (_GAP, y + _GAP), arm.name.split(), _INK)
        for column, t in enumerate(shown):
            block.paste(frames[t], (left + column * (width + 2), y))
    return block


def _upscaled(video: torch.Tensor, target: int) -> list[Image.Image]:
    """The frames of one video, scaled by a whole factor towards `target` pixels; bigger frames are reduced to it."""
    frames = [Image.fromarray(frame) for frame in video.permute(0, 2, 3, 1).contiguous().cpu().numpy()]
    width, height = frames[0].size
    factor = max(1, round(target / max(width, height)))
    if max(width, height) <= target:
        # Nearest: quantization noise is shown as it is, not smoothed away.
        return [frame.resize((width * factor, height * factor), Image.Resampling.NEAREST) for frame in frames]
    scale = target / max(width, height)
    size = (round(width * scale), round(height * scale))
    return [frame.resize(size, Image.Resampling.LANCZOS) for frame in frames]


def _tile(blocks: list[Image.Image], columns: int, gap: int, margin: int) -> Image.Image:
    width, height = blocks[0].size
    rows = -(-len(blocks) // columns)
    size = (columns * (width + gap) - gap + 2 * margin, rows * (height + gap) - gap + 2 * margin)
    out = Image.new("RGB", size, _BACKGROUND)
    for i, block in enumerate(blocks):
        row, column = divmod(i, columns)
        out.paste(block, (margin + column * (width + gap), margin + row * (height + gap)))
    return out


def _label_width(arms: list[ArmResult]) -> int:
    return round(max(_font().getlength(word) for arm in arms for word in arm.name.split())) + 3 * _GAP


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of whole words no wider than `width` pixels, as far as words allow."""
    font, lines = _font(), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: list[str], colour: tuple[int, int, int]) -> None:
    for i, line in enumerate(lines):
        draw.text((at[0], at[1] + i * _LINE_HEIGHT), line, fill=colour, font=_font())
