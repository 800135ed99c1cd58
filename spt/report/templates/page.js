"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { runs, cells, splits } = read("data"), charts = read("charts-data");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  }

  // Numeric columns sort by the number that a cell begins with; a cell without one is below all others.
  function value(text) {
    const match = /^[<[]?\s*([+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?)/.exec(text.trim());
    return match ? Number(match[1].replaceAll(",", "").replace("−", "-")) : -Infinity;
  }
  Tablesort.extend("score", () => false, (a, b) => value(b) - value(a) || 0);
  for (const table of all("table.sortable")) {
    new Tablesort(table);
    all("thead th", table).forEach((each) => each.removeAttribute("tabindex")); // the button in it has the focus
  }

  // Beside each score its place on the axis of its task: mean and standard deviation.
  for (const button of all("[data-cell]")) {
    button.setAttribute("aria-haspopup", "dialog");
    if (!button.dataset.strip) continue;
    const [left, centre, right] = button.dataset.strip.split(" ");
    const bar = element("i"), mark = element("b"), strip = element("span", { class: "strip", "aria-hidden": "true" }, bar, mark);
    Object.assign(bar.style, { left: `${left}%`, right: `${100 - right}%` });
    mark.style.left = `${centre}%`;
    button.after(strip);
  }

  // Filters hide rows of all tables, and charts.
  const form = document.getElementById("filters");

  function columnsOf(table) {
    const heads = all("thead tr:last-child th", table);
    return heads.map((each, place) => [each.dataset.filter, place]).filter(([name]) => name);
  }

  function fits(name, wanted, text) {
    return name === "method" ? text.split(/[\s,−]+/).includes(wanted) : text === wanted;
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    for (const table of all("table.sortable")) {
      const isScores = table.id === "score-table";
      const columns = columnsOf(table).filter(([name]) => wanted[name] && (name !== "split" || wanted.split !== "compared"));
      for (const row of table.tBodies[0].rows) {
        const isShown = columns.every(([name, place]) => fits(name, wanted[name], row.cells[place].textContent.trim()));
        const isCompared = wanted.split !== "compared" || "compared" in row.dataset;
        row.hidden = !isShown || (isScores && (!isCompared || Number(row.dataset.n) < Number(wanted.seeds)));
      }
    }
    for (const figure of all("figure.chart")) {
      figure.hidden = ["task", "model", "table"].some((name) => wanted[name] && figure.dataset[name] !== wanted[name]);
    }
    const rows = all("#score-table tbody tr");
    document.getElementById("shown").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} scores`;
  }
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(() => { form.elements.split.value = ""; filter(); }));
  form.addEventListener("submit", (event) => event.preventDefault());

  // Charts.
  const GREY = "#8b949e";
  const compact = new Intl.NumberFormat("en", { notation: "compact" });

  function curve(place) {
    const step = runs.step[place];
    return { x: runs.curve[place].map((_, i) => (i + 1) * step), y: runs.curve[place] };
  }

  /** The lines of a chart: x, y, and how they look; `of` is the place of the series they belong to. */
  function linesOf(chart) {
    const lines = [];
    chart.series.forEach((series, of) => {
      const look = { of, colour: series.colour, dash: series.dash.map((length) => 2 * length) };
      if (!series.runs) {
        const order = of - (chart.series.length - 1) / 2; // points that coincide are told apart
        const aside = (x) => (chart.x.log ? x * 1.12 ** order : chart.x.ticks ? x + 0.07 * order : x);
        lines.push({ ...look, ...series, dash: look.dash, x: series.x.map(aside), width: chart.x.log ? 0 : 2, points: true });
        return;
      }
      if (series.published) lines.push({ of, colour: GREY, dash: [], width: 4, x: series.published[0], y: series.published[1] });
      const curves = series.runs.map(curve).filter((each) => each.x.length);
      curves.forEach((each) => lines.push({ ...look, ...each, dash: [], width: 0.8, alpha: 0.45, points: each.x.length < 2 }));
      const sums = new Map();
      curves.forEach((each) => each.x.forEach((x, i) => sums.set(x, [...(sums.get(x) ?? []), each.y[i]])));
      const means = [...sums].filter(([, ys]) => ys.length === curves.length).sort(([a], [b]) => a - b);
      if (curves.length > 1) lines.push({ ...look, width: 2.4, x: means.map(([x]) => x), y: means.map(([, ys]) => ys.reduce((a, b) => a + b) / ys.length) });
    });
    return lines;
  }

  function rangeOf(chart, lines) {
    if (chart.y.range) return chart.y.range;
    const ends = lines.flatMap((line) => line.y.flatMap((y, i) => [y - (line.err?.[i] ?? 0), y + (line.err?.[i] ?? 0)]));
    ends.push(...(chart.lines ?? []).map((each) => each.y));
    const low = Math.min(...ends), high = Math.max(...ends), width = Math.max(1.12 * (high - low), chart.y.least);
    return [(low + high - width) / 2, (low + high + width) / 2];
  }

  function whiskers(plot, lines) {
    const context = plot.ctx;
    lines.forEach((line, place) => {
      if (!line.err || !plot.series[place + 1].show) return;
      context.save();
      context.strokeStyle = line.colour;
      context.lineWidth = 1.5 * devicePixelRatio;
      line.x.forEach((x, i) => {
        const at = plot.valToPos(x, "x", true), cap = 3 * devicePixelRatio;
        const [low, high] = [-1, 1].map((sign) => plot.valToPos(line.y[i] + sign * line.err[i], "y", true));
        context.beginPath();
        context.moveTo(at, low); context.lineTo(at, high);
        [low, high].forEach((y) => { context.moveTo(at - cap, y); context.lineTo(at + cap, y); });
        context.stroke();
      });
      context.restore();
    });
  }

  function levels(plot, chart, ink) {
    const context = plot.ctx;
    context.save();
    context.strokeStyle = context.fillStyle = ink;
    context.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    for (const each of chart.lines ?? []) {
      const y = plot.valToPos(each.y, "y", true), { left, width } = plot.bbox;
      context.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
      context.beginPath(); context.moveTo(left, y); context.lineTo(left + width, y); context.stroke();
      context.fillText(each.label, left + 4 * devicePixelRatio, y - 4 * devicePixelRatio);
    }
    context.restore();
  }

  const drawn = new Map(); // by the element of the plot: the chart and the plot

  function draw(plotElement, legend, chart) {
    drawn.get(plotElement)?.plot.destroy();
    const style = getComputedStyle(plotElement), ink = style.color, grid = style.borderTopColor;
    const lines = linesOf(chart).map((line) => ({ ...line, colour: line.colour === "#000000" ? ink : line.colour }));
    const xs = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const columns = lines.map((line) => {
      const by = new Map(line.x.map((x, i) => [x, line.y[i]]));
      return xs.map((x) => by.get(x) ?? null);
    });
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 20 };
    const x = { ...axis, label: chart.x.label, size: 34 };
    const scale = { time: false };
    if (chart.x.ticks) {
      Object.assign(x, { splits: () => chart.x.ticks.map((_, i) => i), values: () => chart.x.ticks });
      scale.range = () => [-0.5, chart.x.ticks.length - 0.5];
    } else if (chart.x.log) {
      const powers = (_, __, low, high) => [...Array(12).keys()].map((power) => 10 ** power).filter((each) => low <= each && each <= high);
      Object.assign(x, { splits: powers, filter: (_, splits) => splits, values: (_, splits) => splits.map(compact.format) });
      Object.assign(scale, { distr: 3, range: (_, low, high) => [low / 1.6, high * 1.6] });
    } else {
      Object.assign(x, { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] });
      scale.range = (_, low, high) => [Math.min(low, 1) - 0.2, Math.max(high, 2) + 0.2];
    }
    const plot = new uPlot({
      width: Math.max(120, plotElement.clientWidth), height: plotElement.clientHeight,
      legend: { show: false }, cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: scale, y: { range: () => rangeOf(chart, lines) } },
      axes: [x, { ...axis, label: chart.y.label, size: 44 }],
      series: [{}, ...lines.map((line) => ({
        stroke: line.colour, width: line.width, dash: line.dash, alpha: line.alpha ?? 1, spanGaps: true,
        points: { show: Boolean(line.points), size: 7, fill: line.colour, stroke: line.colour },
      }))],
      hooks: { draw: [(plot) => { whiskers(plot, lines); levels(plot, chart, ink); }] },
    }, [xs, ...columns], plotElement);
    drawn.set(plotElement, { chart, legend, plot });
    showLegend(legend, chart, plot, lines, ink);
  }

  function showLegend(legend, chart, plot, lines, ink) {
    const entries = chart.series.map((series, of) => [series, of]).filter(([, of]) => lines.some((each) => each.of === of)).map(([series, of]) => {
      const colour = series.colour === "#000000" ? ink : series.colour;
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("viewBox", "0 0 26 10");
      swatch.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("d", chart.x.log ? "M13 1a4 4 0 1 0 .1 0" : "M0 5h26");
      line.setAttribute("style", `stroke:${colour};stroke-width:3;` + (chart.x.log ? `fill:${colour}` : `stroke-dasharray:${series.dash.map((length) => 2 * length)}`));
      swatch.append(line);
      const button = element("button", { type: "button", "aria-pressed": "true" }, swatch, series.label + (series.published ? " and published" : ""));
      button.addEventListener("click", () => {
        const isShown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", isShown);
        lines.forEach((each, place) => each.of === of && plot.setSeries(place + 1, { show: isShown }));
      });
      return button;
    });
    legend.replaceChildren(...entries);
  }

  // A chart is drawn when it comes near the window, again when its width or the theme changes.
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    const known = drawn.get(target);
    if (known && target.clientWidth && known.plot.width !== target.clientWidth) {
      known.plot.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  }));
  const near = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
    if (!isIntersecting) return;
    near.unobserve(target);
    const { chart, place } = target.dataset;
    draw(target.querySelector(".plot"), target.querySelector(".legend"), charts[chart][place]);
    sizes.observe(target.querySelector(".plot"));
  }), { rootMargin: "300px" });
  all("figure.chart").forEach((each) => near.observe(each));

  // The runs of a cell.
  const dialog = document.getElementById("runs"), body = document.getElementById("runs-body");
  const text = (place) => runs.texts[place];

  function facts(rows) {
    return element("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  }

  function described(place, isTrial) {
    const command = runs.command[place].map(text).join(" ");
    const scores = Object.entries(runs.scores).filter(([, of]) => of[place] !== null).map(([split, of]) => `${splits[split] ?? split.replaceAll("_", " ")} ${of[place].toFixed(2)}`).join(", ");
    const copy = element("button", { type: "button", class: "copy" }, "Copy the command");
    copy.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try { await navigator.clipboard.writeText(command); copy.textContent = "Copied"; } catch { copy.textContent = "Selected"; }
    });
    const code = element("pre", {}, command);
    const open = element("details", {}, element("summary", {}, `Seed ${runs.seed[place]}${isTrial ? `, a trial of learning rate ${runs.rate[place]}` : ""}: ${scores || runs.status[place]}`),
      code, copy, facts([
        ["run", runs.folder[place]],
        ["best epoch", `${runs.best_epoch[place] ?? "none"} of ${runs.epochs[place]}${runs.status[place] === "finished" ? "" : `, ${runs.status[place]}`}`],
        ["commit", text(runs.commit[place])],
        ["data", text(runs.data[place])],
        ["weights", text(runs.weights[place])],
        ["numerics", `version ${runs.numerics[place]}`],
        ["versions", text(runs.versions[place])],
        ["hardware", text(runs.hardware[place])],
        ["took", `${runs.seconds[place].toFixed(0)} s, ${compact.format(runs.parameters[place])} trainable parameters, peak memory ${(runs.memory[place] / 2 ** 20).toFixed(0)} MiB`],
        ...runs.warnings[place].map((warning) => ["warning", warning]),
      ]));
    return open;
  }

  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

  function openCell(cell) {
    document.getElementById("runs-title").textContent = cell.title;
    body.replaceChildren();
    for (const line of cell.published ?? []) body.append(element("p", {}, `Published: ${line}`));
    for (const problem of cell.problems) body.append(element("p", {}, problem));
    const own = [...cell.runs, ...cell.trials];
    body.append(...own.map((place) => described(place, cell.trials.includes(place))));
    body.querySelector("details")?.setAttribute("open", "");
    dialog.showModal();
    body.scrollTop = 0;
    const curves = cell.runs.filter((place) => runs.curve[place].length);
    if (!curves.length) return;
    const plot = element("div", { class: "plot", role: "img", "aria-label": `Dev score by epoch of ${cell.title}` }), legend = element("div", { class: "legend" });
    body.prepend(element("figure", {}, element("figcaption", {}, element("strong", {}, "Dev score by epoch")), plot, legend));
    const series = curves.map((place, i) => ({ label: `seed ${runs.seed[place]}`, colour: COLOURS[i % COLOURS.length], dash: [], ...curve(place), err: null }));
    draw(plot, legend, { x: { label: "epoch" }, y: { label: `${text(runs.metric[curves[0]])}, %`, least: 10 }, series });
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-cell]");
    if (button) openCell(cells[button.dataset.cell]);
    if (event.target === dialog) dialog.close();
  });
  document.getElementById("close").addEventListener("click", () => dialog.close());

  // Light and dark: the system's choice, until the button is pressed.
  const theme = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

  function showTheme() {
    theme.setAttribute("aria-pressed", isDark());
    drawn.forEach(({ chart, legend }, plot) => plot.isConnected ? draw(plot, legend, chart) : drawn.delete(plot));
  }
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);

  showTheme();
  filter();
})();
