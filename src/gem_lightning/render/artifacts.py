"""Camera and scanner artefacts: sampling which occur and how strongly, and applying them to an image."""

from __future__ import annotations

import functools
import threading
import zlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from gem_lightning.errors import RenderError
from gem_lightning.render.handmarks import blot, pierce, scribble
from gem_lightning.render.kernels.warp import STEP, Warp, expose, look

FLAWS: tuple[str, ...] = (
    "rotation", "perspective", "crop", "desk", "gradient", "shadow", "folds", "creases", "wrinkles", "warmth", "tint",
    "noise", "blur", "resolution", "fade", "notes", "stains", "punches", "moire", "jpeg",
)  # fmt: skip
_NO_LINES = np.zeros((0, 8))
_LOCAL = threading.local()


@functools.cache
def presets() -> dict[str, dict[str, list[float]]]:
    """``artifacts.yaml`` by name."""
    import yaml

    return yaml.safe_load(resources.files("gem_lightning.render").joinpath("artifacts.yaml").read_text("utf-8"))


def find_artifacts(artifacts: str | Mapping[str, Any] | None) -> dict[str, tuple[float, float, float]]:
    """(probability, low, high) of each flaw, from a preset's name or a mapping (``preset`` names one to start from).

    Raises:
        RenderError: An unknown preset or flaw, or a range that is none.
    """
    if artifacts is None:
        return {}
    if isinstance(artifacts, str):
        artifacts = {"preset": artifacts}
    chosen = dict(artifacts)
    preset = chosen.pop("preset", "clean")
    if preset not in presets():
        raise RenderError(f"expected artifacts out of {', '.join(presets())} or a mapping, got {preset!r}")
    found = {}
    for name, numbers in {**presets()[preset], **chosen}.items():
        if name not in FLAWS:
            raise RenderError(f"expected flaws out of {', '.join(FLAWS)}, got {name!r}")
        if len(numbers) != 3 or not 0 <= numbers[0] <= 1 or numbers[1] > numbers[2]:
            raise RenderError(f"expected {name}: [probability, low, high], got {list(numbers)}")
        found[name] = (float(numbers[0]), float(numbers[1]), float(numbers[2]))
    return found


def generator(seed: Any, signal: np.ndarray) -> np.random.Generator:
    """The generator for a seed; without one the signal itself is the seed, so a record always gives the same image."""
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is None:
        seed = zlib.crc32(np.ascontiguousarray(signal).tobytes())
    return np.random.default_rng(seed)


def draw_amounts(artifacts: Mapping[str, tuple[float, float, float]], rng: np.random.Generator) -> dict[str, float]:
    """The flaws of one image. The same numbers are drawn whatever the configuration, so one flaw's does not move
    another's."""
    draws = rng.random((len(FLAWS), 2))
    amounts = {}
    for name, (chance, amount) in zip(FLAWS, draws):
        probability, low, high = artifacts.get(name, (0.0, 0.0, 0.0))
        if chance < probability:
            amounts[name] = low + (high - low) * amount
    return amounts


