/** Colours and type of the page (src/web/styles/base.css), as far as a text needs them. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --bg: light-dark(#f5f6f8, #0d1014);
  --surface: light-dark(#ffffff, #151a20);
  --sunken: light-dark(#f0f2f5, #10141a);
  --line: light-dark(#e3e7ec, #262d36);
  --text: light-dark(#12171e, #e7ebf0);
  --muted: light-dark(#566070, #9ba7b5);
  --accent: light-dark(#0b6b63, #4fd1c1);
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
* { box-sizing: border-box; }
body { margin: 0; display: grid; grid-template-columns: 18rem minmax(0, 1fr); background: var(--bg);
  color: var(--text); }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--surface); padding: .5rem; }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1rem; font-size: 13px;
  border-right: 1px solid var(--line); background: var(--surface); }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { text-decoration: none; overflow-wrap: anywhere; }
nav .l2 { margin-top: .5rem; font-weight: 600; }
nav .l3 { padding-left: .75rem; }
.brand { margin: 0 0 1rem; font-weight: 700; font-size: 16px; }
main { padding: 1rem 2rem 4rem; max-width: 70rem; }
h1 small { color: var(--muted); font-weight: 400; font-size: 60%; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2.5rem; font-family: var(--mono); font-size: 15px; overflow-wrap: anywhere; }
h2 a, h3 a { color: inherit; text-decoration: none; }
h2, h3 { scroll-margin-top: 1rem; }
code { font-family: var(--mono); font-size: 13px; overflow-wrap: anywhere; background: var(--sunken);
  border-radius: 4px; padding: .1em .25em; }
pre code { padding: 0; background: none; }
pre { background: var(--sunken); border: 1px solid var(--line); border-radius: 10px; padding: .75rem;
  overflow: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; }
@media (max-width: 50rem) {
  body { display: block; }
  nav { position: static; height: auto; max-height: 40vh; border-right: 0;
    border-bottom: 1px solid var(--line); }
  main { padding: 1rem; }
}
@media print { nav { display: none; } body { display: block; } }
`;
