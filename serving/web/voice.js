/**
 * How the user sounds, drawn and in words: pitch and level of each 40 ms for the ribbon (found here), and the gauges, whose
 * numbers and label are the server's "textpro.prosody".
 */

const LOW_HZ = 60;
const HIGH_HZ = 400;
const FLOOR_DB = -52;
const LOUD_DB = -12;
const SHOWN = 100; // points of the live ribbon: four seconds
const PAUSE = 20; // of silence that it shows
const KEPT = 1500;
const SURE = 0.6;

/** Pitch in Hz (null where there is none) and level in dB below full scale of 40 ms at 24 kHz, by autocorrelation at 8 kHz. */
export function measure(pcm) {
  const count = Math.floor(pcm.length / 3);
  const wave = new Float32Array(count);
  let power = 0;
  for (let at = 0; at < count; at += 1) {
    wave[at] = (pcm[3 * at] + pcm[3 * at + 1] + pcm[3 * at + 2]) / (3 * 32768);
    power += wave[at] * wave[at];
  }
  const db = 10 * Math.log10(power / count + 1e-12);
  if (db < FLOOR_DB) return { hz: null, db };
  const shortest = Math.floor(8000 / HIGH_HZ);
  const longest = Math.ceil(8000 / LOW_HZ);
  const span = count - longest;
  const alike = [];
  for (let lag = shortest; lag <= longest; lag += 1) {
    let [both, here, there] = [0, 1e-9, 1e-9];
    for (let at = 0; at < span; at += 1) {
      both += wave[at] * wave[at + lag];
      here += wave[at] ** 2;
      there += wave[at + lag] ** 2;
    }
    alike.push(both / Math.sqrt(here * there));
  }
  const best = Math.max(...alike);
  if (best < SURE) return { hz: null, db };
  let first = alike.findIndex((value) => value >= 0.87 * best); // multiples of a period are as much alike
  while (alike[first + 1] > alike[first]) first += 1;
  return { hz: 8000 / (first + shortest), db };
}

/** The outline of points as an SVG path: a band for each voiced stretch, as high as its pitch and as thick as it is loud. */
export function band(points, width, height) {
  const step = width / Math.max(points.length - 1, 1);
  const place = ({ hz, db }, at) => {
    const up = share(Math.log2(hz / LOW_HZ), 0, Math.log2(HIGH_HZ / LOW_HZ));
    const half = (height / 12) * (0.25 + 1.4 * share(db, FLOOR_DB, LOUD_DB));
    return { x: at * step, y: height * (0.84 - 0.7 * up), half };
  };
  let path = "";
  for (let at = 0; at < points.length; at += 1) {
    const from = at;
    while (at < points.length && points[at].hz !== null) at += 1;
    if (at === from) continue;
    const run = points.slice(from, at).map((point, index) => place(point, from + index));
    run.push({ ...run.at(-1), x: run.at(-1).x + step * 0.8 });
    const dots = [...run.map(({ x, y, half }) => [x, y - half]), ...run.reverse().map(({ x, y, half }) => [x, y + half])];
    path += `M${dots.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`;
  }
  return path;
}

/** The same as a small picture for a turn of the transcript. */
export function picture(points, label) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 132 30");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", band(smooth(points), 132, 30));
  svg.append(path);
  return svg;
}

/** Each pitch with its neighbours; one that jumps away from all of them is an error of the measure. */
function smooth(points) {
  return points.map((point, at) => {
    if (point.hz === null) return point;
    const near = [points[at - 1]?.hz, points[at + 1]?.hz].filter((hz) => hz && Math.abs(Math.log2(hz / point.hz)) < 0.4);
    if (near.length === 0) return { ...point, hz: null };
    return { ...point, hz: (2 * point.hz + near.reduce((sum, hz) => sum + hz, 0)) / (2 + near.length) };
  });
}

function share(value, low, high) {
  return Math.min(Math.max((value - low) / (high - low), 0), 1);
}

