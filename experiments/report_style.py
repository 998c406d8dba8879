"""The report's style sheet: one readable column, light or dark as the reader's system is."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #5b6470; --line: #d9dee4;
  --paper: #ffffff; --panel: #f4f6f8; --accent: #2f7ed8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa4b0; --line: #363d46; --paper: #15181c; --panel: #1f242a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
p { max-width: 46rem; }
.summary { background: var(--panel); border-left: 4px solid var(--accent);
  padding: .9rem 1.1rem; border-radius: 0 .4rem .4rem 0; max-width: none; }
.note, figcaption { color: var(--soft); font-size: .88rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem .55rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; text-align: center; }
tbody th { text-align: left; font-weight: 500; }
td.best { font-weight: 700; color: var(--accent); }
table.pictures th, table.pictures td { border: 0; padding: .2rem; text-align: center; }
table.pictures tbody th { text-align: left; padding-right: .8rem; color: var(--soft);
  font-size: .85rem; }
table.pictures img { display: block; width: 11rem; max-width: 28vw; border-radius: .3rem; }
table.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: 0; }
figure svg { width: 100%; height: auto; font-family: inherit; }
video { width: 100%; max-width: 40rem; border-radius: .4rem; background: #000; }
details { margin: .5rem 0; }
details > summary { cursor: pointer; font-weight: 500; }
@media print { main { max-width: none; } details { display: block; } }
"""
