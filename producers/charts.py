"""Drawings of the report: numbers in, inline SVG out. Text stays text: a phone can scale it and a reader copy it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

#: Dark blue for the joint model, grey for what it is compared with, orange for what needs attention.
INK, MUTED, JOINT, GUEST, POOLED, ACCENT = "#1d2733", "#8a97a6", "#1f6feb", "#e07b39", "#5f6b7a", "#d1495b"
SERIES = (JOINT, GUEST, "#2a9d6f", "#8457c9", "#c9a227")

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#c5ced8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9edf2",
    "xtick.color": POOLED,
    "ytick.color": POOLED,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Scored:
    """Scores of one model on the hold-out rows, and the labels of these rows."""

    name: str
    label: NDArray[np.int8]
    score: NDArray[np.float64]


def draw_roc(models: Sequence[Scored]) -> str:
    """True against false positive rate, one line a model; the first is the one that the job trained."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot([0, 1], [0, 1], color="#d4dbe3", linewidth=1)
        for place, model in enumerate(models):
            false_rate, true_rate, _ = rates(model)
            style = {"linewidth": 2.4} if place == 0 else {"linewidth": 1.6, "linestyle": (0, (4, 2))}
            axes.plot(false_rate, true_rate, color=(JOINT, GUEST, POOLED)[place % 3], label=model.name, **style)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(0, 1.02))
        axes.legend(loc="lower right")
        return _svg(figure, "roc")


def draw_ks(model: Scored) -> str:
    """Shares of positives and negatives found among the highest scores; KS is the widest gap between the two."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        false_rate, true_rate, share = rates(model)
        widest = int(np.argmax(np.abs(true_rate - false_rate)))
        axes.plot(share, true_rate, color=JOINT, linewidth=2.2, label="positives found")
        axes.plot(share, false_rate, color=MUTED, linewidth=2.2, label="negatives found")
        axes.plot([share[widest]] * 2, [false_rate[widest], true_rate[widest]], color=ACCENT, linewidth=2)
        axes.annotate(
            f"KS {abs(true_rate[widest] - false_rate[widest]):.3f}",
            (share[widest], (true_rate[widest] + false_rate[widest]) / 2),
            xytext=(7, 0),
            textcoords="offset points",
            color=ACCENT,
            va="center",
        )
        axes.set(xlabel="share of rows, highest score first", ylabel="share found", xlim=(0, 1.01), ylim=(0, 1.02))
        axes.legend(loc="lower right")
        return _svg(figure, "ks")


def draw_lift(model: Scored) -> str:
    """How many times more positives than average each tenth of the rows holds, highest scores first."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        label = model.label[np.argsort(-model.score, kind="stable")]
        tenths = np.array_split(label, 10)
        lift = [float(np.mean(tenth)) / float(np.mean(label)) if len(tenth) else 0.0 for tenth in tenths]
        bars = axes.bar(
            np.arange(1, 11), lift, color=[JOINT if value >= 1 else "#a9c3ee" for value in lift], width=0.78
        )
        axes.bar_label(bars, labels=[f"{value:.1f}" for value in lift], padding=2, fontsize=8.5, color=POOLED)
        axes.axhline(1, color=ACCENT, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set(xlabel="tenth of the rows, highest score first", ylabel="lift", xticks=range(1, 11))
        axes.grid(axis="x", visible=False)
        return _svg(figure, "lift")


def draw_calibration(model: Scored) -> str:
    """Observed share of positives against the mean predicted probability, in up to ten groups of equal size."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        order = np.argsort(model.score, kind="stable")
        groups = [group for group in np.array_split(order, min(10, max(1, len(order) // 10))) if len(group)]
        predicted = [float(np.mean(model.score[group])) for group in groups]
        observed = [float(np.mean(model.label[group])) for group in groups]
        axes.plot([0, 1], [0, 1], color="#d4dbe3", linewidth=1)
        axes.plot(predicted, observed, color=JOINT, linewidth=1.6, marker="o", markersize=5)
        axes.hist(
            model.score, bins=20, range=(0, 1), weights=np.full(len(order), 0.25 / max(1, len(order))), color="#cfdcf3"
        )
        axes.set(
            xlabel="predicted probability", ylabel="observed share of positives", xlim=(-0.02, 1.02), ylim=(-0.02, 1.05)
        )
        return _svg(figure, "calibration")


def draw_loss(losses: Sequence[float]) -> str:
    """The training objective a row before each pass; the first is of the guest's own fit, later ones are estimates."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot(range(len(losses)), losses, color=JOINT, linewidth=2, marker="o", markersize=4.5)
        if losses:
            axes.annotate("guest alone", (0, losses[0]), xytext=(8, 2), textcoords="offset points", color=POOLED)
        axes.set(xlabel="pass", ylabel="objective a row", ylim=(0, max(losses, default=1.0) * 1.12))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _svg(figure, "loss")


def draw_bars(
    name: str, stages: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], words: Callable[[float], str]
) -> str:
    """Horizontal bars a stage, one a party: where seconds and bytes go."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(height=0.9 + 0.34 * len(stages) * max(1, len(series)))
        height = 0.8 / max(1, len(series))
        widest = max((value for _, values in series for value in values), default=0.0)
        for place, (party, values) in enumerate(series):
            positions = np.arange(len(stages)) + (place - (len(series) - 1) / 2) * height
            bars = axes.barh(positions, values, height=height * 0.86, color=SERIES[place % len(SERIES)], label=party)
            axes.bar_label(bars, labels=[words(value) for value in values], padding=4, fontsize=9, color=POOLED)
        axes.set(yticks=range(len(stages)), xlim=(0, widest * 1.22 or 1))
        axes.set_yticklabels(stages)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(left=False, labelbottom=False, bottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.legend(loc="lower right")
        return _svg(figure, name)


def rates(model: Scored) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False positive rate, true positive rate and share of rows at every distinct score, from the highest down."""
    order = np.argsort(-model.score, kind="stable")
    score, label = model.score[order], model.label[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1) if len(score) else np.zeros(0, np.int64)
    positives, negatives = np.cumsum(label)[ends], np.cumsum(1 - label)[ends]
    true_rate = np.concatenate([[0.0], positives / max(1.0, float(label.sum()))])
    false_rate = np.concatenate([[0.0], negatives / max(1.0, float((1 - label).sum()))])
    return false_rate, true_rate, np.concatenate([[0.0], (ends + 1) / max(1, len(score))])


def _figure(height: float = 3.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.8, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    """The drawing as an element that fills its column. The salt keeps ids of several drawings in one page apart."""
    target = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\b(id="|href="#|url\(#)', lambda match: f"{match.group(1)}{name}-", text)
    return re.sub(r'width="[^"]*pt" height="[^"]*pt"', f'role="img" aria-label="{name}"', text, count=1)
