"""Grouped bars as SVG: small enough to need no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#b2182b", "#999999", "#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#006d2c", "#54278f")
BAR, GAP, HEIGHT, LEFT, TOP, BELOW = 22, 40, 300, 60, 60, 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    name: str
    values: Mapping[str, float]


def bars(title: str, unit: str, groups: Sequence[Group]) -> str:
    """One group of bars beside the other, a colour a series, each with its value above it."""
    series = list(dict.fromkeys(name for group in groups for name in group.values))
    top = max([value for group in groups for value in group.values.values()] + [1e-9]) * 1.1
    wide = len(series) * BAR + GAP
    width = LEFT + wide * len(groups) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + BELOW}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="16">{escape(title)}</text>',
        f'<text x="{LEFT}" y="42">{escape(unit)}</text>',
    ]
    for at, group in enumerate(groups):
        left = LEFT + at * wide
        for number, name in enumerate(series):
            value = group.values.get(name, 0.0)
            height = HEIGHT * value / top
            x, y = left + number * BAR, TOP + HEIGHT - height
            colour = COLOURS[number % len(COLOURS)]
            parts.append(f'<rect x="{x}" y="{y:.1f}" width="{BAR - 3}" height="{height:.1f}" fill="{colour}"/>')
            parts.append(f'<text x="{x}" y="{y - 4:.1f}" font-size="9">{value:.1f}</text>')
        parts.append(f'<text x="{left}" y="{TOP + HEIGHT + 18}">{escape(group.name)}</text>')
    parts.append(f'<line x1="{LEFT}" y1="{TOP + HEIGHT}" x2="{width - 10}" y2="{TOP + HEIGHT}" stroke="black"/>')
    for number, name in enumerate(series):
        x, y = LEFT + number % 4 * 150, TOP + HEIGHT + 40 + number // 4 * 18
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 14}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
