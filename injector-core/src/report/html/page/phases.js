  // --- phases ---
  const drawPhases = () => {
    const host = $("phases");
    if (!host) return;
    const slow = trials.filter((t) => t[2] <= 1 && (t[3] == null || t.slice(7).some((v) => v != null))).sort((a, b) => rank(b) - rank(a)).slice(0, 30);
    const median = data.phaseMedians;
    const rows = [{ name: "median", parts: median }, ...slow.map((t) => ({ name: `trial ${t[0]}`, parts: t.slice(7), t }))];
    const rowHeight = 19;
    const { svg, width } = canvas(host, rows.length * rowHeight + 34);
    const [left, right] = [78, width - 52];
    const sum = (r) => r.parts.reduce((a, b) => a + (b ?? 0), 0);
    // What never settled was still waiting at the deadline: its bar continues until there.
    const isOpen = (r) => r.t && r.t[2] === 1 && r.t[3] == null;
    const total = (r) => Math.max(sum(r), isOpen(r) ? (deadline ?? 0) * UNIT : 0);
    const x = timeScale(0, Math.max(...rows.map(total), 1) / UNIT, left, right);
    timeAxis(svg, x, 0, rows.length * rowHeight + 6);
    $("phases-note").textContent = logTime() ? "On this logarithmic axis the ends of a bar are times since the heal, and its length is no duration; a pointer on it names that." : "";
    rows.forEach((row, i) => {
      const y = i * rowHeight + (i ? 6 : 0);
      el(svg, "text", { x: left - 8, y: y + 13, "text-anchor": "end", class: i ? "" : "strong" }, row.name);
      let from = 0;
      row.parts.forEach((length, k) => {
        if (length == null) return;
        const bar = el(svg, "rect", { x: x(from / UNIT), y: y + 2, width: Math.max(0.5, x((from + length) / UNIT) - x(from / UNIT) - 1), height: rowHeight - 5, rx: 2, fill: `var(--p${k})`, class: "phase", "data-mark": PHASES[k] });
        el(bar, "title", {}, `${row.name}, ${PHASES[k]}: ${seconds(length / UNIT)}`);
        from += length;
      });
      const until = total(row);
      if (until > from) {
        const bar = el(svg, "rect", { x: x(from / UNIT), y: y + 2, width: x(until / UNIT) - x(from / UNIT), height: rowHeight - 5, rx: 2, fill: "none", stroke: "var(--bad)", "stroke-dasharray": "3 3", class: "unsettled" });
        el(bar, "title", {}, `${row.name}: not settled by the deadline`);
      }
      el(svg, "text", { x: x(until / UNIT) + 5, y: y + 13 }, isOpen(row) ? `> ${seconds(until / UNIT)}` : seconds(until / UNIT));
      if (row.t) {
        const hit = el(svg, "rect", { x: 0, y, width, height: rowHeight, fill: "transparent", style: "cursor:pointer", class: "hit" });
        hit.addEventListener("click", () => choose(row.t, true));
        svg.insertBefore(hit, svg.firstChild);
      }
    });
  };
  const phasesLegend = () => legend($("phases-legend"), [
    ...PHASES.map((name, i) => [name, `--p${i}`, "box", name]),
    ["not settled by the deadline", "--bad", "dashed-box", "unsettled"],
  ]);
