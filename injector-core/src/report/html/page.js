"use strict";
(() => {
  const errors = [];
  window.addEventListener("error", (e) => {
    errors.push(e.message);
    document.documentElement.dataset.errors = errors.join(" | ");
  });
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";
  const OUTCOMES = ["recovered", "not recovered", "censored", "unknown", "harness failed"];
  const COLOURS = ["--good", "--bad", "--open", "--open", "--broken"];
  const PHASES = ["silence", "reconnect", "return", "relapse"];
  const UNIT = 1e4; // times are tenths of a millisecond
  const CLOSEST = 1e-3; // seconds that a timeline shows at least

  // --- drawing ---
  const el = (parent, name, attributes = {}, text) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  };
  const canvas = (host, height) => {
    host.querySelector("svg")?.remove();
    const width = Math.max(280, Math.round(host.getBoundingClientRect().width));
    const svg = el(host, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": host.dataset.label });
    host.dataset.drawn = "1";
    return { svg, width, height };
  };
  const tip = (host) => {
    let node = host.querySelector(".tip");
    if (!node) {
      node = document.createElement("div");
      node.className = "tip";
      host.appendChild(node);
    }
    return {
      show(x, y, text) {
        node.textContent = text;
        node.style.display = "block";
        node.style.left = `${Math.max(0, Math.min(x + 10, host.clientWidth - node.offsetWidth - 4))}px`;
        node.style.top = `${Math.max(0, y - 34)}px`;
      },
      hide() { node.style.display = "none"; },
    };
  };
  const seconds = (s) => {
    const a = Math.abs(s);
    if (a === 0) return "0";
    if (a < 0.001) return `${(s * 1e6).toFixed(0)} µs`;
    if (a < 1) return `${(s * 1e3).toFixed(0)} ms`;
    return `${s.toFixed(a < 10 ? 2 : a < 100 ? 1 : 0)} s`;
  };
  const tickLabel = (s) => (s === 0 ? "0" : Math.abs(s) < 1 ? `${+(s * 1e3).toPrecision(3)} ms` : `${+s.toPrecision(4)} s`);
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  const steps = (low, high, count) => {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(+v.toPrecision(12));
    return out;
  };
  const scale = (low, high, from, to, log) => {
    const floor = log ? Math.log10(low) : low;
    const ceil = log ? Math.log10(high) : high;
    const at = (v) => from + ((log ? Math.log10(Math.max(v, low)) : v) - floor) / (ceil - floor || 1) * (to - from);
    const decades = [];
    if (log) for (let e = Math.floor(floor); e <= ceil; e++) for (const m of [1, 3]) {
      const v = m * 10 ** e;
      if (v >= low && v <= high * 1.0001) decades.push(v);
    }
    at.ticks = (count) => (log ? decades : steps(low, high, count));
    return at;
  };
  const timeAxis = (svg, x, y0, y1, width) => {
    const ticks = x.ticks(width < 500 ? 4 : 8);
    for (const v of ticks) {
      el(svg, "line", { class: "gridline", x1: x(v), x2: x(v), y1: y0, y2: y1 });
      el(svg, "text", { x: x(v), y: y1 + 17, "text-anchor": "middle" }, tickLabel(v));
    }
    el(svg, "line", { class: "axis", x1: x.from, x2: x.to, y1, y2: y1 });
  };
  const legend = (host, items) => {
    host.replaceChildren();
    for (const [text, colour] of items) {
      const item = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = `var(${colour})`;
      item.append(swatch, text);
      host.append(item);
    }
  };

  // --- survival curves ---
  const LOW = 0.005;
  const curves = (host, list, deadline, log) => {
    const { svg, width, height } = canvas(host, 300);
    const [left, right, top, bottom] = [46, width - 12, 12, height - 28];
    const last = Math.max(...list.flatMap((c) => c.points.map((p) => p[0])), 1) / UNIT;
    const end = deadline ? deadline * 1.04 : last * 1.04;
    const x = scale(log ? LOW : 0, end, left, right, log);
    Object.assign(x, { from: left, to: right });
    const y = scale(0, 1, bottom, top);
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      el(svg, "line", { class: "gridline", x1: left, x2: right, y1: y(v), y2: y(v) });
      el(svg, "text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, `${v * 100} %`);
    }
    timeAxis(svg, x, top, bottom, width);
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
      el(svg, "path", { d: `${path(high)}${back.join("")}Z`, fill: `var(${c.band})`, stroke: "none" });
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
      const share = (e.clientX - box.left - left) / (right - left);
      if (share < 0 || share > 1) return hint.hide();
      const t = log ? LOW * (end / LOW) ** share : share * end;
      const told = list.filter((c) => c.points.length).map((c) => {
        const p = c.points.filter((q) => q[0] / UNIT <= t).pop();
        const band = p[2] == null ? "" : ` (${percent(p[2])} to ${percent(p[3])})`;
        return `${c.name}: ${percent(p[1])}${band} still to come`;
      });
      hint.show(e.clientX - box.left, e.clientY - box.top, `${seconds(t)} · ${told.join(" · ")}`);
    });
  };

  const deadline = data.deadline == null ? null : data.deadline / UNIT;
  const logTime = () => $("log")?.checked ?? false;
  const drawCurve = () => {
    const host = $("curve");
    if (!host) return;
    if (data.compare) {
      legend($("curve-legend"), [["A", "--a"], ["B", "--b"]]);
      const key = $("curve-of").value;
      curves(host, data.compare[key].map((c, i) => ({ ...c, colour: ["--a", "--b"][i], band: ["--band-a", "--band-b"][i] })), deadline, logTime());
      return;
    }
    const [instant, name] = $("curve-of").value.split("\n");
    const c = data.curves[instant][name];
    curves(host, [{ name, ...c, colour: "--accent", band: "--band" }], deadline, logTime());
  };

  // --- every trial ---
  // a trial: [index, attempt, outcome, settled, ready, shape, starved, phases × 5]
  const trials = data.trials ?? [];
  const rank = (t) => (t[2] > 1 ? -1 : t[2] === 1 && t[3] == null ? Infinity : t[3] ?? -1);
  let chosen = null;
  const drawStrip = () => {
    const host = $("strip");
    if (!host) return;
    const { svg, width, height } = canvas(host, 300);
    const side = width < 500 ? 46 : 110;
    const [left, right, top, bottom] = [46, width - side - 18, 40, height - 46];
    const log = logTime();
    const known = trials.map((t) => (t[3] ?? 0) / UNIT);
    const end = known.reduce((a, b) => Math.max(a, b), deadline ?? 1) * 1.03;
    const y = scale(log ? LOW : 0, end, bottom, top, log);
    const first = trials.length ? trials[0][0] : 0;
    const final = trials.length ? trials[trials.length - 1][0] : 1;
    const x = scale(first, Math.max(final, first + 1), left + 6, right - 4);
    for (const v of y.ticks(6)) {
      el(svg, "line", { class: "gridline", x1: left, x2: width - 4, y1: y(v), y2: y(v) });
      el(svg, "text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, tickLabel(v));
    }
    if (deadline) {
      el(svg, "line", { class: "deadline", x1: left, x2: width - 4, y1: y(deadline), y2: y(deadline) });
    }
    el(svg, "text", { x: left + 4, y: 12 }, "never settled while watched");
    el(svg, "text", { x: left + 4, y: height - 4 }, "undecided");
    el(svg, "text", { x: right - 4, y: height - 4, "text-anchor": "end" }, "trials in order →");
    const size = trials.length > 3000 ? 2.5 : trials.length > 600 ? 4 : 7;
    const at = (t) => (t[2] > 1 ? bottom + 16 : t[3] == null ? top - 16 : y(t[3] / UNIT));
    const paths = ["", "", "", "", ""];
    let starved = "";
    for (const t of trials) {
      const d = `M${x(t[0]).toFixed(1)},${at(t).toFixed(1)}h0`;
      paths[t[2]] += d;
      if (t[6]) starved += d;
    }
    if (starved) el(svg, "path", { d: starved, class: "mark", stroke: "var(--p3)", "stroke-width": size + 4 });
    paths.forEach((d, i) => d && el(svg, "path", { d, class: "mark", stroke: `var(${COLOURS[i]})`, "stroke-width": size, "data-outcome": OUTCOMES[i] }));
    // the histogram shares the strip's time axis
    const bins = 28;
    const counts = new Array(bins).fill(0);
    for (const t of trials) {
      if (t[2] > 1 || t[3] == null) continue;
      counts[Math.max(0, Math.min(bins - 1, Math.floor((bottom - y(t[3] / UNIT)) / (bottom - top) * bins)))]++;
    }
    const most = Math.max(...counts, 1);
    counts.forEach((n, i) => {
      if (!n) return;
      const h = (bottom - top) / bins;
      const bar = el(svg, "rect", { x: right + 14, y: bottom - (i + 1) * h + 0.5, width: Math.max(1.5, n / most * side), height: h - 1, rx: 1.5, fill: "var(--accent)", opacity: 0.75, class: "bin" });
      el(bar, "title", {}, `${n} trials`);
    });
    if (chosen) el(svg, "circle", { cx: x(chosen[0]), cy: at(chosen), r: 8, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5 });
    const hint = tip(host);
    const nearest = (e) => {
      const box = svg.getBoundingClientRect();
      const [px, py] = [e.clientX - box.left, e.clientY - box.top];
      let best = null;
      let least = 26 ** 2;
      for (const t of trials) {
        const d = (x(t[0]) - px) ** 2 + (at(t) - py) ** 2;
        if (d < least) [best, least] = [t, d];
      }
      return best;
    };
    svg.style.cursor = "pointer";
    svg.addEventListener("pointerleave", () => hint.hide());
    svg.addEventListener("pointermove", (e) => {
      const t = nearest(e);
      t ? hint.show(x(t[0]), at(t), describe(t)) : hint.hide();
    });
    svg.addEventListener("click", (e) => { const t = nearest(e); if (t) choose(t, true); });
  };
  const describe = (t) => {
    const when = t[3] == null ? "" : `, settled ${seconds(t[3] / UNIT)}`;
    return `trial ${t[0]}: ${OUTCOMES[t[2]]}${when}, ${data.shapes[t[5]]}${t[6] ? ", starved" : ""}`;
  };

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
    caption.textContent = `${describe(chosen)}. ${detail?.reason ?? ""}`;
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
    const x = scale(start, end, left, right);
    const within = (v) => x(Math.min(end, Math.max(start, v)));
    Object.assign(x, { from: left, to: right });
    timeAxis(svg, x, top, bottom, width - left);
    const clip = (s) => s >= start && s <= end;
    if (cut != null && start < 0) {
      const [from, to] = [within(cut), within(0)];
      const bar = el(svg, "rect", { x: from, y: top, width: to - from, height: bottom - top, fill: "var(--bad)", opacity: 0.1, class: "cut" });
      el(bar, "title", {}, `cut for ${seconds(-cut)}`);
      const label = `${cut < start ? "◂ " : ""}cut for ${seconds(-cut)}`;
      el(svg, "text", { x: to - 5, y: top - 8, "text-anchor": "end" }, to - from > label.length * 7 ? label : "cut");
    }
    if (clip(0)) {
      el(svg, "line", { x1: x(0), x2: x(0), y1: top - 4, y2: bottom, stroke: "var(--ink)", "stroke-width": 1.5 });
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
      const bar = el(svg, "rect", { x: within(begin), y: 12, width: Math.max(0.5, within(finish) - within(begin)), height: 12, fill: `var(--p${i})`, class: "phase" });
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
          const mark = el(svg, "circle", { cx: x(at / UNIT), cy: mid, r: k ? 3.5 : 5, fill: k ? "var(--card)" : "var(--p0)", stroke: `var(--p${k})`, "stroke-width": 2, class: "first" });
          el(mark, "title", {}, `${row.name} ${what}: ${seconds(at / UNIT)} after the heal, ${row.link[2]} packets were dropped`);
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
        el(svg, "line", { x1: within(0), x2: within(stop), y1: mid, y2: mid, stroke: "var(--bad)", "stroke-width": 3, opacity: 0.5 });
        if (until != null) el(svg, "line", { x1: within(stop), x2: right, y1: mid, y2: mid, stroke: "var(--good)", "stroke-width": 3, opacity: 0.5 });
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
      const part = [drag.from, drag.to].sort((a, b) => a - b).map((px) => start + (px - left) / (right - left) * (end - start));
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
  };
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
      const x = scale(start, end, left, right);
      Object.assign(x, { from: left, to: right });
      el(svg, "rect", { x: left, y: top, width: x(0) - left, height: bottom - top, fill: "var(--grid)", class: "cut" });
      timeAxis(svg, x, bottom, bottom, width - 120);
      el(svg, "line", { x1: x(0), x2: x(0), y1: top, y2: bottom, stroke: "var(--ink)", "stroke-width": 1 });
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
    legend($("outages-legend"), [...endpoints.map((name, k) => [`${name} out`, `--e${k % 6}`]), ["last link carries", "--ink"]]);
  };

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
    // What never settled was still waiting at the deadline: its bar goes on until there.
    const isOpen = (r) => r.t && r.t[2] === 1 && r.t[3] == null;
    const total = (r) => Math.max(sum(r), isOpen(r) ? (deadline ?? 0) * UNIT : 0);
    const x = scale(0, Math.max(...rows.map(total), 1) / UNIT, left, right);
    Object.assign(x, { from: left, to: right });
    timeAxis(svg, x, 0, rows.length * rowHeight + 6, width - left);
    rows.forEach((row, i) => {
      const y = i * rowHeight + (i ? 6 : 0);
      el(svg, "text", { x: left - 8, y: y + 13, "text-anchor": "end", class: i ? "" : "strong" }, row.name);
      let from = 0;
      row.parts.forEach((length, k) => {
        if (length == null) return;
        const bar = el(svg, "rect", { x: x(from / UNIT), y: y + 2, width: Math.max(0.5, x((from + length) / UNIT) - x(from / UNIT) - 1), height: rowHeight - 5, rx: 2, fill: `var(--p${k})`, class: "phase" });
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
        const hit = el(svg, "rect", { x: 0, y, width, height: rowHeight, fill: "transparent", style: "cursor:pointer" });
        hit.addEventListener("click", () => choose(row.t, true));
        svg.insertBefore(hit, svg.firstChild);
      }
    });
  };

  // --- put together ---
  const drawAll = () => { drawOutages(); drawCurve(); drawStrip(); drawPhases(); drawTimeline(); };
  const slowest = [...trials].sort((a, b) => rank(b) - rank(a) || a[0] - b[0]);
  const pick = $("pick");
  if (pick) {
    pick.append(new Option("choose a trial …", ""));
    for (const t of slowest.slice(0, 500)) {
      const when = t[2] > 1 ? OUTCOMES[t[2]] : t[3] == null ? "never settled" : seconds(t[3] / UNIT);
      pick.append(new Option(`trial ${t[0]} · ${when}${data.probes[t[0]] ? " · with probes" : ""}`, t[0]));
    }
    const by = (index) => trials.find((t) => t[0] === +index);
    pick.addEventListener("change", () => pick.value !== "" && choose(by(pick.value)));
    const step = (d) => {
      const next = trials[trials.indexOf(chosen) + d];
      if (next) choose(next);
    };
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    $("closer").addEventListener("click", closer);
    $("whole").addEventListener("click", () => look(null));
    document.querySelectorAll("tr[data-trial]").forEach((row) => row.addEventListener("click", () => choose(by(row.dataset.trial), true)));
    legend($("timeline-legend"), [["answered", "--good"], ["failed", "--bad"], ["first packet", "--p0"], ["SYN", "--p1"], ["SYN-ACK", "--p2"], ["payload", "--p3"]]);
    legend($("phases-legend"), PHASES.map((name, i) => [name, `--p${i}`]));
    legend($("strip-legend"), [["recovered", "--good"], ["not recovered", "--bad"], ["censored, unknown", "--open"], ["harness failed", "--broken"], ["ring: starved", "--p3"]]);
    if (slowest.length) chosen = slowest[0];
    const linked = /^#trial-(\d+)$/.exec(location.hash);
    if (linked && by(linked[1])) chosen = by(linked[1]);
    if (chosen) pick.value = [...pick.options].some((o) => o.value === String(chosen[0])) ? String(chosen[0]) : "";
  }
  $("curve-of")?.addEventListener("change", drawCurve);
  $("log")?.addEventListener("change", () => { drawCurve(); drawStrip(); });
  drawAll();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); }
  });
  document.documentElement.dataset.ready = "1";
})();
