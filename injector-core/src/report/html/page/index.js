  // --- several runs ---
  // The dots of a run are spread over its row in the order of its trials, so that they do not hide each other.
  const drawIndex = () => {
    const host = $("runs");
    if (!host) return;
    const runs = data.index;
    const rowHeight = 34;
    const { svg, width } = canvas(host, runs.length * rowHeight + 34);
    const left = Math.min(220, width * 0.3);
    const [right, bottom] = [width - 60, runs.length * rowHeight + 4];
    const most = runs.reduce((a, run) => Math.max(a, run.deadline ?? 0, ...run.settled.slice(-1)), 1) / UNIT;
    const x = timeScale(0, most * 1.03, left, right);
    timeAxis(svg, x, 0, bottom);
    el(svg, "text", { x: width, y: bottom + 17, "text-anchor": "end" }, "not settled");
    runs.forEach((run, at) => {
      const [top, mid] = [at * rowHeight, at * rowHeight + rowHeight / 2];
      if (at) el(svg, "line", { class: "gridline", x1: 0, x2: width, y1: top, y2: top });
      const fits = Math.floor(left / 7.2);
      const name = run.name.length > fits ? `${run.name.slice(0, fits - 1)}…` : run.name;
      const link = el(svg, "a", { href: run.href });
      el(el(link, "text", { x: 0, y: mid + 4, class: "strong" }, name), "title", {}, run.name);
      const spread = (i) => mid - 9 + (i * 7.3) % 18;
      const dots = run.settled.map((t, i) => `M${x(t / UNIT).toFixed(1)},${spread(i).toFixed(1)}h0`).join("");
      if (dots) el(svg, "path", { d: dots, class: "mark", stroke: "var(--good)", "stroke-width": run.settled.length > 300 ? 3 : 5, opacity: 0.6, "data-mark": "settled" });
      if (run.median != null) el(svg, "line", { class: "median", x1: x(run.median / UNIT), x2: x(run.median / UNIT), y1: top + 4, y2: top + rowHeight - 4, stroke: "var(--ink)", "stroke-width": 2 });
      if (run.deadline != null) el(svg, "line", { class: "deadline", x1: x(run.deadline / UNIT), x2: x(run.deadline / UNIT), y1: top + 2, y2: top + rowHeight - 2 });
      if (run.never) el(svg, "text", { x: width, y: mid + 4, "text-anchor": "end", class: "bad" }, `${run.never}`);
    });
    legend($("runs-legend"), [
      ["a trial, when it had settled", "--good", "dot", "settled"],
      ["median", "--ink", "tick", "median"],
      ["deadline", "--bad", "dash", "deadline"],
    ]);
  };
