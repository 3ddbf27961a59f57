# SPDX-License-Identifier: MIT
"""A result as a picture: one row for each workload, ratios to kernel overlayfs on a log scale.

Colours follow the reader's light or dark preference; each contender has a shape of its own as
well, for those who do not tell the colours apart.
"""

import math
from xml.sax.saxutils import escape

from . import figures

LEFT, WIDTH, ROW, TOP, BOTTOM, RIGHT = 330, 900, 19, 64, 34, 24
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .small { font-size: 11px; fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .band { fill: #f3f5f7 }
  .kernel { stroke: #24292f; stroke-width: 2 }
  .reach { stroke: #1a7f37; stroke-width: 2.5 }
  .page { fill: #ffffff }
  .c0 { fill: #0969da } .c1 { fill: #d4700a } .c2 { fill: #8250df } .c3 { fill: #bf3989 }
  .c4 { fill: #1b7c83 } .c5 { fill: #6e5300 } .native { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 }
    .grid { stroke: #30363d } .band { fill: #161b22 } .page { fill: #0d1117 }
    .kernel { stroke: #e6edf3 } .reach { stroke: #3fb950 }
    .c0 { fill: #58a6ff } .c1 { fill: #f0883e } .c2 { fill: #bc8cff } .c3 { fill: #f778ba }
    .c4 { fill: #39c5cf } .c5 { fill: #d29922 } .native { fill: #6e7681 }
  }
"""
SHAPES = (
    '<circle class="{c}" cx="{x}" cy="{y}" r="4.5"/>',
    '<rect class="{c}" x="{l}" y="{t}" width="8" height="8"/>',
    '<path class="{c}" d="M{x} {u} L{r} {y} L{x} {d} L{w} {y} Z"/>',
    '<path class="{c}" d="M{x} {u} L{r} {d} L{w} {d} Z"/>',
)


class Scale:
    """Ratios to places on the page; those beyond the last step stand at the edge."""

    def __init__(self, values):
        known = [value for value in values if value] + [0.5, 2]
        self.low = max([step for step in STEPS if step <= min(known)], default=STEPS[0])
        self.high = min([step for step in STEPS if step >= max(known)], default=STEPS[-1])

    def steps(self):
        return [step for step in STEPS if self.low <= step <= self.high]

    def place(self, value):
        value = min(max(value, self.low), self.high)
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)


def dot(shape, colour, x, y):
    return SHAPES[shape % len(SHAPES)].format(
        c=colour, x=x, y=y, l=round(x - 4, 1), t=y - 4, u=y - 5.5, d=y + 5.5, r=round(x + 5.5, 1),
        w=round(x - 5.5, 1))


def looks(contenders):
    """Shape and colour of each contender but the kernel."""
    found, number = {}, 0
    for each in contenders:
        if each["kind"] == "native":
            found[each["name"]] = (3, "native")
        elif each["kind"] != "kernel":
            found[each["name"]] = (number, f"c{number % 6}")
            number += 1
    return found


def legend(names):
    parts, x = [], LEFT
    for name, (shape, colour) in names.items():
        parts += [dot(shape, colour, x + 6, 24), f'<text x="{x + 17}" y="28">{escape(name)}</text>']
        x += 44 + 7 * len(name)
    parts += [f'<line class="reach" x1="{x + 6}" x2="{x + 6}" y1="18" y2="31"/>',
              f'<text x="{x + 17}" y="28">to reach</text>']
    return parts


def axis(scale, bottom):
    parts = []
    for step in scale.steps():
        x, kind = scale.place(step), "kernel" if step == 1 else "grid"
        parts += [f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>',
                  f'<text class="small" x="{x}" y="{TOP - 9}" text-anchor="middle">{step:g}</text>']
    parts.append(f'<text class="small" x="{LEFT}" y="{bottom + 22}">time as a ratio to kernel '
                 "overlayfs (the line at 1); left of it is faster</text>")
    return parts


def row(result, criteria, scale, names, workload, number):
    y = TOP + number * ROW + ROW // 2
    parts = []
    if number % 2 == 0:
        parts.append(f'<rect class="band" x="0" y="{y - ROW // 2}" width="{WIDTH}" '
                     f'height="{ROW}"/>')
    title = escape(result.workloads[workload]["title"])
    parts.append(f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{title}</text>')
    modes = {each["mode"] for each in result.contenders if each["mode"]}
    limits = {figures.to_reach(criteria, "ratio", workload, mode) for mode in modes} - {None}
    marks = [f'<line class="reach" x1="{scale.place(limit)}" x2="{scale.place(limit)}" '
             f'y1="{y - 7}" y2="{y + 7}"/>' for limit in sorted(limits)
             if scale.low <= limit <= scale.high]
    for name, (shape, colour) in names.items():
        ratio = result.ratio(workload, name)
        if ratio:
            marks.append(dot(shape, colour, scale.place(ratio), y))
    return parts, marks


def draw(result, criteria):
    """The text of the picture."""
    names = looks(result.contenders)
    workloads = [name for name in result.names("time") if result.value(name, result.base)]
    scale = Scale([result.ratio(workload, name) for workload in workloads for name in names])
    bottom = TOP + len(workloads) * ROW
    below, above = [], []
    for number, workload in enumerate(workloads):
        parts, marks = row(result, criteria, scale, names, workload, number)
        below += parts
        above += marks
    height = bottom + BOTTOM
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">',
        "<title>Time of each workload as a ratio to kernel overlayfs</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        *below, *axis(scale, bottom), *above, *legend(names), "</svg>", ""])
