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
  const trials = data.trials ?? [];
  const deadline = data.deadline == null ? null : data.deadline / UNIT;

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

  // --- axes ---
  const steps = (low, high, count) => {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const out = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(+v.toPrecision(12));
    return out;
  };
  const scale = (low, high, from, to) => {
    const at = (v) => from + (v - low) / (high - low || 1) * (to - from);
    at.ticks = (count) => steps(low, high, count);
    return at;
  };
  // Times from the heal on, the same in every plot. Logarithmic time is linear below the shortest times that there are, so
  // that it has the heal itself; what comes before the heal is linear, and has a quarter of the axis.
  const known = (data.compare
    ? Object.values(data.compare).flat().flatMap((c) => c.points.map((p) => p[0]))
    : data.index ? data.index.flatMap((run) => [...run.settled, run.deadline ?? 0])
    : trials.filter((t) => t[2] <= 1).map((t) => t[3])
  ).filter((t) => t > 0).map((t) => t / UNIT).sort((a, b) => a - b);
  const quantile = (share) => known[Math.floor(share * (known.length - 1))];
  const LOW = Math.max(0.001, (quantile(0.05) ?? 0.01) / 4);
  // Whether times span so much that the short ones would be one line on a linear axis.
  const WIDE = 20;
  const isWide = () => known.length > 0
    && Math.max(deadline ?? 0, known[known.length - 1]) / Math.max(quantile(0.25), 0.001) >= WIDE;
  const logTime = () => $("log")?.checked ?? false;
  const bend = (t) => Math.log10(1 + t / LOW);
  const unbend = (v) => LOW * (10 ** v - 1);
  const timeScale = (low, high, from, to) => {
    const quarter = bend(Math.max(high, 0)) / 3;
    const [there, back] = !logTime() || high <= 0 ? [(t) => t, (v) => v]
      : [(t) => (t < 0 ? t / -low * quarter : bend(t)), (v) => (v < 0 ? v / quarter * -low : unbend(v))];
    const [a, b] = [there(low), there(high)];
    const at = (t) => from + (there(t) - a) / (b - a || 1) * (to - from);
    at.invert = (px) => back(a + (px - from) / (to - from) * (b - a));
    // So many pixels lie between two ticks at least.
    at.ticks = (gap) => {
      const room = Math.abs(to - from);
      if (!logTime()) return steps(low, high, Math.max(1, room / (gap * 1.6)));
      const wanted = [0, ...(low < 0 ? steps(low, 0, 3) : [])];
      for (const m of [1, 3]) for (let e = 4; e >= -3; e--) wanted.push(+(m * 10 ** e).toPrecision(3));
      const taken = [];
      for (const v of wanted) {
        if (v >= low && v <= high && taken.every((other) => Math.abs(at(other) - at(v)) >= gap)) taken.push(v);
      }
      // A closer look lies within one step of these.
      return taken.length > 2 ? taken : steps(low, high, 5).filter((v, i, all) => !i || Math.abs(at(v) - at(all[i - 1])) >= gap);
    };
    Object.assign(at, { from, to });
    return at;
  };
  const timeAxis = (svg, x, y0, y1) => {
    for (const v of x.ticks(54)) {
      el(svg, "line", { class: "gridline", x1: x(v), x2: x(v), y1: y0, y2: y1 });
      el(svg, "text", { x: x(v), y: y1 + 17, "text-anchor": "middle" }, tickLabel(v));
    }
    el(svg, "line", { class: "axis", x1: x.from, x2: x.to, y1, y2: y1 });
  };
  // What each mark means: [text, colour, kind, class of the mark].
  const legend = (host, items) => {
    host.replaceChildren();
    for (const [text, colour, kind = "box", mark = ""] of items) {
      const item = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.className = kind;
      swatch.style.setProperty("--c", `var(${colour})`);
      item.dataset.mark = mark;
      item.append(swatch, text);
      host.append(item);
    }
  };
