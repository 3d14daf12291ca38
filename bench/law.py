"""Draw the plot of the documents: the price and the honest requests under four attackers, by two laws.

``python -m bench.law`` writes ``docs/law.svg``; it needs matplotlib, of the dependency group ``docs``.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from tests.simulation import ATTACKS, BEGIN, LAWS, digest_of_plot, plotted

PLOT = Path(__file__).parent.parent / "docs" / "law.svg"
COLOURS = {"adaptive": "#0b6e4f", "load average": "#c8553d"}
ROWS = {"level": "price, times the base", "share": "honest requests served"}


def main() -> None:
    """Draw it."""
    # The same file each time: SVG names its parts by this salt, and the date is left out below.
    mpl.rcParams.update({"svg.hashsalt": "law", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(len(ROWS), len(ATTACKS), sharex=True, sharey="row")
    for column, (attacker, end) in enumerate(ATTACKS.items()):
        for law in LAWS[:2]:
            series = plotted(law, attacker)
            for row, name in enumerate(ROWS):
                axes[row][column].plot(series["time"], series[name], color=COLOURS[law], label=law)
        for row in range(len(ROWS)):
            axes[row][column].axvspan(BEGIN, end, color="#dddddd", linewidth=0)
        axes[0][column].set_title(attacker)
        axes[-1][column].set_xlabel("seconds; grey: the attack")
    for row, title in enumerate(ROWS.values()):
        axes[row][0].set_ylabel(title)
    axes[0][0].legend(loc="center right")
    figure.savefig(PLOT, format="svg", metadata={"Date": None, "Description": digest_of_plot()})


if __name__ == "__main__":
    main()
