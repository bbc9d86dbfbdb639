"""The trace kernel against cairo at eight times the size."""

from __future__ import annotations

import numpy as np
import pytest

from gem_lightning.render import EcgRenderer, Page
from gem_lightning.render.kernels.stroke import stroke_traces

SIZES = ((336, 435), (850, 1100), (1700, 2200))
INK = (0, 0, 0)


def bare(layout, size, **more):
    page = Page(color=INK, names=False, pulses=False, separators=False, footer="")
    return EcgRenderer(layout, size=size, style="none", page=page, **more)


def cairo_ink(renderer, record, factor=8):
    """Coverage (H, W) of the traces as cairo draws them at ``factor`` times the size."""
    try:
        import cairocffi as cairo
    except (ImportError, OSError):
        pytest.skip("cairo is not installed")
    height, width = renderer.size
    surface = cairo.ImageSurface(cairo.FORMAT_A8, width * factor, height * factor)
    context = cairo.Context(surface)
    context.scale(factor, factor)
    context.set_line_cap(cairo.LINE_CAP_ROUND)
    context.set_line_join(cairo.LINE_JOIN_ROUND)
    context.set_line_width(renderer.line_px)
    for trace in renderer(record).geometry.traces:
        k = np.arange(int(np.ceil(trace.t0 * record.fs)), min(int(trace.t1 * record.fs) + 1, record.samples))
        x = trace.x0 + (k / record.fs - trace.t0) * renderer.speed * renderer.px_per_mm
        y = trace.baseline_y - record.lead(trace.lead)[k] * trace.gain * renderer.px_per_mm
        context.move_to(x[0], y[0])
        for point in zip(x[1:], y[1:]):
            context.line_to(*point)
        context.stroke()
    stride = surface.get_stride()
    ink = np.frombuffer(surface.get_data(), np.uint8).reshape(height * factor, stride)[:, : width * factor]
    return ink.reshape(height, factor, width, factor).mean((1, 3)) / 255


@pytest.mark.parametrize("size", [*SIZES[:2], pytest.param(SIZES[2], marks=pytest.mark.slow)])
def test_ink_is_that_of_supersampled_cairo(record, size):
    renderer = bare("3x4+1", size)
    truth = cairo_ink(renderer, record)
    ink = 1 - renderer(record).image[..., 0] / 255.0
    paper = 1 - 255 / 255.0
    drawn = (truth > 0) | (ink > paper)
    assert np.abs(ink - truth)[drawn].mean() * 255 <= 4.0
    assert 0.98 <= ink.sum() / truth.sum() <= 1.02


def test_one_sample_is_a_round_dot():
    image = np.full((21, 21, 3), 255, np.uint8)
    one = np.array([0]), np.array([0]), np.array([1])
    stroke_traces(
        image,
        np.zeros((1, 1), np.float32),
        *one,
        np.array([10.5]),
        0.4,
        np.array([10.5]),
        np.array([1.0]),
        (0.0, 21.0),
        5.0,
        INK,
        1.0,
    )
    area = (255 - image[..., 0].astype(float)).sum() / 255
    assert area == pytest.approx(np.pi * 25, rel=0.02)
    assert np.array_equal(image, image[::-1])
    assert np.array_equal(image, image[:, ::-1])