def apply_artifacts(
    page: np.ndarray, px_per_mm: float, amounts: Mapping[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, Warp]:
    """Apply artefacts to a flat image.

    Args:
        page: Uint8 (H, W, 3), changed in place by notes, stains and holes.
        px_per_mm: Its scale.
        amounts: Of :func:`draw_amounts`.
        rng: Gives the places and directions.

    Returns:
        The image, uint8 (H, W, 3), and the map of the page's points to it.
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one image is one thread's work; OpenCV's own pool does not survive a fork
    try:
        return _apply(page, px_per_mm, amounts, rng)
    finally:
        cv2.setNumThreads(threads)


def _apply(
    page: np.ndarray, px_per_mm: float, amounts: Mapping[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, Warp]:
    import cv2

    height, width = page.shape[:2]
    # any desk from dark wood to white; a scanner's lid is nearly white and neutral
    desk = rng.uniform(30, 225) + rng.uniform(-15, 15, 3) if "desk" in amounts else rng.uniform(215, 250, 1).repeat(3)
    for _ in range(_count(amounts, "stains")):
        blot(page, px_per_mm, rng)
    for _ in range(_count(amounts, "notes")):
        scribble(page, px_per_mm, rng)
    if "punches" in amounts:
        pierce(page, px_per_mm, _count(amounts, "punches"), desk, rng)
    page = _soften(page, px_per_mm, amounts)
    matrix = _matrix(height, width, amounts, rng)
    fields = _fields(height, width, px_per_mm, amounts, rng)
    moved = fields[..., :2] if "wrinkles" in amounts else None
    warp = Warp(matrix, moved)
    moire = np.zeros(4)
    if "moire" in amounts:
        # 0.08 to 0.35 cycles a pixel: the beat of a sensor's and a screen's grid
        angle, wave = rng.uniform(0, np.pi), rng.uniform(0.08, 0.35)
        moire[:] = amounts["moire"], wave * np.cos(angle), wave * np.sin(angle), rng.random()
    lines = _lines(height, width, px_per_mm, amounts, rng)
    # every row starts elsewhere in one table of normal noise: far cheaper than new noise a pixel
    starts = rng.integers(1 << 16, size=(height, 2))
    at_x, at_y, light, inside = _scratch(height, width)
    look(height, width, tuple(np.linalg.inv(matrix).ravel()), fields, lines, at_x, at_y, light, inside)
    photo = cv2.remap(page, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # the page casts a shadow of 4 mm on the desk
    grain, surroundings = _grain(width), np.array([*desk, 4.0 * px_per_mm])
    expose(photo, light, inside, _tone(amounts), surroundings, grain, amounts.get("noise", 0.0), starts, moire)
    return (_jpeg(photo, round(amounts["jpeg"])) if "jpeg" in amounts else photo), warp


def _scratch(height: int, width: int) -> np.ndarray:
    """Place x, place y, light, distance from the edge: float32 (4, H, W); one set a thread, used again."""
    if getattr(_LOCAL, "size", None) != (height, width):
        _LOCAL.size, _LOCAL.planes = (height, width), np.empty((4, height, width), np.float32)
    return _LOCAL.planes


def _count(amounts: Mapping[str, float], name: str) -> int:
    return round(amounts.get(name, 0.0))


def _soften(page: np.ndarray, px_per_mm: float, amounts: Mapping[str, float]) -> np.ndarray:
    """Blur and loss of resolution."""
    import cv2

    if "resolution" in amounts:
        # 8 px keep the image an image at any amount
        small = [max(8, round(side * amounts["resolution"])) for side in page.shape[1::-1]]
        page = cv2.resize(cv2.resize(page, small, interpolation=cv2.INTER_AREA), page.shape[1::-1])
    sigma = amounts.get("blur", 0.0) * px_per_mm
    # below 0.15 px a kernel of one weight would copy the page
    return cv2.GaussianBlur(page, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) if sigma > 0.15 else page


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))


def _matrix(height: int, width: int, amounts: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    """The (3, 3) map of the page's pixels to the image's: rotation, tilt, distance."""
    import cv2

    # drawn before the early exit, so that switching one artefact off does not move the others
    shake, place = rng.uniform(-1, 1, (4, 2)), rng.uniform(-0.5, 0.5, 2)
    if not {"rotation", "perspective", "crop", "desk"} & set(amounts):
        return np.eye(3)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    angle = np.deg2rad(amounts.get("rotation", 0.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width, height]) / 2
    quad = (corners - middle) @ turn.T + shake * amounts.get("perspective", 0.0) * [width, height]
    reach = 1 + amounts.get("crop", 0.0) - amounts.get("desk", 0.0)
    if "perspective" in amounts or "desk" in amounts:  # a photo frames the sheet, a scanner cuts the turned corners
        spread = quad.max(0) - quad.min(0)
        quad *= reach * min(width / spread[0], height / spread[1])
        spread = quad.max(0) - quad.min(0)
        quad += middle - (quad.max(0) + quad.min(0)) / 2 + place * np.maximum([width, height] - spread, 0)
    else:
        quad = quad * reach + middle
    return cv2.getPerspectiveTransform(corners.astype(np.float32), quad.astype(np.float32))


def _fields(
    height: int, width: int, px_per_mm: float, amounts: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Displacement x, y (px), light and relief at the nodes, (rows, columns, 4)."""
    rows, columns = height // STEP + 2, width // STEP + 2
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64) * STEP
    fields = np.zeros((rows, columns, 4))
    light = np.ones((rows, columns))
    angle, corner, edge = rng.uniform(0, 2 * np.pi, 3)
    across = ((x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)) * 2
    if "gradient" in amounts:
        # vignetting: darker towards the corners, with the square of the distance
        round_off = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 1.2
        light += amounts["gradient"] * (0.6 * across - round_off)
    if "shadow" in amounts:
        # from a hard edge (3 % of the page) to a wide half-shadow (25 %)
        place, soft = rng.uniform(-0.5, 0.5), rng.uniform(0.03, 0.25)
        side = (x / width - 0.5) * np.cos(corner) + (y / height - 0.5) * np.sin(corner) - place
        # a slightly wavy edge: shadows of hands and heads are not straight
        side += 0.05 * np.sin(3 * (x / width + y / height) + edge)
        # a logistic edge; the clip keeps exp from overflowing
        light *= 1 - amounts["shadow"] / (1 + np.exp(-np.clip(side / soft * 4, -30, 30)))
    if "wrinkles" in amounts:
        size = amounts["wrinkles"] * px_per_mm
        for _ in range(4):
            # four waves of 25 to 90 mm: paper that lay unevenly
            way, wave, phase = rng.uniform(0, 2 * np.pi), rng.uniform(25, 90) * px_per_mm, rng.uniform(0, 2 * np.pi)
            ridge = (x * np.cos(way) + y * np.sin(way)) * 2 * np.pi / wave + phase
            height_there = np.sin(ridge)
            fields[..., 0] += size / 2 * np.cos(way) * height_there
            fields[..., 1] += size / 2 * np.sin(way) * height_there
            # 3 % of relief light for each mm of wrinkle, no more than for 2 mm
            fields[..., 3] += 0.03 * min(amounts["wrinkles"], 2.0) * np.cos(ridge)
    # never fully dark or overexposed: the traces stay legible in part
    fields[..., 2] = np.clip(light, 0.15, 1.6)
    return fields


