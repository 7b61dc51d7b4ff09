  // --- one trial ---
  // The part that is looked at; null is all of it.
  let view = null;
  let shown = [0, 1];
  const look = (part) => { view = part; drawTimeline(); };
  // Half of what is shown, around the heal where that is in sight.
  const closer = () => {
    const around = shown[0] <= 0 && shown[1] >= 0 ? 0 : (shown[0] + shown[1]) / 2;
    const part = shown.map((v) => around + (v - around) / 2);
    if (part[1] - part[0] > CLOSEST) look(part);
  };
  const drawTimeline = () => {
    const host = $("timeline");
    if (!host || !chosen) return;
    const detail = data.details[chosen[0]];
    const probes = data.probes[chosen[0]];
    const caption = $("timeline-caption");
    caption.textContent = `${describe(chosen)}. ${[detail?.reason, detail?.waited].filter((said) => said).join(". ")}`;
    const narrow = width0(host) < 560;
    const left = narrow ? 92 : 150;
    const rows = [];
    for (const l of detail?.links ?? []) rows.push({ link: l, name: `${data.peers[l[0]]} → ${data.peers[l[1]]}` });
    (detail?.endpoints ?? []).forEach((e) => rows.push({ endpoint: e, name: data.endpoints[e[0]][0], role: data.endpoints[e[0]][1] }));
    const rowHeight = 24;
    const height = 64 + rows.length * rowHeight + 30;
    const { svg, width } = canvas(host, height);
    const cut = detail?.cut == null ? null : -detail.cut / UNIT;
    const seen = [chosen[3], detail?.observed, ...(detail?.endpoints ?? []).flatMap((e) => [e[1], e[2], e[3]])].filter((v) => v != null).map((v) => v / UNIT);
    // What comes after settled is more of the same: show a little of it, not the whole observation.
    const settled = chosen[3] == null ? null : chosen[3] / UNIT;
    const watched = Math.max(...seen, 0.5);
    const all = settled == null ? Math.max(watched, deadline ?? 0) : Math.min(Math.max(watched, settled), Math.max(settled * 1.25, settled + 1));
    const whole = [cut == null ? -0.5 : Math.max(cut, -0.35 * all) - 0.03 * all, all];
    const [start, end] = shown = view ?? whole;
    const [right, top, bottom] = [width - 14, 46, height - 28];
    const x = timeScale(start, end, left, right);
    const within = (v) => x(Math.min(end, Math.max(start, v)));
    timeAxis(svg, x, top, bottom);
    const clip = (s) => s >= start && s <= end;
    if (cut != null && start < 0) {
      const [from, to] = [within(cut), within(0)];
      const bar = el(svg, "rect", { x: from, y: top, width: to - from, height: bottom - top, fill: "var(--bad)", opacity: 0.1, class: "cut" });
      el(bar, "title", {}, `cut for ${seconds(-cut)}`);
      const label = `${cut < start ? "◂ " : ""}cut for ${seconds(-cut)}`;
      el(svg, "text", { x: to - 5, y: top - 8, "text-anchor": "end" }, to - from > label.length * 7 ? label : "cut");
    }
    if (clip(0)) {
      el(svg, "line", { x1: x(0), x2: x(0), y1: top - 4, y2: bottom, stroke: "var(--ink)", "stroke-width": 1.5, class: "heal" });
      el(svg, "text", { x: x(0) + 4, y: top - 8, class: "strong" }, "heal");
    }
    if (deadline && clip(deadline)) el(svg, "line", { class: "deadline", x1: x(deadline), x2: x(deadline), y1: top, y2: bottom });
    // phases, as one bar from the heal on
    let from = 0;
    PHASES.forEach((name, i) => {
      const length = chosen[7 + i];
      if (length == null) return;
      const [begin, finish] = [from / UNIT, (from + length) / UNIT];
      from += length;
      if (finish < start || begin > end) return;
      const bar = el(svg, "rect", { x: within(begin), y: 12, width: Math.max(0.5, within(finish) - within(begin)), height: 12, fill: `var(--p${i})`, class: "phase", "data-mark": name });
      el(bar, "title", {}, `${name}: ${seconds(length / UNIT)}`);
    });
    el(svg, "text", { x: left - 8, y: 22, "text-anchor": "end" }, "phases");
    rows.forEach((row, i) => {
      const mid = top + i * rowHeight + rowHeight / 2 + 4;
      el(svg, "line", { class: "gridline", x1: left, x2: right, y1: mid + rowHeight / 2, y2: mid + rowHeight / 2 });
      const most = narrow ? 13 : 21;
      const label = row.name.length > most ? `${row.name.slice(0, most - 1)}…` : row.name;
      el(el(svg, "text", { x: left - 8, y: mid + 4, "text-anchor": "end", class: row.role === "advisory" ? "" : "strong" }, label), "title", {}, row.name);
      if (row.link) {
        ["first packet", "first SYN", "first SYN-ACK", "first payload"].forEach((what, k) => {
          const at = row.link[3 + k];
          if (at == null || !clip(at / UNIT)) return;
          const mark = el(svg, "circle", { cx: x(at / UNIT), cy: mid, r: k ? 3.5 : 5, fill: k ? "var(--card)" : "var(--p0)", stroke: `var(--p${k})`, "stroke-width": 2, class: "first", "data-mark": what });
          el(mark, "title", {}, `${row.name} ${what}: ${seconds(at / UNIT)} after the heal, ${row.link[2] === null ? "an unknown number of" : row.link[2]} packets were dropped`);
        });
        return;
      }
      const ticks = probes?.[row.endpoint[0]];
      if (ticks) {
        let good = "";
        let badPath = "";
        const bad = [];
        for (const [begin, step, runs] of ticks) {
          let n = 0;
          for (let r = 0; r < runs.length; r += 2) {
            for (let k = 0; k < runs[r]; k++, n++) {
              const at = (begin + n * step) / UNIT;
              if (!clip(at)) continue;
              const d = `M${x(at).toFixed(1)},${mid - 6}v12`;
              if (runs[r + 1] < 0) good += d; else { badPath += d; bad.push([x(at), runs[r + 1]]); }
            }
          }
        }
        const thin = 1.1;
        el(svg, "path", { d: good, stroke: "var(--good)", "stroke-width": thin, opacity: 0.75, class: "probe-ok" });
        el(svg, "path", { d: badPath, stroke: "var(--bad)", "stroke-width": thin + 0.5, class: "probe-failed" });
        row.bad = bad;
        row.mid = mid;
      } else {
        const [, , ready, done] = row.endpoint;
        const until = ready ?? done;
        const stop = until == null ? end : until / UNIT;
        el(svg, "line", { x1: within(0), x2: within(stop), y1: mid, y2: mid, stroke: "var(--bad)", "stroke-width": 3, opacity: 0.5, class: "until-ready" });
        if (until != null) el(svg, "line", { x1: within(stop), x2: right, y1: mid, y2: mid, stroke: "var(--good)", "stroke-width": 3, opacity: 0.5, class: "from-ready" });
      }
      for (const [k, what] of [[2, "ready"], [3, "settled"]]) {
        const at = row.endpoint[k];
        if (at == null || !clip(at / UNIT)) continue;
        const cx = x(at / UNIT);
        const shape = k === 2 ? `M${cx - 5},${mid + 5}L${cx},${mid - 5}L${cx + 5},${mid + 5}Z` : `M${cx - 6},${mid}L${cx},${mid - 6}L${cx + 6},${mid}L${cx},${mid + 6}Z`;
        const mark = el(svg, "path", { d: shape, fill: k === 2 ? "var(--card)" : "var(--ink)", stroke: "var(--ink)", "stroke-width": 1.4, class: what });
        el(mark, "title", {}, `${row.name} ${what}: ${seconds(at / UNIT)} after the heal, ${row.endpoint[4]} relapses`);
      }
    });
    const hint = tip(host);
    let drag = null;
    svg.addEventListener("pointerdown", (e) => {
      const px = e.clientX - svg.getBoundingClientRect().left;
      if (e.button || px < left || px > right) return;
      drag = { from: px, to: px, box: el(svg, "rect", { x: px, y: top, width: 0, height: bottom - top, fill: "var(--accent)", opacity: 0.2 }) };
    });
    svg.addEventListener("pointerup", () => {
      if (!drag) return;
      const part = [drag.from, drag.to].sort((a, b) => a - b).map(x.invert);
      const isDrag = Math.abs(drag.to - drag.from) > 6;
      drag.box.remove();
      drag = null;
      if (isDrag && part[1] - part[0] > CLOSEST) look(part);
    });
    svg.addEventListener("dblclick", () => look(null));
    svg.addEventListener("pointerleave", () => { hint.hide(); drag?.box.remove(); drag = null; });
    svg.addEventListener("pointermove", (e) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [e.clientX - box.left, e.clientY - box.top];
      if (drag) {
        drag.to = Math.min(right, Math.max(left, px));
        drag.box.setAttribute("x", Math.min(drag.from, drag.to));
        drag.box.setAttribute("width", Math.abs(drag.to - drag.from));
        return;
      }
      const row = rows.find((r) => r.bad && Math.abs(r.mid - py) < 9);
      const hit = row?.bad.reduce((best, b) => (Math.abs(b[0] - px) < Math.abs((best?.[0] ?? 1e9) - px) ? b : best), null);
      hit && Math.abs(hit[0] - px) < 5 ? hint.show(px, py, `${row.name}: ${data.failures[hit[1]]}`) : hint.hide();
    });
    const missing = [];
    if (!detail) missing.push("This trial's links and endpoints were left out to keep the file small; trials.jsonl has them.");
    else if (!probes) missing.push("Its probes are not in this file: the line shows failing until ready, then working.");
    if (detail?.more) missing.push(`${detail.more} more links are not shown.`);
    $("timeline-note").textContent = missing.join(" ");
    $("timeline-stuck").textContent = detail?.stuck.length ? `TCP sockets that were stuck just before the deadline: ${detail.stuck.join("; ")}.` : "";
    drawRaw(detail);
  };
  // Where the whole record is.
  const drawRaw = (detail) => {
    const host = $("timeline-raw");
    host.replaceChildren();
    if (!detail?.line || !data.records) return;
    const link = document.createElement("a");
    link.href = data.records.href;
    link.textContent = data.records.name;
    const command = document.createElement("code");
    command.textContent = `sed -n ${detail.line}p ${data.records.name}`;
    host.append("The whole record: ", link, `, line ${detail.line} (`, command, ").");
  };
  const timelineLegend = () => legend($("timeline-legend"), [
    ["answered", "--good", "thin", "probe-ok"],
    ["failed", "--bad", "thin", "probe-failed"],
    ["failing until ready", "--bad", "line", "until-ready"],
    ["working from ready on", "--good", "line", "from-ready"],
    ["first packet", "--p0", "dot", "first packet"],
    ["first SYN", "--p1", "ring", "first SYN"],
    ["first SYN-ACK", "--p2", "ring", "first SYN-ACK"],
    ["first payload", "--p3", "ring", "first payload"],
    ["ready", "--ink", "triangle", "ready"],
    ["settled", "--ink", "diamond", "settled"],
    ["cut", "--bad", "shade", "cut"],
    ["heal", "--ink", "tick", "heal"],
    ...(deadline ? [["deadline", "--bad", "dash", "deadline"]] : []),
    ...PHASES.map((name, i) => [name, `--p${i}`, "box", name]),
  ]);
  const width0 = (host) => host.getBoundingClientRect().width;
  const choose = (t, scroll) => {
    chosen = t;
    view = null;
    const pick = $("pick");
    if (pick) pick.value = [...pick.options].some((o) => o.value === String(t[0])) ? String(t[0]) : "";
    drawTimeline();
    drawStrip();
    history.replaceState(null, "", `#trial-${t[0]}`);
    if (scroll) $("timeline-section").scrollIntoView({ behavior: "smooth", block: "start" });
  };
