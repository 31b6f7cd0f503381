#!/usr/bin/env python3
"""Draws what `simulate.py --json FILE` has measured: accuracy over rounds, and over bytes that a device has sent and got.

    plot.py -o docs/fleet.svg "10 writers=writers.json" "PACS by domain=pacs.json"
"""

import argparse
import json
import statistics
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, TITLE = 700, 190, 26
PANELS = ((44, 300), (394, 650))
TOP, BOTTOM = 14, 146
STYLE = """
  svg { --ink: #1b1f24; --soft: #59606a; --rule: #d9dce1; --a: #0b5f9e; --b: #b54708; --pale: #83878e; }
  @media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --soft: #a2a8b1; --rule: #3a3f47; --a: #6db3ea; --b: #f0a067; --pale: #858990; } }
  text { font: 11px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: var(--soft); }
  .title { font-size: 12px; fill: var(--ink); } .end { text-anchor: end; } .mid { text-anchor: middle; }
  path, line { fill: none; } .rule { stroke: var(--rule); } .fleet { stroke: var(--a); stroke-width: 2; }
  .spread { fill: var(--a); fill-opacity: .15; } .all { stroke: var(--ink); stroke-dasharray: 6 3; } .local { stroke: var(--pale); stroke-dasharray: 2 3; stroke-width: 1.5; }
  circle { fill: var(--b); }
"""


def step(most):
    """A round number, of which some four fit below."""
    power = 10 ** (len(str(int(max(most, 1)))) - 1)
    return next(times * power / 10 for times in (1, 2, 5, 10, 20, 50) if times * power / 10 * 5 >= most)


def text(place, words, how=""):
    return f'<text x="{place[0]:.1f}" y="{place[1]:.1f}" class="{how}">{escape(words)}</text>'


class Panel:
    """Axes at a place: from 0 to `most` to the right, from `low` to 1 upwards."""

    def __init__(self, ends, top, most, low):
        self.ends, self.top, self.most, self.low = ends, top, most, low

    def at(self, x, y):
        left, right = self.ends
        rise = (y - self.low) / (1 - self.low) * (BOTTOM - TOP)
        return left + (right - left) * x / self.most, self.top + BOTTOM - rise

    def axes(self, about, word):
        tenth = int(self.low * 10)
        for nth in range(tenth, 11, 2 if tenth < 6 else 1):
            left, y = self.at(0, nth / 10)
            yield f'<line x1="{left}" x2="{self.ends[1]}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>'
            yield text((left - 6, y + 4), f"{10 * nth}", "end")
        each, x = step(self.most), 0.0
        while x <= self.most * 1.001:
            yield text((self.at(x, 0)[0], self.top + BOTTOM + 15), word(x), "mid")
            x += each
        yield text((sum(self.ends) / 2, self.top + BOTTOM + 31), about, "mid")

    def level(self, y, how):
        (left, height), right = self.at(0, y), self.ends[1]
        return f'<line x1="{left}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}" class="{how}"/>'

    def curve(self, xs, ys, deviations):
        points = [self.at(x, y) for x, y in zip(xs, ys)]
        above = [self.at(x, min(y + d, 1)) for x, y, d in zip(xs, ys, deviations)]
        below = [self.at(x, max(y - d, self.low)) for x, y, d in zip(xs, ys, deviations)]
        path = lambda places: " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<path class="spread" d="M{path(above + below[::-1])}z"/><path class="fleet" d="M{path(points)}"/>'


def figure(title, told, top):
    """Two panels of one file."""
    seeds = told["seeds"]
    curves = list(zip(*(seed["fleet"]["curve"] for seed in seeds)))
    means = [statistics.mean(each) for each in curves]
    deviations = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in curves]
    levels = {name: statistics.mean(seed[name]["others"] for seed in seeds) for name in ("local", "personal", "all") if name in seeds[0]}
    each = (seeds[0]["fleet"]["bytes-up"] + seeds[0]["fleet"]["bytes-down"]) / 1000
    low = max(0.0, int(10 * min([*means, *levels.values()]) - 0.5) / 10)
    rounds = range(len(means))
    yield text((PANELS[0][0] - 30, top), title, "title")
    for ends, xs, about, word in ((PANELS[0], list(rounds), "rounds", "{:.0f}".format),
                                  (PANELS[1], [each * number for number in rounds], "kB of a device, up and down", "{:.0f}".format)):  # fmt: skip
        panel = Panel(ends, top, max(xs), low)
        yield from panel.axes(about, word)
        for name in ("local", "all"):
            if name in levels:
                yield panel.level(levels[name], name)
        yield from panel.curve(xs, means, deviations)
        if "personal" in levels:
            x, y = panel.at(max(xs), levels["personal"])
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def legend(top):
    entries = [("fleet", "fleet, and its deviation"), ("local", "each device alone"), ("all", "all in one place")]
    x = PANELS[0][0]
    for how, words in entries:
        yield f'<line x1="{x}" x2="{x + 24}" y1="{top - 4}" y2="{top - 4}" class="{how}"/>' + text((x + 30, top), words)
        x += 42 + 6 * len(words)
    yield f'<circle cx="{x + 6}" cy="{top - 4}" r="4"/>' + text((x + 16, top), "then a lesson alone")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="+", help="TITLE=FILE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    parts = list(legend(16))
    for nth, asked in enumerate(args.figures):
        title, file = asked.rsplit("=", 1)
        parts += figure(title, json.loads(Path(file).read_text()), 44 + nth * (HEIGHT + TITLE))
    height = 30 + len(args.figures) * (HEIGHT + TITLE)
    about = "Accuracy in percent on photos that no device has, over rounds and over bytes"
    args.output.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"><title>{about}</title>'
                           f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n")  # fmt: skip


if __name__ == "__main__":
    main()
