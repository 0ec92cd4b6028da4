#!/usr/bin/env python3
"""Draws docs/performance/*.svg from what benches/peers/growth.py measured.

The same figures give the same bytes with the same version of matplotlib. Needs `pip install matplotlib==3.11.2`.
Usage: plot_performance.py [docs/performance/growth.json]
"""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
# Names of clip paths and the like are made from this, not by chance; text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "vllm_batch", "svg.fonttype": "none", "font.size": 9, "axes.grid": True,
                            "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
from matplotlib import pyplot, ticker  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs/performance"
OURS, MEMORY = "#1f6fb4", "#b4541f"


def main(path=FOLDER / "growth.json"):
    growth = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    for name, (draw, x_label) in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
        draw(axes, growth[name])
        axes.set_xlabel(x_label)
        axes.set_ylim(bottom=0)
        figure.savefig(pathlib.Path(path).parent / f"{name}.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def batch_size(axes, points):
    line(axes, points, lambda point: point["generated_tokens"] / point["seconds"], "generated tokens a second")
    powers_of_two(axes, points)


def prompt_length(axes, points):
    line(axes, points, lambda point: 1e6 * point["seconds"] / point["prompt_tokens"], "milliseconds for 1,000 tokens of prompt")
    powers_of_two(axes, points)


def prefix_share(axes, points):
    line(axes, points, lambda point: 1e3 * point["seconds"] / point["rows"], "milliseconds a row")


def rows(axes, points):
    line(axes, points, lambda point: point["seconds"], "seconds")
    memory = axes.twinx()
    line(memory, points, lambda point: point["megabytes"], "resident memory, MB", MEMORY, "--")
    memory.set_ylim(bottom=0)
    memory.grid(False)


PLOTS = {
    "batch_size": (batch_size, "sequences that run at the same time"),
    "prompt_length": (prompt_length, "tokens of a prompt"),
    "prefix_share": (prefix_share, "share of the prompt that all rows have in common, per cent"),
    "rows": (rows, "rows of the file"),
}


def line(axes, points, value, label, colour=OURS, style="-"):
    axes.plot([point["x"] for point in points], [value(point) for point in points], style, marker="o", markersize=4, color=colour)
    axes.set_ylabel(label, color=colour)
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


def powers_of_two(axes, points):
    axes.set_xscale("log", base=2)
    axes.set_xticks([point["x"] for point in points])
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


main(*sys.argv[1:])
