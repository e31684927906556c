"""The look of the dashboard: one style sheet, system fonts, nothing fetched from elsewhere."""

# Class colours are those of the figures (Okabe & Ito 2008), darkened for text on white paper and
# lightened for text on dark.
LIGHT = """--ink:#1c2733; --muted:#5a6674; --line:#dde3e9; --edge:#c3ccd5; --wash:#f5f7f9;
  --paper:#fff; --accent:#1f4e5f; --accent-strong:#163a47; --on-accent:#fff; --focus:#8fb7c6;
  --track:#e9edf1; --middle:#98a3ae; --chosen:#dcebf1; --warning:#fdf6ec; --warning-edge:#e3c9a8;
  --real:#0072b2; --fake:#d55e00; --fake-ink:#b34700; --uncertain:#4a5560; --figure:#fff;
  color-scheme:light;"""
DARK = """--ink:#e3e9ef; --muted:#a3b0bc; --line:#35414d; --edge:#4a5865; --wash:#1e2832;
  --paper:#151d25; --accent:#8cc8de; --accent-strong:#b4dcea; --on-accent:#0d1a22;
  --focus:#5fa8c4; --track:#2b3743; --middle:#6d7b88; --chosen:#24404d; --warning:#2f2617;
  --warning-edge:#6b5427; --real:#5db4ea; --fake:#f08a3c; --fake-ink:#f5a05e;
  --uncertain:#b4c0cb; --figure:#f4f6f8; color-scheme:dark;"""
