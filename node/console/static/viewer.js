/* The slice viewer of the console: it draws slices that the node decodes, and what a reading found in them.
 * A point in an image is [column, row] from the outer corner of its first pixel, as in a structured report (PS3.3
 * C.18.6.1.1); a position is [x, y, z] in LPS mm. `window.sliceViewer` has the geometry as pure functions. */
"use strict";
(() => {
  if (window.sliceViewer) return;

  // ---- Geometry ---------------------------------------------------------------------------------------------------
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** Return how an image of a plane lies in a canvas of a width and a height, in the pixels of the page. */
  function placement(plane, view, width, height) {
    const across = Math.min(width / plane.columns, height / (plane.rows * plane.aspect)) * view.zoom;
    const down = across * plane.aspect;
    const [x, y] = [width / 2 + view.x - (plane.columns * across) / 2, height / 2 + view.y - (plane.rows * down) / 2];
    return { across, down, x, y }; // the size of a pixel of the image, and where the image begins
  }

  const toCanvas = (place, [column, row]) => [place.x + column * place.across, place.y + row * place.down];
  const toImage = (place, [x, y]) => [(x - place.x) / place.across, (y - place.y) / place.down];
  const holds = (plane, [column, row]) => column >= 0 && row >= 0 && column < plane.columns && row < plane.rows;

  /** Return the position of a point of an image; null where the header has no geometry. */
  function toPosition(plane, origin, [column, row]) {
    if (!origin || !plane.axes || !plane.spacing) return null;
    const [along, below] = [(column - 0.5) * plane.spacing[1], (row - 0.5) * plane.spacing[0]];
    return origin.map((value, axis) => value + along * plane.axes[0][axis] + below * plane.axes[1][axis]);
  }

  /** Return the point of a position in an image, and its distance from the plane of the image in mm. */
  function toPoint(plane, origin, position) {
    if (!origin || !plane.axes || !plane.spacing) return null;
    const offset = position.map((value, axis) => value - origin[axis]);
    const [across, down] = plane.axes;
    const point = [dot(offset, across) / plane.spacing[1] + 0.5, dot(offset, down) / plane.spacing[0] + 0.5];
    return { point, distance: Math.abs(dot(offset, cross(across, down))) };
  }

  /** Return the rectangle of a text near its region: in the picture, over as little as may be of the places taken. */
  function labelPlace([left, top, right, bottom], [wide, high], taken, [width, height]) {
    const columns = [left, right - wide].map((x) => clamp(x, 2, Math.max(width - wide - 2, 2)));
    const lines = [0, 1, 2, 3].flatMap((line) => [top - 2 - (line + 1) * high, bottom + 2 + line * high]);
    const near = lines.flatMap((y) => columns.map((x) => [x, y]));
    near.splice(4, 0, [right + 4, top], [left - wide - 4, top]);
    near.push([columns[0], clamp(top + 2, 2, Math.max(height - high - 2, 2))]); // a region larger than the picture
    const share = (a, b, axis) => Math.max(Math.min(a[axis + 2], b[axis + 2]) - Math.max(a[axis], b[axis]), 0);
    const covered = (spot) => taken.reduce((sum, other) => sum + share(spot, other, 0) * share(spot, other, 1), 0);
    const spots = near.map(([x, y]) => [x, y, x + wide, y + high]);
    const seen = spots.filter((spot) => spot[0] >= 0 && spot[1] >= 0 && spot[2] <= width && spot[3] <= height);
    return (seen.length ? seen : spots.slice(-1)).reduce((a, b) => (covered(b) < covered(a) ? b : a));
  }

  // ---- Slices -----------------------------------------------------------------------------------------------------
  const [MOST_BYTES, MOST_REQUESTS] = [(navigator.deviceMemory || 4) <= 2 ? 96e6 : 256e6, 3];
  const ORDER = [0, 1, 2, 3, -1, 4, 5, -2, 6, 7, 8]; // ahead, where the scrolling goes

  /** Fetch JSON or bytes; an error has words for the page. */
  async function fetched(address, kind) {
    const answer = await fetch(address);
    if (answer.redirected) throw new Error("You are logged out; load the page again.");
    if (answer.ok) return answer[kind]();
    const reason = await answer.json().catch(() => ({}));
    throw new Error(reason.reason || `The node answered ${answer.status}; load the page again.`);
  }

  /** Return the head and the values of a slice (`slice_values.py`). */
  function unpacked(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const values = head.kind === "color" ? new Uint8Array(buffer, 4 + length) : new Uint16Array(buffer, 4 + length);
    return { ...head, values };
  }

  /** Loads slices, the nearest first, and forgets those that were not looked at for long. */
  class Slices {
    constructor(base, series, onChange) {
      Object.assign(this, { base, series, onChange, kept: new Map(), failed: new Map(), running: 0, bytes: 0, target: 0 });
    }

    at(number) {
      const slice = this.kept.get(number);
      if (slice && this.kept.delete(number)) this.kept.set(number, slice); // the last is the newest
      return slice;
    }

    aim(number) {
      Object.assign(this, { step: number < this.target ? -1 : 1, target: number });
      if (this.failed.get(number)) this.failed.delete(number); // another try
      this.load();
    }

    wanted() {
      const isWanted = (number) => this.series.slices[number] && !this.kept.has(number) && !this.failed.has(number);
      return ORDER.map((offset) => this.target + offset * this.step).find(isWanted);
    }

    async load() {
      const number = this.wanted();
      if (number === undefined || this.closed || this.running >= MOST_REQUESTS) return;
      const { uid, frame } = this.series.slices[number];
      const address = new URL(`slices/${encodeURIComponent(uid)}/${frame}${this.series.query}`, this.base);
      this.running += 1;
      this.failed.set(number, ""); // nobody asks for the slice meanwhile
      this.load();
      try {
        this.keep(number, unpacked(await fetched(address, "arrayBuffer")));
        this.failed.delete(number);
      } catch (error) {
        this.failed.set(number, error.message);
      }
      this.running -= 1;
      if (!this.closed) this.onChange();
      this.load();
    }

    keep(number, slice) {
      this.kept.set(number, slice);
      this.bytes += slice.values.byteLength;
      for (const [other, old] of this.kept) {
        if (this.bytes <= MOST_BYTES || other === this.target || other === number) continue;
        if (this.kept.delete(other)) this.bytes -= old.values.byteLength;
      }
    }
  }

  // ---- Pictures ---------------------------------------------------------------------------------------------------
  /** Make a canvas as large as a grid of values; return its context, and an image to fill. */
  function blank(canvas, { rows, columns }) {
    const context = Object.assign(canvas, { width: columns, height: rows }).getContext("2d");
    return [context, context.createImageData(columns, rows)];
  }

  /** Draw a slice through a window into a canvas of its own, a canvas pixel for a value. */
  function develop(canvas, slice, [center, width], inverted) {
    const [context, image] = blank(canvas, slice);
    const [pixels, values] = [new Uint32Array(image.data.buffer), slice.values];
    if (slice.kind === "color") {
      const color = (n) => 0xff000000 | (values[n + 2] << 16) | (values[n + 1] << 8) | values[n];
      for (let n = 0; n < pixels.length; n += 1) pixels[n] = color(3 * n);
    } else {
      const shades = shadesOf(slice, center, width, inverted !== slice.inverted);
      for (let n = 0; n < pixels.length; n += 1) pixels[n] = shades[values[n]];
    }
    context.putImageData(image, 0, 0);
  }

  function shadesOf(slice, center, width, isInverted) {
    return new Uint32Array(65536).map((_, stored) => {
      const share = clamp((stored * slice.step + slice.base - center) / width + 0.5, 0, 1);
      return 0xff000000 | (Math.round(255 * (isInverted ? 1 - share : share)) * 0x010101);
    });
  }

  // From violet over red to yellow, as in the captures.
  const HEAT = [[105, 38, 154], [187, 33, 121], [226, 74, 73], [236, 138, 40], [247, 224, 84]];

  /** Return a canvas of a saliency map: the color and the opacity grow with the value. */
  function heatMap(map, bytes) {
    const canvas = document.createElement("canvas");
    const [context, image] = blank(canvas, map);
    bytes.forEach((value, n) => {
      const place = (value / 255) * (HEAT.length - 1);
      const first = Math.min(Math.floor(place), HEAT.length - 2);
      const mixed = HEAT[first].map((low, band) => low + (place - first) * (HEAT[first + 1][band] - low));
      image.data.set([...mixed, value], 4 * n);
    });
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // ---- The viewer -------------------------------------------------------------------------------------------------
  const WHOLE = { zoom: 1, x: 0, y: 0 };
  const [LINE, MARK, HALO] = ["#ffd400", "#4fd8ff", "rgba(0, 0, 0, 0.75)"];
  const FONT = "600 14px system-ui, sans-serif";
  const step = (count) => (v) => v.go(v.number + count);
  const KEYS = {
    ArrowUp: step(-1), ArrowDown: step(1), ArrowLeft: step(-1), ArrowRight: step(1),
    "Shift ArrowUp": (v) => v.pan(0, 30), "Shift ArrowDown": (v) => v.pan(0, -30),
    "Shift ArrowLeft": (v) => v.pan(30, 0), "Shift ArrowRight": (v) => v.pan(-30, 0),
    PageUp: step(-10), PageDown: step(10), Home: step(-Infinity), End: step(Infinity),
    "+": (v) => v.zoom(1.25), "=": (v) => v.zoom(1.25), "-": (v) => v.zoom(0.8),
    r: (v) => v.reset(), 0: (v) => v.reset(), i: (v) => v.set({ inverted: !v.inverted }), o: (v) => v.toggleRegions(),
    "[": (v) => v.changeWindow(0, 1 / 1.1), "]": (v) => v.changeWindow(0, 1.1),
    ",": (v) => v.changeWindow(0.05, 1), ".": (v) => v.changeWindow(-0.05, 1),
    n: (v) => v.nextFinding(1), p: (v) => v.nextFinding(-1), Enter: (v) => v.mark([v.width / 2, v.height / 2]),
  };
  const BUTTONS = { in: "+", out: "-", reset: "r", invert: "i", regions: "o" };
  const EVENTS = { keydown: "onKey", wheel: "onWheel", pointerdown: "onDown", pointermove: "onMove", pointerup: "onUp",
    pointercancel: "onUp" };
  const DRAGS = {
    window: (v, dx, dy) => v.changeWindow(dy / v.height, Math.exp((2 * dx) / v.width)),
    pan: (v, dx, dy) => v.pan(dx, dy), zoom: (v, dx, dy) => v.zoom(Math.exp(-dy / 200)),
    scroll: (v, dx, dy) => v.scroll(dy),
  };

  class Viewer {
    constructor(figure) {
      Object.assign(this, { figure, part: (name) => figure.querySelector(`[data-part="${name}"]`) });
      this.canvas = this.part("canvas");
      const [stage, raster] = [this.canvas.parentElement, document.createElement("canvas")];
      Object.assign(this, { stage, raster, pointers: new Map(), drawsRegions: true });
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.stage);
      this.open(figure.dataset.viewer);
    }

    async open(address) {
      const base = new URL(address, document.baseURI);
      if (this.slices) this.slices.closed = true;
      Object.assign(this, { series: null, overlays: { regions: [], saliency: [] }, base, number: 0, point: null });
      Object.assign(this, { maps: new Map(), view: WHOLE, window: null, inverted: false, rest: 0 });
      this.say("Loading the series …");
      try {
        const series = await fetched(base, "json");
        if (this.base !== base) return;
        this.series = series;
        this.slices = new Slices(base, series, () => this.draw());
        this.fillControls();
        this.go((this.start = Math.floor(series.slices.length / 2)));
        const overlays = await fetched(new URL(`overlays.json${series.query}`, base), "json");
        if (this.base !== base) return;
        this.overlays = overlays;
        this.fillOverlays();
      } catch (error) {
        if (this.base === base) this.say(error.message);
      }
    }

    get width() { return this.stage.clientWidth; }
    get height() { return this.stage.clientHeight; }
    get entry() { return this.series.slices[this.number]; }
    get plane() { return this.series.planes[this.entry.plane]; }
    get slice() { return this.slices.at(this.number); }
    get shownWindow() { return this.window || this.series.window || this.slice?.window; }
    get opacity() { return this.part("opacity").value / 100; }
    get map() { // the saliency over the slice that is shown: of the title that was chosen, else of any
      const maps = this.overlays.saliency.filter((map) => map.image === this.entry.uid && this.opacity);
      return maps.find((map) => map.title === this.part("map").value) || maps[0];
    }
    get place() { return placement(this.plane, this.view, this.width, this.height); }

    // ---- What a person does
    set(values) { Object.assign(this, values).draw(); }

    go(number) {
      if (!this.series) return;
      this.set({ number: clamp(number, 0, this.series.slices.length - 1) });
      this.slices.aim(this.number);
    }

    scroll(distance) {
      const step = Math.max(6, this.height / this.series.slices.length / 2);
      const count = Math.trunc((this.rest + distance) / step);
      this.rest += distance - count * step;
      if (count) this.go(this.number + count);
    }

    /** Zoom so that the point of the image below a place of the canvas stays. */
    zoom(factor, [x, y] = [this.width / 2, this.height / 2]) {
      const zoom = clamp(this.view.zoom * factor, 0.25, 40);
      const [change, from] = [zoom / this.view.zoom, [x - this.width / 2, y - this.height / 2]];
      const [left, top] = [from[0] + (this.view.x - from[0]) * change, from[1] + (this.view.y - from[1]) * change];
      this.set({ view: { zoom, x: left, y: top } });
    }

    pan(dx, dy) { this.set({ view: { ...this.view, x: this.view.x + dx, y: this.view.y + dy } }); }
    reset() { this.set({ view: WHOLE, inverted: false }); this.preset(""); }

    toggleRegions() {
      this.set({ drawsRegions: !this.drawsRegions });
      this.part("regions").setAttribute("aria-pressed", String(this.drawsRegions));
    }

    changeWindow(share, factor) {
      const [center, width] = this.shownWindow || [0, 0];
      if (!width) return;
      this.set({ window: [center + share * width, clamp(width * factor, 1e-6, 1e7)] });
      this.part("preset").value = "";
    }

    preset(text) {
      const choice = text && this.series.windows[text];
      this.set({ window: choice ? [choice.center, choice.width] : null });
      this.part("preset").value = choice ? text : "";
    }

    nextFinding(step) {
      const numbers = [...this.part("findings").children].map(({ dataset }) => +dataset.go).sort((a, b) => (a - b) * step);
      this.go(numbers.find((number) => (number - this.number) * step > 0) ?? numbers[0] ?? this.number);
    }

    /** Mark the point of the image below a place of the canvas: fill the inputs of the page, and tell the page. */
    mark(place) {
      if (!("point" in this.figure.dataset) || !this.series) return;
      const [{ plane, entry }, point] = [this, toImage(this.place, place)];
      if (!holds(plane, point)) return;
      const position = toPosition(plane, entry.origin, point);
      const index = [Math.floor(point[0]), Math.floor(point[1]), entry.index];
      this.set({ point: { point, number: this.number } });
      const values = [...(position || ["", "", ""]).map((value) => value && value.toFixed(1)), ...index];
      for (const [n, value] of values.entries()) {
        const input = document.getElementById(`${this.figure.dataset.point}-${"xyzijk"[n]}`);
        if (input) Object.assign(input, { value }).dispatchEvent(new Event("change", { bubbles: true }));
      }
      const detail = { position, index, uid: entry.uid, frame: entry.frame };
      this.figure.dispatchEvent(new CustomEvent("viewer:point", { bubbles: true, detail }));
    }

    listen() {
      const on = (target, kind, act) =>
        target.addEventListener(kind, (event) => this.series && act(event), { passive: false });
      for (const [kind, act] of Object.entries(EVENTS)) on(this.stage, kind, (event) => this[act](event));
      on(this.stage, "pointerleave", () => this.readOut(null));
      on(this.stage, "contextmenu", (event) => event.preventDefault());
      on(this.part("slider"), "input", (event) => this.go(Number(event.target.value) - 1));
      on(this.part("preset"), "change", (event) => this.preset(event.target.value));
      on(this.part("opacity"), "input", () => this.draw());
      on(this.part("map"), "input", (event) => this.showMap(event.target.value));
      on(this.figure, "click", (event) => {
        const button = event.target.closest("[data-do], [data-go]");
        if (button?.dataset.go) this.go(Number(button.dataset.go));
        else if (button) KEYS[BUTTONS[button.dataset.do]](this);
      });
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = KEYS[`${event.shiftKey ? "Shift " : ""}${event.key}`] || KEYS[event.key];
      if (act) act(this);
      else if (/^[1-9]$/.test(event.key) && this.series.windows[event.key - 1]) this.preset(String(event.key - 1));
      else return;
      event.preventDefault();
    }

    onWheel(event) {
      const distance = event.deltaMode ? event.deltaY * 20 : event.deltaY;
      const end = distance < 0 ? 0 : this.series.slices.length - 1;
      if (!event.ctrlKey && this.number === end) return; // the page scrolls on
      event.preventDefault();
      if (event.ctrlKey) this.zoom(Math.exp(-distance / 300), this.at(event));
      else if (Math.abs(distance) >= 50) this.go(this.number + Math.sign(distance)); // a notch of a wheel
      else this.scroll(distance);
    }

    at(event) {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    onDown(event) {
      this.stage.focus({ preventScroll: true });
      this.stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.at(event));
      this.moved = this.pointers.size > 1 ? Infinity : 0;
      this.drag = this.dragOf(event);
      event.preventDefault();
    }

    dragOf(event) {
      if (event.button === 1 || event.shiftKey) return "pan";
      if (event.button === 2) return "zoom";
      if (this.part("drag").value) return this.part("drag").value;
      if (event.pointerType !== "touch") return "window";
      return this.series.slices.length > 1 && this.view.zoom === 1 ? "scroll" : "pan";
    }

    onMove(event) {
      const [x, y] = (this.hover = this.at(event));
      const before = this.pointers.get(event.pointerId);
      if (!before) return this.readOut(this.hover);
      this.pointers.set(event.pointerId, [x, y]);
      if (this.pointers.size > 1) return this.pinch(event.pointerId, before);
      this.moved += Math.hypot(x - before[0], y - before[1]);
      if (this.moved > 4) DRAGS[this.drag](this, x - before[0], y - before[1]);
    }

    pinch(moved, before) {
      const now = this.pointers.get(moved);
      const other = [...this.pointers.values()].find((place) => place !== now);
      const length = (a) => Math.max(Math.hypot(a[0] - other[0], a[1] - other[1]), 1);
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.zoom(length(now) / length(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    }

    onUp(event) {
      const place = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (!place || event.type !== "pointerup" || this.moved > 4 || event.button) return;
      this.mark(place);
      this.readOut(place);
    }

    readOut(place) {
      const { slice, plane, entry } = this;
      const [column, row] = toImage(this.place, place || [-Infinity, 0]);
      Object.assign(this, { hover: place }).part("cursor").textContent = "";
      if (!slice || !holds(plane, [column, row])) return;
      const at = Math.floor(row / slice.factor) * slice.columns + Math.floor(column / slice.factor);
      const value = slice.kind === "color"
        ? `RGB ${Array.from(slice.values.subarray(3 * at, 3 * at + 3)).join(" ")}`
        : `${Number((slice.values[at] * slice.step + slice.base).toPrecision(5))} ${slice.unit}`;
      const position = toPosition(plane, entry.origin, [column, row]);
      const where = position ? `, ${position.map((number) => number.toFixed(1)).join(" ")} mm` : "";
      this.part("cursor").textContent = `${value} at column ${Math.floor(column)}, row ${Math.floor(row)}${where}`;
    }

    // ---- What the page shows
    say(text) { Object.assign(this.part("message"), { textContent: text, hidden: !text }); }

    fillControls() {
      const { slices, windows, window_label } = this.series;
      Object.assign(this.part("slider"), { min: 1, max: slices.length, value: 1 });
      this.part("slices").hidden = slices.length === 1;
      const options = [[window_label, ""], ...windows.map(({ label }, n) => [label, n])];
      this.part("preset").replaceChildren(...options.map((option) => new Option(...option)));
      this.fillOverlays();
    }

    fillOverlays() {
      const { regions, saliency } = this.overlays;
      const own = saliency.map((map) => ({ ...map, frame: 0 })).filter((map) => this.sliceOf(map) >= 0); // of this series
      const titles = [...new Set(own.map((map) => map.title))];
      const counts = { saliency: titles.length, map: titles.length - 1, regions: regions.length };
      for (const [part, count] of Object.entries(counts)) this.part(part).hidden = count < 1;
      this.part("map").replaceChildren(...titles.map((title) => new Option(title, title)));
      const places = [...regions, ...own.map((map) => ({ ...map, label: `saliency: ${map.title}` }))]
        .map((place) => ({ ...place, number: this.sliceOf(place), key: place.finding || place.label }))
        .filter(({ number }) => number >= 0 && this.series.slices.length > 1);
      const isNamed = (place) => ({ key, label, number }) =>
        key === place.key || (number === place.number && (place.title ? place.title.includes(key) : label === place.label));
      const entries = places.filter((place, n) => !places.slice(0, n).some(isNamed(place)));
      this.part("findings").replaceChildren(...entries.map(({ label, number }) => this.placeButton(label, number)));
      this.go((this.number === this.start ? entries[0]?.number : undefined) ?? this.number);
    }

    placeButton(name, number) {
      const text = name.includes(`slice ${number + 1} of `) ? name : `${name} (slice ${number + 1})`;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet" });
      button.dataset.go = number;
      return Object.assign(button, { textContent: text });
    }

    showMap(title) { // on this slice, else where the map lies
      const map = this.overlays.saliency.find((map) => map.title === title);
      const number = this.map?.title === title ? this.number : this.sliceOf({ ...map, frame: 0 });
      this.go(number < 0 ? this.number : number);
    }

    /** Return the number of the slice on which a region lies, or its middle; -1 if it lies on none. */
    sliceOf(region) {
      const numbers = [...this.series.slices.keys()].filter((number) => this.pointsOn(region, number));
      return numbers.length ? numbers[Math.floor(numbers.length / 2)] : -1;
    }

    pointsOn(region, number) {
      const item = this.series.slices[number];
      if (region.image) return region.image === item.uid && region.frame === item.frame ? region.points ?? [] : null;
      if (region.frame_of_reference !== this.series.frame_of_reference) return null;
      const plane = this.series.planes[item.plane];
      const places = region.positions.map((position) => toPoint(plane, item.origin, position));
      const reach = (this.series.step_mm || 1) / 2 + 1e-3;
      return places.every((place) => place && place.distance <= reach) ? places.map((place) => place.point) : null;
    }

    draw() {
      this.pending ||= this.series && requestAnimationFrame(() => { this.pending = 0; this.paint(); });
    }

    paint() {
      const { slice, canvas, width, height, place, plane } = this;
      const ratio = window.devicePixelRatio || 1;
      if (!width || !height) return;
      Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.say(slice ? "" : this.slices.failed.get(this.number) || "Loading …");
      this.describe();
      this.readOut(this.hover); // the slice below the pointer may be another
      if (!slice) return;
      this.paintImage(context, slice, place);
      if (this.drawsRegions) this.paintRegions(context, place);
      if (this.point?.number === this.number) this.paintMark(context, toCanvas(place, this.point.point));
      if (plane.letters) this.paintLetters(context, plane.letters);
    }

    paintImage(context, slice, place) {
      const window = this.shownWindow || [0, 1];
      const key = [this.base, this.number, ...window, this.inverted].join();
      if (this.developed !== key) develop(this.raster, slice, window, this.inverted);
      this.developed = key;
      context.save();
      context.beginPath();
      context.rect(place.x, place.y, this.plane.columns * place.across, this.plane.rows * place.down);
      context.clip();
      context.imageSmoothingQuality = "high";
      context.imageSmoothingEnabled = place.across * slice.factor * devicePixelRatio < 6; // large pixels are squares
      const [across, down] = [place.across * slice.factor, place.down * slice.factor];
      context.drawImage(this.raster, place.x, place.y, slice.columns * across, slice.rows * down);
      this.paintSaliency(context, place);
      context.restore();
    }

    paintSaliency(context, place) {
      const [heat, { columns, rows }] = [this.map && this.heatOf(this.map), this.plane];
      Object.assign(context, { imageSmoothingEnabled: true, globalAlpha: this.opacity });
      if (heat) context.drawImage(heat, place.x, place.y, columns * place.across, rows * place.down);
    }

    heatOf(map) {
      if (!this.maps.has(map.address)) {
        const maps = this.maps.set(map.address, null);
        fetched(new URL(map.address + this.series.query, this.base), "arrayBuffer")
          .then((buffer) => { maps.set(map.address, heatMap(map, new Uint8Array(buffer))); this.draw(); })
          .catch((error) => this.say(error.message));
      }
      return this.maps.get(map.address);
    }

    paintRegions(context, place) {
      const labels = [];
      for (const region of this.overlays.regions) {
        const points = this.pointsOn(region, this.number);
        if (!points?.length) continue;
        const ends = (region.type === "POLYGON" ? [...points, points[0]] : points).map((end) => toCanvas(place, end));
        if (ends.length === 1) this.paintMark(context, ends[0], LINE);
        else this.stroke(context, LINE, ends);
        const [margin, sides] = [ends.length === 1 ? 14 : 2, [0, 1].map((axis) => ends.map((end) => end[axis]))];
        const far = ([most, more]) => sides.map((side) => most(...side) + more);
        labels.push([region.label, [[Math.min, -margin], [Math.max, margin]].flatMap(far)]);
      }
      const taken = labels.map(([, bounds]) => bounds);
      context.font = FONT;
      const meets = (a, b) => [0, 1].every((axis) => a[axis] <= b[axis + 2] && b[axis] <= a[axis + 2]);
      labels.forEach(([label, bounds], n) => { // a box and the outline in the box have one label
        if (!label || labels.slice(0, n).some(([other, place]) => other === label && meets(place, bounds))) return;
        taken.push(labelPlace(bounds, [context.measureText(label).width, 18], taken, [this.width, this.height]));
        this.write(context, label, taken.at(-1)[0], taken.at(-1)[3] - 5, LINE);
      });
    }

    paintMark(context, [x, y], color = MARK) {
      for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]])
        this.stroke(context, color, [4, 14].map((far) => [x + far * right, y + far * down]));
    }

    paintLetters(context, letters) {
      const [x, y, right] = [this.width / 2, this.height / 2, this.width - 8 - 10 * letters.right.length];
      const places = { left: [8, y], right: [right, y], top: [x, 18], bottom: [x, 2 * y - 8] };
      for (const [edge, place] of Object.entries(places)) this.write(context, letters[edge], ...place, "#fff");
    }

    /** Draw a line of two colors, which is seen on black and on white. */
    stroke(context, color, ends) {
      const path = new Path2D();
      for (const end of ends) path.lineTo(...end);
      for (const [strokeStyle, lineWidth] of [[HALO, 4], [color, 2]]) {
        Object.assign(context, { strokeStyle, lineWidth, lineJoin: "round" }).stroke(path);
      }
    }

    write(context, text, x, y, color) {
      Object.assign(context, { font: FONT, strokeStyle: HALO, lineWidth: 4, fillStyle: color }).strokeText(text, x, y);
      context.fillText(text, x, y);
    }

    describe() {
      const { series: { slices: { length: count } }, entry, slice, map } = this;
      const text = `Slice ${this.number + 1} of ${count}${entry.words}`;
      this.part("slider").value = this.number + 1;
      this.part("slider").setAttribute("aria-valuetext", text);
      const [center, width] = (this.shownWindow || []).map((n, _, [, wide]) => Number(n.toFixed(wide < 10 ? 3 : 0)));
      const words = [this.series.name, count > 1 && text, width && `window ${center} / ${width} ${slice?.unit ?? ""}`];
      if (map) this.part("map").value = map.title;
      if (map) words.push(`saliency ${Math.round(100 * this.opacity)} %: ${map.title}`);
      this.part("status").textContent = words.filter(Boolean).join(" · ");
    }
  }

  // ---- Pages ------------------------------------------------------------------------------------------------------
  const start = (root) =>
    root.querySelectorAll("[data-viewer]").forEach((figure) => { figure.viewer ??= new Viewer(figure); });

  // A link with `data-viewer-show` shows the series at that address in the viewer before the link, or in the first.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-viewer-show]");
    const isBefore = (figure) => figure.compareDocumentPosition(link) & Node.DOCUMENT_POSITION_FOLLOWING;
    const figures = link ? [...document.querySelectorAll("[data-viewer]")] : [];
    const figure = figures.filter(isBefore).pop() || figures[0];
    if (!figure?.viewer || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    figure.viewer.open(link.dataset.viewerShow);
    figure.scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("htmx:load", (event) => start(event.target.parentElement || document));
  window.sliceViewer = { placement, toCanvas, toImage, toPosition, toPoint, labelPlace };
  start(document); // the script is deferred
})();
