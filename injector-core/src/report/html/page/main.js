  // --- put together ---
  const drawAll = () => { drawIndex(); drawOutages(); drawCurve(); drawStrip(); drawPhases(); drawTimeline(); };
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
    timelineLegend();
    phasesLegend();
    stripLegend();
    if (slowest.length) chosen = slowest[0];
    const linked = /^#trial-(\d+)$/.exec(location.hash);
    if (linked && by(linked[1])) chosen = by(linked[1]);
    if (chosen) pick.value = [...pick.options].some((o) => o.value === String(chosen[0])) ? String(chosen[0]) : "";
  }
  $("curve-of")?.addEventListener("change", drawCurve);
  const by = $("strip-by");
  if (by) {
    (data.groupings ?? []).forEach((grouping, at) => by.append(new Option(grouping.title, at)));
    by.closest("label").hidden = !data.groupings?.length;
    by.addEventListener("change", drawStrip);
  }
  if ($("log")) {
    $("log").checked = isWide();
    $("log").addEventListener("change", drawAll);
  }
  drawAll();
  // On paper the plots have the paper's width, and no pointer to ask.
  window.addEventListener("beforeprint", drawAll);
  window.addEventListener("afterprint", drawAll);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); }
  });
  document.documentElement.dataset.ready = "1";