def _lines(
    height: int, width: int, px_per_mm: float, amounts: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Folds (across the sheet) and creases (short), (n, 8) as the camera's pass takes them."""
    lines = []
    middle = np.array([width, height]) / 2
    for k in range(_count(amounts, "folds")):
        # folds across the short side are a bit more common on landscape pages
        upright = rng.random() < 0.6
        angle = (0.0 if upright else np.pi / 2) + rng.normal(0, 0.015)
        normal = np.array([np.cos(angle), np.sin(angle)])
        # the first fold halves the page, further ones lie at thirds or halves, as letters are folded
        place = rng.choice([1 / 3, 1 / 2, 2 / 3]) - 0.5 + rng.normal(0, 0.01) if k else rng.normal(0, 0.01)
        offset = normal @ middle + place * (width if upright else height)
        # 4 to 14 mm wide; one side lighter, one darker, and a dark core where the fibres broke
        half, side, core = rng.uniform(4, 14) * px_per_mm, rng.uniform(-0.16, 0.16), rng.uniform(0.05, 0.2)
        lines.append([*normal, offset, half, side, core, -1e9, 1e9])
    for _ in range(_count(amounts, "creases")):
        angle = rng.uniform(0, np.pi)
        normal = np.array([np.cos(angle), np.sin(angle)])
        at = rng.random(2) * [width, height]
        along = normal[0] * at[1] - normal[1] * at[0]
        # creases are narrower and shorter than folds
        half, side, core = rng.uniform(0.8, 3) * px_per_mm, rng.uniform(-0.15, 0.15), rng.uniform(0, 0.12)
        lines.append([*normal, normal @ at, half, side, core, along, along + rng.uniform(10, 60) * px_per_mm])
    return np.array(lines) if lines else _NO_LINES


def _tone(amounts: Mapping[str, float]) -> np.ndarray:
    """Factor (3,) of the channels: colour temperature and yellowed or greyed paper."""
    warmth, tint = amounts.get("warmth", 0.0), amounts.get("tint", 0.0)
    # warm light gains red and loses blue; aged paper absorbs blue most
    factor = np.array([1 + 0.06 * warmth, 1.0, 1 - 0.14 * warmth]) * (1 - tint * np.array([0.3, 0.5, 1.0]))
    return factor.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _grain(width: int) -> np.ndarray:
    """Float32 (65536 + width,) normal deviates, the table of the sensor's noise."""
    return np.random.default_rng(0).standard_normal(65536 + width, dtype=np.float32)
