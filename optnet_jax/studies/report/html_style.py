"""Colours and style sheet of the page."""

# Okabe and Ito's, which colour-blind readers can tell apart.
COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c6d1f",
    "#777777",
)


def color(index: int) -> str:
    """Colour of the n-th group; beyond the palette, around the colour circle.

    >>> color(0), color(8)
    ('#0072b2', 'hsl(20 65% 42%)')
    """
    if index < len(COLORS):
        return COLORS[index]
    return f"hsl({(20 + 137 * (index - len(COLORS))) % 360} 65% 42%)"


STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #ffe9a8; --ink: #1b1f24; }
@media (prefers-color-scheme: dark) { :root { --mark: #5a4a12; --ink: #e6e6e6; }
  .chart path, .swatch { filter: brightness(1.6); } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto;
  padding: 0 1.2rem; color: var(--ink); }
h1 { font-size: 1.6rem; margin-bottom: .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
tr.differs td { background: var(--mark); }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap;
  gap: .3rem 1.4rem; }
.swatch { display: inline-block; width: 1.1rem; height: .35rem; margin-right: .5rem;
  vertical-align: middle; border-radius: 2px; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
.chart { flex: 1 1 440px; max-width: 560px; min-width: 300px; width: 100%; }
figure { margin: 0 0 .8rem; flex: 1 1 440px; max-width: 560px; }
figcaption, .note, .none { font-size: .85rem; opacity: .75; }
svg text { fill: currentColor; font: 11px system-ui, sans-serif; }
svg text.cell { text-anchor: middle; font-size: 10px; }
svg .middle, svg .name { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .grid { stroke: var(--line); stroke-width: 1; }
summary { cursor: pointer; margin: .4rem 0; }
"""