# Voilà's page follows the visitor's system; in JupyterLab the page follows the theme of the Lab.
_JUPYTER = "".join(
    f"--jp-{name}:var(--{value});"
    for value, names in {
        "paper": ["layout-color0", "layout-color1", "widgets-input-background-color"],
        "wash": ["layout-color2", "cell-editor-background"],
        "line": ["layout-color3", "border-color1", "border-color2", "widgets-input-border-color"],
        "ink": [
            *(f"{kind}-font-color{level}" for kind in ("content", "ui") for level in (0, 1)),
            *(f"widgets-{name}" for name in ("color", "label-color", "readout-color")),
            *("widgets-input-color", "widgets-slider-handle-border-color"),
        ],
        "muted": [f"{kind}-font-color{level}" for kind in ("content", "ui") for level in (2, 3)],
    }.items()
    for name in names
)
_THEMES = f"""
.cifake, body[data-voila] {{ {LIGHT} {_JUPYTER} }}
body[data-jp-theme-light="false"]:not([data-voila]) .cifake {{ {DARK} }}
@media (prefers-color-scheme:dark) {{
  body[data-voila], body[data-voila] .cifake {{ {DARK} }}
}}
"""
_PAGE = """
.cifake { box-sizing:border-box; color:var(--ink); background:var(--paper); max-width:1240px;
  margin:0 auto; padding:0 4px 32px;
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
.cifake.widget-box, .cifake .widget-box { overflow:visible; }
.cifake .widget-html, .cifake .widget-html-content { width:auto; margin:0; height:auto;
  font:inherit; line-height:inherit; color:inherit; overflow:visible; min-width:0; }
.cifake .widget-html, .cifake .widget-tab-contents > * { max-width:100%; box-sizing:border-box; }
.cifake .widget-html-content { flex:1 1 auto; }
.cifake .widget-html-content p { margin:0 0 8px; line-height:1.5; }
.cifake h2 { font-size:16px; font-weight:600; margin:0 0 8px; line-height:1.35; }
.cifake code { font:13px ui-monospace,Menlo,Consolas,monospace; background:var(--wash);
  padding:1px 5px; border-radius:4px; color:inherit; }
.cf-lead { font-size:17px; text-wrap:balance; }
.cifake .widget-html-content p.cf-banner { border-left:3px solid var(--accent); padding:10px 14px;
  background:var(--wash); border-radius:0 6px 6px 0; margin:4px 0 14px; }
.cifake .widget-html-content p.cf-warning { border-color:var(--fake); background:var(--warning); }
.cf-note { color:var(--muted); font-size:13.5px; }
.cifake .widget-html-content p.cf-note { margin-bottom:18px; }

/* tabs */
.cifake .jupyter-widgets.widget-tab { overflow:visible; margin:0; }
.cifake .jupyter-widgets.widget-tab > .lm-TabBar { border-bottom:1px solid var(--line);
  font:inherit; min-height:0; }
.cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tab { flex:0 0 auto; border:0;
  border-bottom:3px solid transparent; background:none; color:var(--muted); font-weight:600;
  padding:4px 2px; margin:0 24px 0 0; min-height:0; line-height:1.7; transform:none; }
.cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tab.lm-mod-current {
  color:var(--accent); border-bottom-color:var(--accent); }
.cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tab:hover { color:var(--ink);
  background:none; }
.cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tab::before { display:none; }
.cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tabLabel { line-height:1.7; }
.cifake .jupyter-widgets.widget-tab > .widget-tab-contents { border:0; padding:22px 0 0;
  background:none; overflow:visible; color:var(--ink); }

@media (max-width:560px) {
  .cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-content { flex-wrap:wrap; }
  .cifake .jupyter-widgets.widget-tab > .lm-TabBar .lm-TabBar-tab { font-size:14px;
    margin:0 12px 0 0; }
}

/* two columns, one when narrow */
.cifake .cf-columns { display:grid; grid-template-columns:minmax(250px,300px) minmax(0,1fr);
  gap:36px; align-items:start; }
@media (max-width:760px) {
  .cifake .cf-columns { grid-template-columns:minmax(0,1fr); gap:8px; }
  /* The verdict before the controls that refine it. */
  .cifake .cf-columns > :first-child { display:contents; }
  .cifake .cf-threshold { order:2; } .cifake .cf-columns > :last-child { order:1; }
  /* What can be chosen is known once something was; the verdict moves up. */
  .cifake .cf-columns:has(.cf-card) .cf-limits { display:none; }
}

/* buttons */
.cifake .jupyter-button { border-radius:6px; font:inherit; box-shadow:none; cursor:pointer;
  transition:none; }
.cifake .jupyter-button:focus-visible { outline:3px solid var(--focus); outline-offset:2px; }
.cifake .cf-upload { width:100%; height:46px; margin:0 0 6px; background:var(--accent);
  color:var(--on-accent); font-size:0; font-weight:600; }
/* The widget writes "Choose images (0)"; the count is always 0 and says nothing. */
.cifake .cf-upload::before { content:"Choose images"; font-size:16px; }
.cifake .cf-upload:hover:enabled { background:var(--accent-strong); color:var(--on-accent);
  box-shadow:none; }
.cifake .cf-upload:disabled { opacity:.5; cursor:default; }
.cifake .cf-button { width:auto; align-self:flex-start; height:32px; padding:0 14px;
  background:var(--paper); color:var(--accent); border:1px solid var(--line); margin:0;
  line-height:1; }
.cifake .cf-button:hover:enabled { border-color:var(--accent); background:var(--paper);
  box-shadow:none; color:var(--accent); }
.cifake .cf-again { margin:0 0 14px; }
/* The arrow of the widget is black, in the dark too; the browser's own is not. */
.cifake .widget-dropdown select { appearance:auto; background:var(--paper); color:var(--ink);
  font:inherit; font-size:14px; height:32px; padding:0 6px; border:1px solid var(--edge);
  border-radius:6px; }
.cifake .widget-dropdown select:focus-visible { outline:3px solid var(--focus);
  outline-offset:2px; }
.cifake .cf-examples { display:grid; grid-template-columns:repeat(4,1fr); gap:8px;
  margin:0 0 18px; max-width:330px; }
.cifake .cf-example { width:auto; height:auto; aspect-ratio:1; min-width:0; margin:0; padding:0;
  background-size:cover; image-rendering:pixelated; border:1px solid var(--line); }
.cifake .cf-example:hover:enabled { outline:3px solid var(--accent); outline-offset:1px;
  box-shadow:none; }
.cifake .cf-example:disabled { opacity:.55; }
/* One row each on a telephone, so that the verdict is not pushed off the screen. */
@media (max-width:760px) {
  .cifake .cf-examples { display:flex; flex-flow:row nowrap; overflow-x:auto; padding:4px;
    margin:0 -4px 10px; max-width:none; }
  .cifake .cf-example { flex:0 0 52px; height:52px; }
}

/* state, messages */
.cf-status { display:flex; gap:10px; align-items:center; color:var(--muted); margin:0 0 12px; }
.cf-spinner { width:16px; height:16px; border:2px solid var(--line);
  border-top-color:var(--accent); border-radius:50%; animation:cf-turn 1s linear infinite; }
@keyframes cf-turn { to { transform:rotate(360deg); } }
@media (prefers-reduced-motion:reduce) { .cf-spinner { animation:none; } }
.cf-message { border:1px solid var(--warning-edge); background:var(--warning); border-radius:6px;
  padding:8px 12px; margin:0 0 8px; overflow-wrap:anywhere; }
/* Without their process the widgets would each show a broken chain, and nobody a word. */
.cifake .jupyter-widgets-disconnected::before { display:none; }
.cifake:is(.cf-lost, .jupyter-widgets-disconnected)::before { display:block; position:sticky; top:0;
  content:"The connection to the server is lost. If this stays, run the cells again; the pictures "
  "of this visit will be gone."; z-index:9; font:inherit; font-weight:600; color:var(--ink);
  background:var(--warning); border:1px solid var(--warning-edge); border-radius:6px;
  padding:10px 14px; margin:0 0 12px; align-self:stretch; }
body[data-voila] .cifake:is(.cf-lost, .jupyter-widgets-disconnected)::before {
  content:"The connection to the server is lost. If this stays, reload the page; the pictures of "
  "this visit will be gone."; }
.cf-empty { border:1px dashed var(--edge); border-radius:10px; padding:28px 24px;
  color:var(--muted); margin:0 0 12px; }
.cf-empty h2 { color:var(--ink); }
.cifake .cf-bar-row { display:flex; align-items:center; gap:14px; margin:0 0 12px;
  flex-flow:row wrap; }
.cf-summary { font-weight:600; }
.cifake .cf-progress { flex:1 1 160px; width:auto; height:8px; margin:0; }
.cifake .cf-progress .progress { background:var(--wash); border-radius:4px; }
.cifake .cf-progress .progress-bar { background:var(--accent); border-radius:4px; }

/* one examined image, and the sections below it */
.cifake .cf-opened { border:1px solid var(--line); border-radius:10px; padding:14px 18px 6px;
  margin:0 0 18px; }
.cf-card { display:flex; flex-wrap:wrap; gap:12px 24px; padding:0 0 14px; }
.cifake .cf-sections { margin:0; }
.cifake .cf-working { display:flex; flex-flow:row wrap; align-items:center; gap:6px 12px;
  margin:0 0 12px; }
.cf-card > header { flex:0 0 100%; min-width:0; display:flex; gap:12px;
  justify-content:space-between; color:var(--muted); font-size:13.5px; }
.cf-name { overflow:hidden; text-overflow:ellipsis; white-space:nowrap; }
.cf-pictures { display:flex; flex-wrap:wrap; gap:12px; align-content:flex-start;
  flex:0 1 auto; max-width:100%; }
.cf-answer { flex:1 1 290px; min-width:0; }
.cifake .cf-pictures figure { margin:0; }
.cifake .cf-pictures img { display:block; width:auto; height:auto; max-width:172px;
  max-height:128px; min-width:8px; border-radius:6px; background:var(--wash); margin:0; }
.cifake .cf-pictures img.cf-pixels { height:128px; object-fit:contain; image-rendering:pixelated; }
.cifake .cf-pictures figcaption { color:var(--muted); font-size:12px; margin-top:4px;
  max-width:128px; line-height:1.35; }
.cifake .cf-answer .cf-verdict { font-size:24px; line-height:1.2; margin:0 0 2px; }
.cf-REAL { color:var(--real); } .cf-FAKE { color:var(--fake-ink); }
.cf-confidence { font-size:16px; color:var(--ink); }
.cifake .cf-beside { border-top:1px solid var(--line); margin:14px 0 0; padding:8px 0 0; }
.cifake .cf-beside h3 { font-size:14px; font-weight:600; margin:0; }
.cifake .cf-beside p { color:var(--muted); font-size:13px; margin:2px 0 6px; }
.cifake .cf-answer .cf-together, .cifake .cf-answer .cf-truth { color:var(--muted);
  font-size:13.5px; margin:0 0 10px; }
.cifake .cf-answer .cf-truth { margin-top:-8px; }
.cf-scale, .cf-model { display:grid; grid-template-columns:98px minmax(40px,1fr) 122px; gap:12px;
  align-items:center; }
.cf-scale { font-size:11px; letter-spacing:.04em; color:var(--muted); }
.cf-scale span { grid-column:2; grid-row:1; }
.cf-scale span:last-child { justify-self:end; }
.cf-model { padding:4px 0; font-size:14px; }
.cf-bar { position:relative; height:10px; border-radius:5px; background:var(--track); }
.cf-bar::after { content:""; position:absolute; left:50%; top:-3px; bottom:-3px; width:1px;
  background:var(--middle); }
.cf-bar i { position:absolute; top:0; bottom:0; border-radius:5px; }
.cf-bar i.cf-REAL { background:var(--real); } .cf-bar i.cf-FAKE { background:var(--fake); }
.cf-model-answer { white-space:nowrap; }
@media (max-width:560px) {
  .cifake .cf-opened { padding:12px 14px 4px; }
  .cf-pictures { flex-basis:100%; }
  .cf-scale, .cf-model { grid-template-columns:88px minmax(40px,1fr) 118px; gap:8px; }
  .cf-model-name { font-size:13px; }
}

.cf-UNCERTAIN { color:var(--uncertain); }
.cf-notes { font-size:14px; margin:0 0 10px; }
.cifake .cf-notes p { margin:0 0 6px; }
.cf-answer > .cf-save { display:inline-block; margin-top:8px; }
.cifake a.cf-save { color:var(--accent); font-size:14px; font-weight:600; margin-right:12px; }
.cifake .cf-table.cf-facts :is(th, td) { white-space:normal; overflow-wrap:anywhere; }
.cifake .cf-table.cf-facts th { font-weight:400; width:34%; }
.cifake .cf-table.cf-facts th[scope=rowgroup] { color:var(--muted); font-size:13px; font-weight:600;
  padding-top:14px; }
.cifake .cf-facts pre { white-space:pre-wrap; margin:4px 0 0; max-height:16em; overflow:auto; }
.cifake .cf-facts caption { text-align:left; color:var(--muted); }
.cifake .cf-threshold { border-top:1px solid var(--line); padding-top:14px; }
.cifake .cf-threshold:empty { display:none; }
.cifake .cf-threshold .widget-inline-hbox { width:100%; margin:0 0 6px; }
.cifake .cf-threshold .widget-label { width:74px; color:inherit; font:inherit; }

/* models */
.cf-scroll { overflow-x:auto; margin:0 0 18px; }
.cifake table.cf-table { border-collapse:collapse; font-size:14px; margin:0; width:100%;
  font-variant-numeric:tabular-nums; border:0; }
.cifake .cf-table th, .cifake .cf-table td { padding:6px 10px; text-align:right; border:0;
  border-bottom:1px solid var(--line); white-space:nowrap; vertical-align:top; background:none; }
.cifake .cf-table thead th, .cifake .cf-table thead td { color:var(--muted); font-weight:600;
  font-size:13px; }
.cifake .cf-table th:first-child, .cifake .cf-left th, .cifake .cf-left td { text-align:left; }
.cifake .cf-table thead tr:not(:last-child) > * { border-bottom-color:transparent;
  padding-bottom:0; }
.cifake .cf-table thead th[scope=colgroup] { text-align:center; }
.cifake .cf-table th.cf-group-FAKE { --group:var(--fake); color:var(--fake-ink); }
.cifake .cf-table th.cf-group-REAL { --group:var(--real); color:var(--real); }
.cifake .cf-table th[scope=colgroup] { background:linear-gradient(var(--group),var(--group))
  right 10px bottom/calc(100% - 30px) 2px no-repeat; }
.cifake .cf-table th:first-child, .cifake .cf-table td:first-child { position:sticky; left:0;
  background:var(--paper); }
.cifake .cf-table tbody tr:hover > * { background:var(--wash); }
.cifake .cf-table small { display:block; color:var(--muted); font-size:11.5px; }
.cf-figures { display:flex; flex-wrap:wrap; gap:8px 20px; margin:0 0 20px;
  justify-content:space-between; }
.cifake .cf-figures img { background:var(--figure); border-radius:8px;
  flex:1 1 380px; min-width:0; max-width:600px; height:auto; margin:0; }
.cifake .cf-figures.cf-matrices { justify-content:center; }
.cifake .cf-matrices img { flex:1 1 220px; max-width:280px; }
@media (max-width:560px) {
  .cifake .cf-figures img { background:var(--figure); border-radius:8px;
  flex-basis:100%; }
  .cifake .cf-matrices img { max-width:240px; }
}

/* the page around it, when Voilà serves it */
body[data-voila] .lm-BoxPanel-child { padding:0 18px !important; }
body[data-voila] .jp-Cell, body[data-voila] .jp-MarkdownOutput { padding:0; }
body[data-voila] .jp-OutputArea-output, body[data-voila] .jp-OutputArea { overflow:visible; }
/* It cuts off what sticks out, also the rings around what has the keyboard. */
body[data-voila] .jp-OutputArea-child { overflow:clip; overflow-clip-margin:8px; }
body[data-voila] { background:var(--paper); }
body[data-voila] .cifake { padding:0 0 32px; margin:0 auto; }
body[data-voila] .jp-MarkdownCell { max-width:1240px; margin:0 auto; }
body[data-voila] .jp-MarkdownOutput { color:var(--ink);
  font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
body[data-voila] .jp-MarkdownOutput h1 { font-size:30px; font-weight:650; margin:26px 0 10px; }
"""


def style_sheet(*rules: str) -> str:
    """Return the `<style>` element of the page.

    Args:
        rules: Of the page's parts.
    """
    return f"<style>{_THEMES}{_PAGE}{''.join(rules)}</style>"
