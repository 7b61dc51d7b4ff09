  // --- outages ---
  // a row: [trial, cut before, carries, [[endpoint, from, until]…], late answers alike]
  const drawOutages = () => {
    const { endpoints = [], panels = [] } = data.outages ?? {};
    if (!panels.length) return;
    const rows = panels.flat();
    const cuts = rows.map((r) => r[1] ?? 0);
    const ends = rows.flatMap((r) => [r[2] ?? 0, ...r[3].map((w) => w[2] ?? w[1]), ...r[4].map((w) => w[2])]);
    const start = -Math.max(...cuts, 1) / UNIT;
    const open = rows.some((r) => r[3].some((w) => w[2] == null));
    const end = Math.max(...ends, open ? data.deadline ?? 0 : 0, -start * UNIT * 0.2) / UNIT * 1.03;
    const line = 4.5;
    const rowHeight = endpoints.length * line + 5;
    const most = Math.max(...panels.map((p) => p.length));
    document.querySelectorAll(".outages").forEach((host) => {
      const panel = panels[+host.dataset.panel] ?? [];
      const { svg, width, height } = canvas(host, most * rowHeight + 34);
      const [left, right, top, bottom] = [6, width - 8, 4, height - 26];
      const x = timeScale(start, end, left, right);
      el(svg, "rect", { x: left, y: top, width: x(0) - left, height: bottom - top, fill: "var(--grid)", class: "cut" });
      timeAxis(svg, x, bottom, bottom);
      el(svg, "line", { x1: x(0), x2: x(0), y1: top, y2: bottom, stroke: "var(--ink)", "stroke-width": 1, class: "heal" });
      const out = endpoints.map(() => "");
      const late = endpoints.map(() => "");
      let ticks = "";
      panel.forEach((row, i) => {
        // The last one lies at the bottom of every panel, so that panels of different sizes can be compared.
        const y = bottom - (panel.length - i) * rowHeight + 2;
        for (const [k, from, until] of row[3]) out[k] += `M${x(from / UNIT).toFixed(1)},${(y + (endpoints.length - k - 0.5) * line).toFixed(1)}H${x(until == null ? end : until / UNIT).toFixed(1)}`;
        for (const [k, from, until] of row[4]) late[k] += `M${x(from / UNIT).toFixed(1)},${(y + (endpoints.length - k - 0.5) * line).toFixed(1)}H${x(until / UNIT).toFixed(1)}`;
        if (row[2] != null && row[2] / UNIT <= end) ticks += `M${x(row[2] / UNIT).toFixed(1)},${y.toFixed(1)}v${(endpoints.length * line).toFixed(1)}`;
        const hit = el(svg, "rect", { x: 0, y: y - 2, width, height: rowHeight, fill: "transparent", style: "cursor:pointer", class: "trial" });
        el(hit, "title", {}, `trial ${row[0]}`);
        hit.addEventListener("click", () => { const t = trials.find((one) => one[0] === row[0]); if (t) choose(t, true); });
      });
      endpoints.forEach((_, k) => {
        if (late[k]) el(svg, "path", { d: late[k], stroke: `var(--e${k % 6})`, "stroke-width": 1, fill: "none", opacity: 0.8, class: "late", "pointer-events": "none" });
        if (out[k]) el(svg, "path", { d: out[k], stroke: `var(--e${k % 6})`, "stroke-width": line - 1.5, fill: "none", class: "out", "pointer-events": "none" });
      });
      if (ticks) el(svg, "path", { d: ticks, stroke: "var(--ink)", "stroke-width": 1.4, fill: "none", class: "carries", "pointer-events": "none" });
    });
    legend($("outages-legend"), [
      ...endpoints.map((name, k) => [`${name} out`, `--e${k % 6}`, "line", "out"]),
      ["thin: an answer that was waited for", "--soft", "thin-line", "late"],
      ["last link carries", "--ink", "tick", "carries"],
      ["cut", "--grid", "box", "cut"],
      ["heal", "--ink", "tick", "heal"],
    ]);
  };
