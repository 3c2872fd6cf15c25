"""The style sheet of the report: light and dark, phone and print, without a font or file from elsewhere."""

from __future__ import annotations

# Series colours: told apart with colour-vision deficiencies (after Okabe and Ito), at least 4.5 : 1 on the ground.
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --raised: #f5f7fa; --ink: #17202b; --soft: #4d5b6b; --line: #d4dbe3;
  --grid: #e4e9ef; --shade: #17202b33; --accent: #0060a8; --warn: #fff4d6; --warn-edge: #b57b00; --warn-ink: #4a3300;
  --s0: #0060a8; --s1: #c44601; --s2: #00795a; --s3: #a1458a; --s4: #5b6470; --s5: #7a6400; }
@media (prefers-color-scheme: dark) { :root { --ground: #11161d; --raised: #1a212b; --ink: #e8edf3; --soft: #a9b5c2;
  --line: #36414e; --grid: #29323d; --shade: #ffffff2e; --accent: #7cc0f5; --warn: #3a2d0c;
  --warn-edge: #e0aa2e; --warn-ink: #fbe9bd;
  --s0: #6db8f2; --s1: #f59d5c; --s2: #45c9a0; --s3: #e296cb; --s4: #a9b4c0; --s5: #d9c04a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main, header, footer { max-width: 70rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft, figcaption, caption, small { color: var(--soft); }
.lead { font-size: 1.08rem; } p.caption { margin: 1.2rem 0 0; font-weight: 600; font-size: .93rem; }
.findings { margin: .8rem 0 1rem; padding: .8rem 1.2rem .8rem 2.2rem; max-width: 52rem; background: var(--raised);
  border: 1px solid var(--line); border-radius: .35rem; } .findings li { margin: .3rem 0; }
dl { margin: .5rem 0; max-width: 46rem; } dt { font-weight: 600; } dd { margin: 0 0 .5rem; color: var(--soft); }
.banner { background: var(--warn); color: var(--warn-ink); border-left: .4rem solid var(--warn-edge);
  padding: .7rem 1rem; margin: 0 0 1.25rem; border-radius: .25rem; max-width: none; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; padding: 0; margin: 1rem 0 0; list-style: none; }
a { color: var(--accent); } a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; background:
    linear-gradient(to right, var(--ground) 30%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--ground) 30%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; min-width: min(100%, 30rem); }
caption { text-align: left; padding: 0 0 .4rem; font-size: .9rem; }
th, td { padding: .35rem .8rem .35rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } thead th { vertical-align: bottom; color: var(--soft); }
th:first-child, td.text, th.text { text-align: left; }
tbody th { font-weight: 400; } tbody th.group { font-weight: 600; padding-top: 1.1rem; }
tbody th.group small, tbody th small { font-weight: 400; }
th.group .stay { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); }
tbody th[scope=row] small { display: block; max-width: 14rem; }
table:not(.stack) tbody th[scope=row] { min-width: 11rem; }
td { white-space: nowrap; } td code { white-space: nowrap; }
td small { display: block; }
code { font: .88em ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; overflow-wrap: break-word; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.25rem 2rem; }
.charts.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0; max-width: 27rem; } figcaption { font-size: .9rem; margin-bottom: .25rem; }
figcaption b { color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; margin: .5rem 0 .9rem; padding: 0; }
.legend svg { margin-right: .45rem; vertical-align: middle; }
svg.chart { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 12px; } svg .num { font-size: 11px; font-variant-numeric: tabular-nums; }
svg text.strong { fill: var(--ink); font-weight: 600; } svg .mid { text-anchor: middle; } svg .end { text-anchor: end; }
.grid { stroke: var(--grid); } .ref { stroke: var(--soft); stroke-dasharray: 3 3; }
.l { fill: none; stroke-width: 2; stroke-linejoin: round; } .m { stroke: var(--ground); }
.b { opacity: .13; } .d { stroke: var(--ground); stroke-width: .5; }
.l.base { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 1 4; stroke-linecap: round; }
.l.s0 { stroke: var(--s0); } .l.s1 { stroke: var(--s1); } .l.s2 { stroke: var(--s2); }
.l.s3 { stroke: var(--s3); } .l.s4 { stroke: var(--s4); } .l.s5 { stroke: var(--s5); }
:is(.m, .b, .d).s0 { fill: var(--s0); } :is(.m, .b, .d).s1 { fill: var(--s1); } :is(.m, .b, .d).s2 { fill: var(--s2); }
:is(.m, .b, .d).s3 { fill: var(--s3); } :is(.m, .b, .d).s4 { fill: var(--s4); } :is(.m, .b, .d).s5 { fill: var(--s5); }
.flow { list-style: none; padding: 0; margin: .75rem 0 1.25rem; max-width: 46rem; }
.flow .box { background: var(--raised); border: 1px solid var(--line); border-radius: .35rem; padding: .45rem .8rem; }
.flow .drop { margin-left: 1.4rem; padding: .4rem 0 .4rem 1rem; border-left: 2px solid var(--line);
  color: var(--soft); }
.flow b { color: var(--ink); font-variant-numeric: tabular-nums; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 3rem; padding-top: 1rem; padding-bottom: 2rem; color: var(--soft); font-size: .9rem; }
@media (max-width: 40rem) { main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  h1 { font-size: 1.5rem; } th, td { padding-right: .45rem; } table { font-size: .84rem; }
  th.group small { display: block; } td small { font-size: .72rem; } tbody th[scope=row] small { max-width: 7rem; }

  .stack, .stack thead, .stack tbody { display: block; min-width: 0; }
  .stack tr { display: grid; grid-template-columns: repeat(var(--columns), 1fr); column-gap: .2rem;
    border-bottom: 1px solid var(--line); }
  .stack thead th { font-size: .66rem; } .stack td small { font-size: .68rem; }
  .stack th, .stack td { border: 0; padding: .1rem 0; min-width: 0; }
  .stack td { padding-bottom: .35rem; white-space: normal; }
  .stack tr > th:first-child { grid-column: 1 / -1; padding-top: .35rem; max-width: none; }
  .stack td small { white-space: normal; padding-left: .3rem; } .stack tbody th[scope=row] small { max-width: none; } }
@media print { :root { color-scheme: light; --ground: #fff; --raised: #f5f7fa; --ink: #000; --soft: #444; --line: #bbb;
  --grid: #ddd; --accent: #000; --warn: #fff; --warn-ink: #000; --s0: #0060a8; --s1: #c44601; --s2: #00795a;
  --s3: #a1458a; --s4: #5b6470; --s5: #7a6400; }
  body { font-size: 10.5pt; } nav { display: none; } main, header, footer { max-width: none; padding: 0; }
  .scroll { overflow: visible; background: none; } .legend { break-after: avoid; } .charts { break-before: avoid; }
  tr:has(th.group) { break-after: avoid; }
  figure, tr, .flow li, .banner { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .charts { grid-template-columns: repeat(2, 1fr); }
  details::details-content { content-visibility: visible; display: block; } }
"""
