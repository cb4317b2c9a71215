"""A comparison of two networks as one small HTML file that opens offline and has no script."""

from __future__ import annotations

from toolkit.markup import escaped, heading_row, listed
from toolkit.profiling.comparing.networks import NetworkComparison

STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:74rem;margin:0 auto;"
    "padding:1.25rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%;font-size:.9rem}"
    "th,td{text-align:left;vertical-align:baseline;padding:.3rem .7rem .3rem 0;"
    "border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}h1{font-size:1.5rem}"
)


def network_page(found: NetworkComparison) -> str:
    """Return the whole page: what differs, one line each."""
    table, title = found.table(), escaped(f"{found.before} → {found.after}")
    rows = "".join(
        f"<tr><td>{escaped(change)}</td><th scope='row'>{escaped(module)}</th>"
        f"<td>{escaped(before)}</td><td>{escaped(after)}</td></tr>"
        for change, module, before, after in table.rows
    )
    drawn = f"<table>{heading_row(table.head)}<tbody>{rows}</tbody></table>" if rows else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>{escaped(found.summary())}.</p>{listed(found.notes)}{drawn}</main></body></html>"
    )
