"""OpenCV as the decoder of videos and pictures, silent: its messages and FFmpeg's would come between our own lines."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

DECODER = f"opencv {cv2.__version__}, imageio-ffmpeg {imageio_ffmpeg.__version__}, frames in order"
"""What decodes and how, for keys of features."""


def open_capture(path: Path) -> cv2.VideoCapture:
    """With one decoding thread: many files are decoded at a time."""
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def promised_frames(capture: cv2.VideoCapture) -> int:
    """What the header says or the duration suggests, right or wrong; 0 where there is neither."""
    return max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)


def decode_picture(content: bytes) -> np.ndarray | None:
    """uint8 (H, W, 3), RGB, turned as EXIF says; None where it is not a whole picture.

    From memory, because OpenCV fills up with grey what is missing of a JPEG file that it reads itself.
    """
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
