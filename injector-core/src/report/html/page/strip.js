  // --- every trial ---
  // a trial: [index, attempt, outcome, settled, ready, shape, starved, phases × 4]
  const rank = (t) => (t[2] > 1 ? -1 : t[2] === 1 && t[3] == null ? Infinity : t[3] ?? -1);
  let chosen = null;
  // Narrower lanes than this say nothing.
  const LANE = 84;
  // The trials by what was chosen to distinguish them, most trials first; one lane without a choice.
  const lanes = (width) => {
    const grouping = (data.groupings ?? [])[$("strip-by")?.value];
    if (!grouping) return { shown: [{ name: "", of: trials }], more: 0 };
    const all = grouping.names.map((name, at) => ({ name, of: trials.filter((_, i) => grouping.of[i] === at) }));
    const rest = trials.filter((_, i) => grouping.of[i] < 0);
    if (rest.length) all.push({ name: "none of these", of: rest });
    const most = Math.max(1, Math.floor(width / LANE));
    return { shown: all.slice(0, most), more: Math.max(0, all.length - most) };
  };
  const drawStrip = () => {
    const host = $("strip");
    if (!host) return;
    const { svg, width, height } = canvas(host, 320);
    const [left, right, top, bottom] = [56, width - 6, 56, height - 50];
    const { shown, more } = lanes(right - left);
    const isOne = shown.length === 1 && !shown[0].name;
    const known = trials.map((t) => (t[3] ?? 0) / UNIT);
    const end = known.reduce((a, b) => Math.max(a, b), deadline ?? 1) * 1.03;
    const y = timeScale(0, end, bottom, top);
    for (const v of y.ticks(20)) {
      el(svg, "line", { class: "gridline", x1: left, x2: right, y1: y(v), y2: y(v) });
      el(svg, "text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, tickLabel(v));
    }
    if (deadline) el(svg, "line", { class: "deadline", x1: left, x2: right, y1: y(deadline), y2: y(deadline) });
    el(svg, "text", { x: left + 4, y: 28 }, "never settled while watched");
    el(svg, "text", { x: left + 4, y: height - 20 }, "undecided, or not made");
    el(svg, "text", { x: right - 4, y: height - 4, "text-anchor": "end" }, isOne ? "trials in order →" : "trials in order within each lane →");
    const size = trials.length > 3000 ? 2.5 : trials.length > 600 ? 4 : isOne ? 7 : 5;
    const notMade = data.notMade ?? [];
    const of = (t) => (t[2] > 1 ? bottom + 14 : t[3] == null ? top - 14 : y(t[3] / UNIT));
    const spots = [];
    const lane = (right - left) / shown.length;
    // The same number of trials has bars of the same length in every lane.
    const bins = 28;
    const binned = shown.map((group) => {
      const counts = new Array(bins).fill(0);
      for (const t of group.of) {
        if (t[2] > 1 || t[3] == null) continue;
        counts[Math.max(0, Math.min(bins - 1, Math.floor((bottom - y(t[3] / UNIT)) / (bottom - top) * bins)))]++;
      }
      return counts;
    });
    const most = Math.max(...binned.flat(), 1);
    shown.forEach((group, at) => {
      const from = left + at * lane;
      const side = Math.min(110, lane * 0.38);
      const until = from + lane - side - 18;
      if (at) el(svg, "line", { class: "gridline", x1: from, x2: from, y1: 14, y2: height - 16 });
      if (group.name) {
        const fits = Math.max(4, Math.floor(lane / 7));
        const name = `${group.name} (${group.of.length})`;
        el(el(svg, "text", { x: from + 6, y: 12, class: "strong" }, name.length > fits ? `${name.slice(0, fits - 1)}…` : name), "title", {}, name);
      }
      // One lane has a place for every index, so that trials that were not made are gaps.
      const order = isOne ? group.of.map((t) => t[0]) : group.of.map((_, i) => i);
      const indexes = isOne ? [...order, ...notMade.map((n) => n[0])] : order;
      const first = indexes.reduce((a, b) => Math.min(a, b), Infinity);
      const final = indexes.reduce((a, b) => Math.max(a, b), -Infinity);
      const x = scale(first, Math.max(final, first + 1), from + 10, until);
      const paths = ["", "", "", "", ""];
      let starved = "";
      group.of.forEach((t, i) => {
        const spot = [x(order[i]), of(t), t];
        spots.push(spot);
        const d = `M${spot[0].toFixed(1)},${spot[1].toFixed(1)}h0`;
        paths[t[2]] += d;
        if (t[6]) starved += d;
      });
      if (starved) el(svg, "path", { d: starved, class: "mark starved", stroke: "var(--p3)", "stroke-width": size + 4, "data-mark": "starved" });
      paths.forEach((d, i) => d && el(svg, "path", { d, class: "mark", stroke: `var(${COLOURS[i]})`, "stroke-width": size, "data-outcome": OUTCOMES[i], "data-mark": OUTCOMES[i] }));
      if (isOne) for (const [index, reason] of notMade) {
        const [cx, cy] = [x(index), bottom + 14];
        const cross = el(svg, "path", { d: `M${cx - 4},${cy - 4}l8,8m0,-8l-8,8`, class: "not-made", stroke: "var(--broken)", "stroke-width": 1.6, fill: "none" });
        el(cross, "title", {}, `trial ${index} was not made: ${reason}`);
      }
      binned[at].forEach((n, i) => {
        if (!n) return;
        const h = (bottom - top) / bins;
        const bar = el(svg, "rect", { x: until + 12, y: bottom - (i + 1) * h + 0.5, width: Math.max(1.5, n / most * side), height: h - 1, rx: 1.5, fill: "var(--accent)", opacity: 0.75, class: "bin" });
        el(bar, "title", {}, `${n} ${n === 1 ? "trial" : "trials"}`);
      });
    });
    const ring = spots.find((spot) => spot[2] === chosen);
    if (ring) el(svg, "circle", { cx: ring[0], cy: ring[1], r: 8, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, class: "chosen" });
    $("strip-note").textContent = more ? `${more} more lanes, with fewer trials, have no room here.` : "";
    const hint = tip(host);
    const nearest = (e) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [e.clientX - box.left, e.clientY - box.top];
      let best = null;
      let least = 26 ** 2;
      for (const spot of spots) {
        const d = (spot[0] - px) ** 2 + (spot[1] - py) ** 2;
        if (d < least) [best, least] = [spot, d];
      }
      return best;
    };
    svg.style.cursor = "pointer";
    svg.addEventListener("pointerleave", () => hint.hide());
    svg.addEventListener("pointermove", (e) => {
      const spot = nearest(e);
      spot ? hint.show(spot[0], spot[1], describe(spot[2])) : hint.hide();
    });
    svg.addEventListener("click", (e) => { const spot = nearest(e); if (spot) choose(spot[2], true); });
  };
  const describe = (t) => {
    const when = t[3] == null ? "" : `, settled ${seconds(t[3] / UNIT)}`;
    return `trial ${t[0]}: ${OUTCOMES[t[2]]}${when}, ${data.shapes[t[5]]}${t[6] ? ", starved" : ""}`;
  };
  const stripLegend = () => legend($("strip-legend"), [
    ["recovered", "--good", "dot", "recovered"],
    ["not recovered", "--bad", "dot", "not recovered"],
    ["censored", "--open", "dot", "censored"],
    ["unknown", "--open", "dot", "unknown"],
    ["harness failed", "--broken", "dot", "harness failed"],
    ["the host starved the instrument", "--p3", "ring", "starved"],
    ...(data.notMade?.length ? [["not made", "--broken", "cross", "not-made"]] : []),
    ["how many trials", "--accent", "box", "bin"],
    ...(deadline ? [["deadline", "--bad", "dash", "deadline"]] : []),
    ["the trial below", "--ink", "ring", "chosen"],
  ]);
