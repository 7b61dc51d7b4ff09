  // --- survival curves ---
  const curves = (host, list) => {
    const { svg, width, height } = canvas(host, 300);
    const [left, right, top, bottom] = [46, width - 12, 12, height - 28];
    const last = Math.max(...list.flatMap((c) => c.points.map((p) => p[0])), 1) / UNIT;
    const end = deadline ? deadline * 1.04 : last * 1.04;
    const x = timeScale(0, end, left, right);
    const y = scale(0, 1, bottom, top);
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      el(svg, "line", { class: "gridline", x1: left, x2: right, y1: y(v), y2: y(v) });
      el(svg, "text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, `${v * 100} %`);
    }
    timeAxis(svg, x, top, bottom);
    const stop = deadline ?? last;
    for (const c of list) {
      if (!c.points.length) continue;
      const upto = c.points[c.points.length - 1][1] === 0 ? stop : Math.min(stop, (c.until ?? 0) / UNIT || stop);
      const path = (value) => {
        let d = "";
        c.points.forEach((p, i) => {
          const v = value(p);
          d += i ? `H${x(p[0] / UNIT).toFixed(1)}V${y(v).toFixed(1)}` : `M${x(0).toFixed(1)},${y(v).toFixed(1)}`;
        });
        return `${d}H${x(Math.max(upto, c.points[c.points.length - 1][0] / UNIT)).toFixed(1)}`;
      };
      const low = (p) => p[2] ?? p[1];
      const high = (p) => p[3] ?? p[1];
      const back = [];
      for (let i = c.points.length - 1; i >= 0; i--) {
        const to = i + 1 < c.points.length ? c.points[i + 1][0] / UNIT : Math.max(upto, c.points[i][0] / UNIT);
        back.push(`L${x(to).toFixed(1)},${y(low(c.points[i])).toFixed(1)}L${x(c.points[i][0] / UNIT).toFixed(1)},${y(low(c.points[i])).toFixed(1)}`);
      }
      el(svg, "path", { d: `${path(high)}${back.join("")}Z`, fill: `var(${c.band})`, stroke: "none", class: "band" });
      el(svg, "path", { d: path((p) => p[1]), class: "curve", stroke: `var(${c.colour})` });
    }
    if (deadline) {
      el(svg, "line", { class: "deadline", x1: x(deadline), x2: x(deadline), y1: top, y2: bottom });
      el(svg, "text", { x: x(deadline) - 6, y: top + 12, "text-anchor": "end" }, "deadline");
    }
    const hint = tip(host);
    svg.addEventListener("pointerleave", () => hint.hide());
    svg.addEventListener("pointermove", (e) => {
      const box = svg.getBoundingClientRect();
      const px = e.clientX - box.left;
      if (px < left || px > right) return hint.hide();
      const t = x.invert(px);
      const told = list.filter((c) => c.points.length).map((c) => {
        const p = c.points.filter((q) => q[0] / UNIT <= t).pop() ?? c.points[0];
        const band = p[2] == null ? "" : ` (${percent(p[2])} to ${percent(p[3])})`;
        return `${c.name}: ${percent(p[1])}${band} still to come`;
      });
      hint.show(px, e.clientY - box.top, `${seconds(t)} · ${told.join(" · ")}`);
    });
  };
  const drawCurve = () => {
    const host = $("curve");
    if (!host) return;
    const stop = deadline ? [["deadline", "--bad", "dash", "deadline"]] : [];
    if (data.compare) {
      legend($("curve-legend"), [["A", "--a", "line", "curve"], ["B", "--b", "line", "curve"], ["95 % band of A", "--band-a", "box", "band"], ["of B", "--band-b", "box", "band"], ...stop]);
      const key = $("curve-of").value;
      curves(host, data.compare[key].map((c, i) => ({ ...c, colour: ["--a", "--b"][i], band: ["--band-a", "--band-b"][i] })));
      return;
    }
    const [instant, name] = $("curve-of").value.split("\n");
    legend($("curve-legend"), [[`share of trials not ${instant} yet`, "--accent", "line", "curve"], ["95 % band", "--band", "box", "band"], ...stop]);
    curves(host, [{ name, ...data.curves[instant][name], colour: "--accent", band: "--band" }]);
  };
