// The step player's face: one slider over all steps, the pictures of each run above it, words that follow.
// `mount(host, score, bytes)` is all there is; a notebook calls it through anywidget, a saved page directly.
// Everything that came from outside is set as text, never as HTML. No request is ever made.

const NOT_A_NUMBER = [213, 94, 0, 255]; // vermilion: no grey value looks like it
const THUMB = 18; // px, the slider's thumb: the chart keeps half of it free on each side, so that both agree
const WHOLE_RUN = 9000; // ms that playing from the first frame to the last takes at speed 1
const ICONS = {
  first: "M1 1h2v12H1zM13 1v12L4 7z",
  back: "M11 1v12L2 7z",
  play: "M3 1v12l9-6z",
  pause: "M2 1h4v12H2zM8 1h4v12H8z",
  next: "M3 1v12l9-6z M12 1v12h1V1z",
  last: "M11 1h2v12h-2zM1 1v12l9-6z",
  pin: "M4 1h6l-1 5 2 2v1H8v4l-1 1-1-1V9H3V8l2-2z",
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // strings become text
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// ---- reading the recording ------------------------------------------------------------------------------------

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One channel: whole numbers 0..levels-1 for low..high, the largest code for what is not a number.
async function readChannel(channel, bytes) {
  const raw = await inflate(bytes.subarray(channel.start, channel.start + channel.length));
  const wide = channel.levels > 255;
  const codes = wide ? new Uint16Array(raw.buffer) : raw;
  const size = codes.length / channel.frames;
  if (channel.delta) for (let k = size; k < codes.length; k++) codes[k] += codes[k - size]; // wraps round, as written
  const nan = wide ? 65535 : 255;
  const value = (code) => (code === nan ? NaN : channel.low + ((channel.high - channel.low) * code) / (channel.levels - 1));
  return { ...channel, codes, size, nan, value, values: wide ? null : Float32Array.from({ length: 256 }, (_, c) => value(c)) };
}

async function readRun(run, bytes) {
  const channels = {};
  for (const [name, channel] of Object.entries(run.channels)) channels[name] = await readChannel(channel, bytes);
  return { ...run, channels };
}

// x_t is a mixture of the guess and the predicted noise, unless the recording says otherwise.
function valueAt(run, name, frame, k) {
  const at = (channel) => channel.value(channel.codes[frame * channel.size + k]);
  if (run.channels[name]) return at(run.channels[name]);
  const { signal, noise } = run.frames[frame].mix;
  return signal * at(run.channels.x0) + noise * at(run.channels.eps);
}

// Each position of the slider is a frame of the longest run; the others show their frame nearest in noise level.
function together(runs) {
  const lead = runs.reduce((longest, run) => (run.frames.length > longest.frames.length ? run : longest));
  const nearest = (run, level) => run.frames.reduce(
    (best, frame, k) => (Math.abs(frame.level - level) <= Math.abs(run.frames[best].level - level) ? k : best), 0);
  const rows = lead.frames.map((frame, k) => runs.map((run) => (run === lead ? k : nearest(run, frame.level))));
  rows[0] = runs.map(() => 0);
  rows[rows.length - 1] = runs.map((run) => run.frames.length - 1); // all end where they ended
  return rows;
}

// ---- pictures -------------------------------------------------------------------------------------------------

// Codes to colours for one frame: a table per channel makes a pixel two look-ups and a sum.
function shades(run, name, frame) {
  const scale = name === "eps" ? 127.5 / 3 : 127.5;
  const table = (channel, factor) => channel.values.map((value) => value * factor * scale);
  const { x0, eps } = run.channels, own = run.channels[name];
  if (own) {
    const shade = table(own, 1), from = frame * own.size;
    return (k) => 127.5 + shade[own.codes[from + k]];
  }
  const { signal, noise } = run.frames[frame].mix;
  const a = table(x0, signal), s = table(eps, noise), from = frame * x0.size;
  return (k) => 127.5 + a[x0.codes[from + k]] + s[eps.codes[from + k]];
}

// Paint pictures `which` of one frame side by side, one canvas pixel a picture pixel, a clear line between them.
function paintPictures(canvas, run, name, frame, which, columns) {
  const { channels: c, height: h, width: w } = run.channels[name] ?? run.channels.x0;
  const rows = Math.ceil(which.length / columns);
  const wide = columns * (w + 1) - 1, high = rows * (h + 1) - 1;
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  const image = context.createImageData(wide, high), { data } = image, shade = shades(run, name, frame);
  which.forEach((picture, place) => {
    const left = (place % columns) * (w + 1), top = Math.floor(place / columns) * (h + 1), start = picture * c * h * w;
    for (let y = 0; y < h; y++) {
      let to = 4 * ((top + y) * wide + left);
      for (let k = start + y * w; k < start + y * w + w; k++, to += 4) {
        const red = shade(k), green = c === 3 ? shade(k + h * w) : red, blue = c === 3 ? shade(k + 2 * h * w) : red;
        [data[to], data[to + 1], data[to + 2], data[to + 3]] = [red, green, blue, 255]; // clamped to 0..255
        if (Number.isNaN(red + green + blue)) data.set(NOT_A_NUMBER, to);
      }
    }
  });
  context.putImageData(image, 0, 0);
}

// ---- clouds of points -----------------------------------------------------------------------------------------

function scaled(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function paintCloud(canvas, run, name, frame, chosen, extent, look) {
  const { context, width, height } = scaled(canvas);
  const reach = name === "eps" ? 3.5 : extent;
  const x = (value) => (width * (value / reach + 1)) / 2, y = (value) => (height * (1 - value / reach)) / 2;
  const place = (k, at = frame, what = name) => [x(valueAt(run, what, at, 2 * k)), y(valueAt(run, what, at, 2 * k + 1))];
  if (name === "x_t" && run.channels.field) paintField(context, run, frame, x, y, look);
  context.fillStyle = look.soft;
  for (let k = 0; k < run.channels.x0.size / 2; k++) {
    const [left, top] = place(k);
    context.fillRect(left - 1.25, top - 1.25, 2.5, 2.5);
  }
  if (name === "eps") return;
  chosen.forEach((k, order) => paintPath(context, run, frame, k, place, name, look.path[order % look.path.length]));
}

// Where a chosen point came from (a line), where it is (a ring), and what the model takes for its end (a dashed line).
function paintPath(context, run, frame, k, place, name, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  for (let at = 0; at <= frame; at++) context.lineTo(...place(k, at));
  context.stroke();
  const [left, top] = place(k);
  if (name === "x_t") {
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(left, top);
    context.lineTo(...place(k, frame, "x0"));
    context.stroke();
    context.setLineDash([]);
  }
  context.beginPath();
  context.arc(left, top, 4, 0, 7);
  context.lineWidth = 2;
  context.stroke();
}

// Arrows against the predicted noise: the way in which the next step pulls.
function paintField(context, run, frame, x, y, look) {
  const field = run.channels.field, points = run.fieldPoints, at = frame * field.size;
  context.strokeStyle = look.faint;
  context.lineWidth = 1;
  points.forEach(([px, py], k) => {
    const dx = -field.value(field.codes[at + 2 * k]), dy = -field.value(field.codes[at + 2 * k + 1]);
    const length = Math.hypot(dx, dy), arm = (10 * Math.min(1, length / 1.5)) / (length || 1);
    const [left, top] = [x(px), y(py)], [right, bottom] = [left + dx * arm, top - dy * arm];
    context.beginPath();
    context.moveTo(left, top);
    context.lineTo(right, bottom);
    context.stroke();
    context.strokeRect(right - 0.5, bottom - 0.5, 1, 1); // its head
  });
}

// ---- the curve ------------------------------------------------------------------------------------------------

function paintCurve(canvas, player) {
  const { context, width, height } = scaled(canvas), { score, runs, rows, at, look } = player;
  const all = runs.flatMap((run) => run.frames.map((frame) => frame.curve)).filter(Number.isFinite);
  const low = Math.min(0, ...all), high = Math.max(...all, low + 1e-9);
  const left = THUMB / 2, top = 20, x = (k) => left + ((width - 2 * left) * k) / Math.max(rows.length - 1, 1);
  const y = (value) => height - 6 - ((height - 6 - top - 4) * (value - low)) / (high - low);
  context.fillStyle = look.soft;
  context.font = "12px system-ui, sans-serif";
  const now = runs.map((run, r) => number(run.frames[rows[at][r]].curve)).join(" and ");
  context.fillText(`${score.curve}: ${now}`, left, 12, width - 2 * left);
  context.strokeStyle = look.faint;
  context.lineWidth = 1;
  line(context, [[left, y(low)], [width - left, y(low)]]);
  line(context, [[x(at), top - 2], [x(at), height]]);
  runs.forEach((run, r) => {
    const values = rows.map((row) => run.frames[row[r]].curve);
    const points = values.map((value, k) => [x(k), y(value)]).filter((_, k) => Number.isFinite(values[k]));
    context.strokeStyle = context.fillStyle = look.run[r % look.run.length];
    context.lineWidth = 2;
    context.setLineDash([[], [6, 4], [2, 3]][r % 3]); // never colour alone
    line(context, points);
    context.setLineDash([]);
    if (!Number.isFinite(values[at])) return; // nothing was measured here, as at the end of a given curve
    context.beginPath();
    context.arc(x(at), y(values[at]), 4.5, 0, 7);
    context.fill();
  });
}

function line(context, points) {
  context.beginPath();
  for (const point of points) context.lineTo(...point);
  context.stroke();
}

// ---- the page -------------------------------------------------------------------------------------------------

const PANELS = [["x_t", "now"], ["x0", "the guess"], ["eps", "the predicted noise"]];

function number(value) {
  return Number.isFinite(value) ? value.toFixed(2) : "-";
}

function runSection(run, r, several, { kind, panels: wanted }) {
  const section = element("section", { class: "run" }), head = element("div", { class: "head" });
  const mark = element("span", { class: `mark ${["first", "second", "third"][r % 3]}` });
  if (several) head.append(element("span", { class: "name" }, mark, run.name));
  const facts = element("span", { class: "facts" });
  head.append(facts);
  const canvases = {}, panels = element("div", { class: "panels" });
  for (const [name, what] of wanted ?? PANELS) {
    canvases[name] = element("canvas", { role: "img", "aria-label": `${several ? `${run.name}: ` : ""}${name}, ${what}` });
    if (kind === "points") canvases[name].style.cssText = "width: 100%; aspect-ratio: 1";
    const caption = wanted ? element("figcaption", {}, what) : element("figcaption", {}, element("b", {}, name), ` ${what}`);
    panels.append(element("figure", { class: "panel" }, canvases[name], caption));
  }
  section.append(head, panels);
  return { section, canvases, facts };
}

function controls(score, count, last) {
  const button = (name, label) => {
    const made = element("button", { type: "button", class: name, "aria-label": label, title: label });
    made.append(icon(name));
    return made;
  };
  const parts = {
    first: button("first", "First step (Home)"),
    back: button("back", "One step back (left arrow)"),
    play: button("play", "Play (space)"),
    next: button("next", "One step on (right arrow)"),
    last: button("last", "Last step (End)"),
    slider: element("input", { type: "range", class: "slider", min: 0, max: last, step: 1, value: 0, "aria-label": "Step" }),
    speed: element("select", {}),
    pin: button("pin", "Pin (P)"),
    which: element("input", { type: "number", min: 1, max: count, value: 1 }),
  };
  for (const speed of [0.25, 0.5, 1, 2, 4]) parts.speed.append(new Option(`${speed} x`, speed, speed === 1, speed === 1));
  parts.bar = element("div", { class: "controls", role: "group", "aria-label": "Player" },
    parts.first, parts.back, parts.play, parts.next, parts.last, element("span", { class: "gap" }),
    element("label", {}, "speed", parts.speed),
    element("label", {}, score.kind === "points" ? "point" : "picture", parts.which), parts.pin);
  return parts;
}

class Player {
  constructor(host, score, runs) {
    Object.assign(this, { host, score, runs, rows: together(runs), at: score.at ?? 0, timer: null, pinned: null });
    this.count = score.count;
    this.root = element("div", { class: "step-player", role: "group", "aria-label": score.title || "Step player" });
    this.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys stay out of the player
    this.build();
    this.listen();
    host.replaceChildren(this.root);
    this.fit(); // not left to the observer, which sleeps while a frame is out of sight
    this.follow = () => this.fit();
    this.watch = new ResizeObserver(this.follow);
    this.watch.observe(this.root);
    this.media = ["print", "(prefers-color-scheme: dark)"].map((query) => matchMedia(query));
    for (const query of this.media) query.addEventListener("change", this.follow);
    this.root.addEventListener("transitionend", ({ target }) => target === this.root && this.follow()); // its ink
  }

  build() {
    const { score, runs, root } = this;
    if (score.title) root.append(element("h3", {}, score.title));
    this.words = element("div", { class: "words", role: "status", "aria-live": "polite" });
    this.sections = runs.map((run, r) => runSection(run, r, runs.length > 1, score));
    this.pinRow = element("div", { class: "pinned", role: "group", "aria-label": "Pinned picture", hidden: "" });
    this.chart = element("canvas", { class: "chart", role: "img", "aria-label": score.curve });
    this.parts = controls(score, this.count, this.rows.length - 1);
    const [from, to] = [runs[0].frames[0], runs[0].frames.at(-1)].map((frame) => `t = ${frame.t}`);
    root.append(this.words, ...this.sections.map((part) => part.section), this.chart, this.parts.slider,
      element("div", { class: "ends" }, element("span", {}, from), element("span", {}, to)), this.parts.bar,
      element("p", { class: "note" }, score.note), this.pinRow); // below, so that nothing moves away under the hand
  }

  listen() {
    const { parts } = this, stop = (act) => () => { this.pause(); act(); };
    parts.first.onclick = stop(() => this.go(0));
    parts.back.onclick = stop(() => this.go(this.at - 1));
    parts.next.onclick = stop(() => this.go(this.at + 1));
    parts.last.onclick = stop(() => this.go(this.rows.length - 1));
    parts.play.onclick = () => this.toggle();
    parts.slider.oninput = stop(() => this.go(Number(parts.slider.value)));
    parts.speed.onchange = () => this.timer && (this.pause(), this.play());
    parts.pin.onclick = () => this.pin(this.pinned === null ? Number(parts.which.value) - 1 : null);
    parts.which.onchange = () => this.pinned !== null && this.pin(Number(parts.which.value) - 1);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.sections.forEach(({ canvases }, r) => Object.entries(canvases).forEach(([name, canvas]) => {
      canvas.onclick = (event) => this.pin(this.under(event, r, name));
    }));
    const drag = (event) => {
      const { left, width } = this.chart.getBoundingClientRect();
      const share = (event.clientX - left - THUMB / 2) / (width - THUMB);
      this.pause();
      this.go(Math.round(share * (this.rows.length - 1)));
    };
    this.chart.onpointerdown = (event) => { this.chart.setPointerCapture(event.pointerId); drag(event); };
    this.chart.onpointermove = (event) => event.buttons && drag(event);
  }

  key(event) {
    const tag = event.target.tagName, typing = tag === "SELECT" || event.target.type === "number";
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const jumps = { ArrowLeft: this.at - 1, ArrowDown: this.at - 1, ArrowRight: this.at + 1, ArrowUp: this.at + 1,
      Home: 0, End: this.rows.length - 1 };
    if (event.key in jumps) {
      this.pause();
      this.go(jumps[event.key]);
    } else if (event.key === " " && tag !== "BUTTON") this.toggle();
    else if (event.key === "p" || event.key === "P") this.parts.pin.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  go(at) {
    this.at = Math.max(0, Math.min(this.rows.length - 1, at));
    this.draw();
  }

  // The noise level of the frame that is shown, and the frame of the same level: where a reader looks, they stay.
  level() {
    const run = this.runs[0];
    return run.frames[this.rows[this.at][0]].level;
  }

  goNear(level) {
    const far = (k) => Math.abs(this.runs[0].frames[this.rows[k][0]].level - level);
    this.go(this.rows.reduce((best, _, k) => (far(k) < far(best) ? k : best), 0));
  }

  toggle() {
    if (this.timer) this.pause();
    else this.play();
  }

  play() {
    if (this.at === this.rows.length - 1) this.go(0);
    const pace = Math.max(40, Math.min(400, WHOLE_RUN / this.rows.length)) / Number(this.parts.speed.value);
    this.timer = setInterval(() => {
      this.go(this.at + 1);
      if (this.at === this.rows.length - 1 || !this.root.isConnected) this.pause();
    }, pace);
    this.playing(true);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.playing(false);
  }

  playing(now) {
    this.words.setAttribute("aria-live", now ? "off" : "polite"); // nobody can listen to ten sentences a second
    this.parts.play.setAttribute("aria-label", now ? "Pause (space)" : "Play (space)");
    this.parts.play.title = now ? "Pause (space)" : "Play (space)";
    this.parts.play.replaceChildren(icon(now ? "pause" : "play"));
  }

  // The picture or point under the pointer.
  under(event, r, name) {
    const box = event.target.getBoundingClientRect(), run = this.runs[r];
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (this.score.kind === "points") {
      const reach = name === "eps" ? 3.5 : this.score.extent, frame = this.rows[this.at][r];
      const far = (k) => Math.hypot(valueAt(run, name, frame, 2 * k) - (2 * x - 1) * reach,
        valueAt(run, name, frame, 2 * k + 1) - (1 - 2 * y) * reach);
      return [...Array(this.count).keys()].reduce((best, k) => (far(k) < far(best) ? k : best), 0);
    }
    const columns = this.columns(), lines = Math.ceil(this.count / columns);
    return Math.min(this.count - 1, Math.floor(y * lines) * columns + Math.min(columns - 1, Math.floor(x * columns)));
  }

  pin(which) {
    const wanted = which === null || !(which >= 0 && which < this.count) ? null : Math.floor(which);
    this.pinned = wanted === this.pinned && which !== null ? null : wanted; // the same again lets it go
    this.pinnedRow = this.rows[this.at];
    this.parts.pin.setAttribute("aria-pressed", String(this.pinned !== null));
    if (this.pinned !== null) this.parts.which.value = this.pinned + 1;
    this.pinRow.replaceChildren();
    this.pinRow.hidden = this.pinned === null || this.score.kind === "points";
    if (!this.pinRow.hidden) this.fillPinRow();
    this.draw();
    if (!this.pinRow.hidden) this.pinRow.scrollIntoView({ block: "nearest" }); // a page in a frame may be too low for it
  }

  // The pinned picture, large: as it is now, as the model guesses it now, as it guessed it when it was pinned.
  fillPinRow() {
    this.pinCanvases = [];
    this.runs.forEach((run, r) => {
      const prefix = this.runs.length > 1 ? `${run.name}: ` : "", then = run.frames[this.pinnedRow[r]].t;
      const usual = [["x_t", "now"], ["x0", "the guess now"], ["x0", `the guess at t = ${then}`]];
      for (const [name, what] of this.score.panels ?? usual) {
        const canvas = element("canvas", { role: "img", "aria-label": `${prefix}picture ${this.pinned + 1}, ${what}` });
        const caption = element("figcaption", {}, prefix, element("b", {}, this.score.panels ? "" : name), ` ${what}`);
        this.pinCanvases.push([canvas, run, r, name, !this.score.panels && what.includes("at t")]);
        this.pinRow.append(element("figure", {}, canvas, caption));
      }
    });
  }

  columns() {
    return Math.ceil(Math.sqrt(this.count));
  }

  // Colours from the page around: light ink means a dark page.
  style() {
    const ink = getComputedStyle(this.root).color, [red, green, blue] = ink.match(/[\d.]+/g).map(Number);
    const dark = 0.3 * red + 0.6 * green + 0.1 * blue > 128;
    const mixed = (share) => `rgba(${red}, ${green}, ${blue}, ${share})`;
    this.root.classList.toggle("dark", dark);
    this.look = { ink, soft: mixed(0.72), faint: mixed(0.22), run: dark ? ["#56b4e9", "#e69f00", ink] : ["#0072b2", "#d55e00", ink],
      path: dark ? ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442"] : ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"] };
  }

  // Whole screen pixels for each picture pixel, where that leaves little room empty: digits stay crisp.
  fit() {
    this.style();
    this.draw();
    if (this.score.kind !== "points") {
      for (const canvas of this.sections.flatMap(({ canvases }) => Object.values(canvases))) {
        const ratio = window.devicePixelRatio || 1, room = canvas.parentElement.clientWidth * ratio;
        const whole = canvas.width * Math.floor(room / canvas.width);
        canvas.style.width = `${(whole > 0.75 * room ? whole : room) / ratio}px`;
      }
    }
  }

  draw() {
    const begun = performance.now(), row = this.rows[this.at], all = [...Array(this.count).keys()];
    this.runs.forEach((run, r) => {
      for (const [name, canvas] of Object.entries(this.sections[r].canvases)) {
        if (this.score.kind === "points") {
          const chosen = this.pinned === null ? this.score.paths : [this.pinned];
          paintCloud(canvas, run, name, row[r], chosen, this.score.extent, this.look);
        } else paintPictures(canvas, run, name, row[r], all, this.columns());
      }
      const { t, signal, noise } = run.frames[row[r]];
      const rates = this.score.panels ? [] : [`signal rate ${number(signal)}`, `noise rate ${number(noise)}`];
      const facts = [`t = ${t}`, ...rates];
      this.sections[r].facts.replaceChildren(...facts.map((fact) => element("span", {}, fact)));
    });
    if (!this.pinRow.hidden) {
      for (const [canvas, run, r, name, then] of this.pinCanvases) {
        paintPictures(canvas, run, name, then ? this.pinnedRow[r] : row[r], [this.pinned], 1);
      }
    }
    paintCurve(this.chart, this);
    this.tell(row);
    this.root.dataset.milliseconds = (performance.now() - begun).toFixed(2); // for the benchmark
  }

  tell(row) {
    const several = this.runs.length > 1;
    const said = this.runs.map((run, r) => (several ? `${run.name}: ` : "") + run.frames[row[r]].words);
    this.words.replaceChildren(...said.map((sentence) => element("p", {}, sentence)));
    this.parts.slider.value = this.at;
    this.parts.slider.setAttribute("aria-valuetext", said.join("; "));
    this.root.dataset.at = this.at;
  }

  stop() {
    this.pause();
    this.watch.disconnect();
    for (const query of this.media) query.removeEventListener("change", this.follow);
  }
}

export async function mount(host, score, bytes) {
  const runs = [];
  for (const run of score.runs) runs.push(await readRun(run, bytes));
  return new Player(host, score, runs);
}

// What anywidget asks for. A new recording (a run that was drawn again) replaces the old one in place.
async function render({ model, el }) {
  let player = null, turn = Promise.resolve();
  const show = async () => {
    const data = model.get("data"), bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const before = player, focused = before?.root.contains(document.activeElement) && document.activeElement.className;
    before?.stop();
    player = await mount(el, JSON.parse(model.get("score")), bytes);
    if (before && before.at < before.rows.length - 1) player.goNear(before.level());
    if (focused) player.root.querySelector(`.${focused}`)?.focus();
  };
  const replace = () => (turn = turn.then(show)); // one after the other: a large one must not overtake the next
  model.on("change:score", replace);
  await replace();
  return () => {
    model.off("change:score", replace);
    player.stop();
  };
}

export default { render };