const GAUGES = {
  pitch: { low: 75, high: 300, limits: [135, 210], words: ["low", "middle", "high"], unit: "Hz" },
  energy: { low: -50, high: -10, limits: [-34, -21], words: ["soft", "medium", "loud"], unit: "dB" },
  rate: { low: 60, high: 260, limits: [120, 185], words: ["slow", "medium", "fast"], unit: "words a minute" },
};

/** A measured value in a word and a number: {word, text, at} with `at` from 0 to 1, or null. */
export function reading(name, value) {
  if (value === null || value === undefined) return null;
  const { low, high, limits, words, unit } = GAUGES[name];
  const word = words[limits.filter((limit) => value >= limit).length];
  return { word, text: `${Math.round(value)} ${unit}`, at: share(value, low, high) };
}

/** What the label of a "textpro.prosody" is called: the model says "unknown" below a confidence of 0.6. */
export function labelOf({ label, confidence }) {
  const percent = `${Math.round(confidence * 100)} %`;
  return label === "unknown" ? { word: "unknown", text: "no tone stands out" } : { word: label, text: `${percent} sure` };
}

/** The panel of the page. */
export class VoicePanel {
  constructor(root) {
    this.root = root;
    this.canvas = root.querySelector("#ribbon");
    this.points = []; // of all sound
    this.shown = []; // without long silence, so that what was said last stays in sight
    this.undrawn = 0;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
  }

  /** A piece of the microphone, which ends here in the sound of the session. */
  hear(pcm, ms) {
    const point = { ...measure(pcm), ms };
    this.points.push(point);
    if (this.points.length > KEPT) this.points.shift();
    if (point.hz === null && this.shown.slice(-PAUSE).every(({ hz }) => hz === null)) return;
    this.shown.push(point);
    if (this.shown.length > SHOWN) this.shown.shift();
    this.undrawn += 1;
    const due = this.calm.matches ? 25 : 2; // once a second where motion is not wanted
    if (this.undrawn >= due) this.draw();
  }

  /** The points of a part of the session's sound. */
  between(fromMs, toMs) {
    return this.points.filter(({ ms }) => ms > fromMs && ms <= toMs);
  }

  draw() {
    this.undrawn = 0;
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.fillStyle = getComputedStyle(canvas).color;
    const silent = Array.from({ length: SHOWN - this.shown.length }, () => ({ hz: null, db: -99 }));
    const all = [...silent, ...this.shown];
    pen.fill(new Path2D(band(smooth(all), width, height)));
    all.forEach(({ hz, db }, at) => {
      if (hz !== null) return;
      const tall = 1 + 5 * share(db, FLOOR_DB, LOUD_DB);
      pen.fillRect((at * width) / SHOWN, height - 3 - tall, 1, tall);
    });
  }

  /** A "textpro.prosody" of the server. */
  show(event) {
    this.set("pitch", reading("pitch", event.pitch_hz));
    this.set("energy", reading("energy", event.energy_db));
    this.set("rate", reading("rate", event.words_per_minute));
    this.set("label", { ...labelOf(event), at: event.confidence });
  }

  /** How likely the turn is over. */
  judge(pEnd) {
    this.set("p-end", { word: `${Math.round(pEnd * 100)} %`, text: pEnd < 0.5 ? "more may come" : "it may answer", at: pEnd });
  }

  /** Nothing of it is known any more. */
  forget() {
    this.points = [];
    this.shown = [];
    for (const id of ["pitch", "energy", "rate", "label"]) this.set(id, null);
    this.draw();
  }

  set(id, found) {
    const place = this.root.querySelector(`#${id}`);
    const dot = place.querySelector("i");
    place.querySelector("b").textContent = found?.word ?? "–";
    place.querySelector("small").textContent = found?.text ?? "nothing measured";
    dot.style.setProperty("--at", found?.at ?? 0);
    dot.style.setProperty("--seen", found === null ? 0 : 1);
  }
}
