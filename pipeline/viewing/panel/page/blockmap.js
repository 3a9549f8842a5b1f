// A map of a step's blocks in the plane that is looked at; one clicks to go there.

import { ask, element, goTo, position, section } from "./server.js";

export const COLOURS = { d: "#4caf50", r: "#ffc107", f: "#f44336", w: "#616161", ".": "#1b1b1b" };
const NAMES = { d: "done", r: "running", f: "failed", w: "waiting" };
const WIDTH = 256;
const HEIGHT = 180;

export class BlockMap {
  constructor() {
    this.step = null;
    this.map = null;
    this.canvas = element("canvas", { title: "click to go there" });
    this.about = element("div", { className: "note" });
    this.canvas.onclick = (event) => this.go(event);
    const key = element("div", { className: "note key" });
    for (const [state, name] of Object.entries(NAMES)) {
      const colour = element("i");
      colour.style.background = COLOURS[state];
      key.append(element("span", {}, colour, name));
    }
    this.section = section("Blocks", this.about, this.canvas, key);
    viewer.position.changed.add(() => this.moved());
  }

  async choose(step) {
    this.step = step;
    const { t = 0, z = 0 } = position();
    try {
      const map = await ask(`blocks/${step}?t=${Math.max(t, 0)}&z=${Math.max(z, 0)}`);
      if (step !== this.step) return;
      this.map = map;
      this.draw();
    } catch (error) {
      this.about.textContent = error.message;
    }
  }

  moved() {
    if (!this.map) return;
    const place = this.blockAt(position());
    if (Object.entries(this.map.plane).some(([axis, i]) => place[axis] !== i)) this.choose(this.step);
    else this.draw();
  }

  // Index of the block at a place, by axis.
  blockAt(place) {
    const index = (axis, i) => Math.min(Math.max(Math.floor(place[axis] / this.map.block_shape[i]), 0), Math.ceil(this.map.shape[i] / this.map.block_shape[i]) - 1);
    return Object.fromEntries([...this.map.axes].map((axis, i) => [axis, index(axis, i)]));
  }

  draw() {
    const { rows, columns, states, plane, planes } = this.map;
    const along = this.length("x") / this.length("y");
    this.canvas.width = Math.round(Math.min(WIDTH, HEIGHT * along));
    this.canvas.height = Math.max(8, Math.round(Math.min(HEIGHT, WIDTH / along)));
    const [w, h] = [this.canvas.width / columns, this.canvas.height / rows];
    const gap = Math.min(w, h) > 5 ? 1 : 0;
    const pen = this.canvas.getContext("2d");
    for (let i = 0; i < states.length; ++i) {
      pen.fillStyle = COLOURS[states[i]];
      pen.fillRect((i % columns) * w, Math.floor(i / columns) * h, w - gap, h - gap);
    }
    const here = this.blockAt(position());
    pen.strokeStyle = "#fff";
    pen.strokeRect(here.x * w + 0.5, here.y * h + 0.5, Math.max(w - gap - 1, 2), Math.max(h - gap - 1, 2));
    const which = Object.entries(plane).map(([axis, i]) => `, plane ${i + 1} of ${planes[axis]} along ${axis}`);
    this.about.textContent = this.map.step.replaceAll("_", " ") + which.join("");
  }

  // Voxels that the map's columns (x) or rows (y) stand for.
  length(axis) {
    const i = this.map.axes.indexOf(axis);
    return this.map.block_shape[i] * Math.ceil(this.map.shape[i] / this.map.block_shape[i]);
  }

  go(event) {
    if (!this.map) return;
    const { axes, shape, block_shape: block, rows, columns } = this.map;
    const middle = (axis, i) => {
      const along = axes.indexOf(axis);
      return (i * block[along] + Math.min((i + 1) * block[along], shape[along])) / 2;
    };
    const column = Math.min(columns - 1, Math.floor((event.offsetX / this.canvas.clientWidth) * columns));
    const row = Math.min(rows - 1, Math.floor((event.offsetY / this.canvas.clientHeight) * rows));
    goTo({ x: middle("x", column), y: middle("y", row) });
  }
}
