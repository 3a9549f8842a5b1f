// Values of a threshold that are moved: a mask of its own, and objects of what is visible.

import { ask, element, layerNamed, removeLayer, section, showLayer, visibleBox } from "./server.js";

const SETTLED_MS = 120;
const STILL_MS = 700;
const MASK = "tried mask";
const OBJECTS = "tried objects";
const FROM_AFAR = "zoomed out, the mask is made of coarser probabilities: an approximation";
const RANGES = { threshold: [0, 1, 0.01], core: [0, 1, 0.01], final: [0, 1, 0.01], sigma: [0, 8, 0.1] };

export class Trials {
  constructor(about) {
    this.about = about;
    this.asked = 0;
    this.fields = element("div");
    this.say = element("div", { className: "note" });
    this.withObjects = element("input", { type: "checkbox" });
    // Of a link that was opened: objects that are not wanted are removed as soon as the view moves.
    this.withObjects.checked = viewer.layerManager.managedLayers.some((layer) => layer.name.startsWith(OBJECTS));
    this.withObjects.onchange = () => this.objectsSoon(0);
    const use = element("button", { textContent: "use these", title: "write them into a configuration file beside the first one" });
    const end = element("button", { textContent: "back", title: "to the values of the configuration" });
    use.onclick = () => this.use();
    end.onclick = () => this.end();
    this.section = section(
      "Try other values",
      this.fields,
      element("div", { className: "row" }, element("label", {}, this.withObjects, " objects of what is visible")),
      element("div", { className: "row" }, use, " ", end),
      this.say,
    );
    const { name, values } = about.shown ?? about.thresholds[0];
    this.fill(name, values);
    viewer.position.changed.add(() => this.objectsSoon(STILL_MS));
    viewer.crossSectionScale?.changed?.add(() => this.objectsSoon(STILL_MS));
  }

  // Fields for the values of a threshold.
  fill(name, values) {
    this.name = name;
    this.values = { ...values };
    const rows = [];
    if (this.about.thresholds.length > 1) {
      const options = this.about.thresholds.map((one) => ({ value: one.name, text: one.name }));
      rows.push(this.choice("of", options, name, (chosen) => {
        const found = this.about.thresholds.find((one) => one.name === chosen);
        this.fill(chosen, found.values);
      }));
    }
    const classes = this.about.classes.map((one) => ({ value: one.index, text: one.name }));
    const index = this.about.classes.find((one) => one.name === values.class || one.index === values.class)?.index;
    rows.push(this.choice("class", classes, index, (chosen) => this.set("class", Number(chosen))));
    const methods = [{ value: "simple", text: "one threshold" }, { value: "hysteresis", text: "core and final" }];
    rows.push(this.choice("method", methods, values.method ?? "simple", (chosen) => this.setMethod(chosen)));
    for (const key of (values.method ?? "simple") === "simple" ? ["threshold"] : ["core", "final"]) rows.push(this.slider(key));
    rows.push(Array.isArray(values.sigma) ? this.text("sigma") : this.slider("sigma"));
    this.fields.replaceChildren(...rows);
  }

  choice(key, options, value, change) {
    const field = element("select", { name: key }, ...options.map((one) => element("option", { value: one.value, textContent: one.text })));
    field.value = value;
    field.onchange = () => change(field.value);
    return element("div", { className: "value" }, key, field);
  }

  slider(key) {
    const [min, max, step] = RANGES[key];
    const value = this.values[key];
    const slide = element("input", { type: "range", name: key, min, max: Math.max(max, value), step: "any", value });
    const number = element("input", { type: "number", min, step, value });
    slide.oninput = () => {
      number.value = Math.round(slide.value / step) * step === 0 ? 0 : Number((Math.round(slide.value / step) * step).toFixed(3));
      this.set(key, Number(number.value));
    };
    number.onchange = () => {
      slide.value = number.value;
      this.set(key, Number(number.value));
    };
    return element("div", { className: "value" }, key, slide, number);
  }

  text(key) {
    const field = element("input", { type: "text", className: "wide", name: key, value: this.values[key].join(", ") });
    field.onchange = () => this.set(key, field.value.split(",").map(Number));
    return element("div", { className: "value" }, key, field);
  }

  set(key, value) {
    this.values[key] = value;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(), SETTLED_MS);
  }

  setMethod(method) {
    const { threshold, core, final, ...others } = this.values;
    const level = threshold ?? final;
    const levels = method === "simple" ? { threshold: level } : { core: Math.min(1, Number((level + 0.2).toFixed(3))), final: level };
    this.fill(this.name, { ...others, method, ...levels });
    this.show();
  }

  request() {
    return { name: this.name, values: this.values };
  }

  // The mask of the present values; answers that come late are passed over.
  async show() {
    const number = ++this.asked;
    try {
      const found = await ask("trials", this.request());
      if (number !== this.asked) return;
      this.say.className = "note";
      this.say.textContent = found.of_the_run ? "these are the values of the configuration" : FROM_AFAR;
      for (const layer of viewer.layerManager.managedLayers) {
        if (/^(mask|objects|cores)/.test(layer.name)) layer.setVisible(false);
      }
      showLayer(found.layer);
      this.objectsSoon(STILL_MS);
    } catch (error) {
      this.complain(error);
    }
  }

  objectsSoon(pause) {
    clearTimeout(this.still);
    if (!this.withObjects.checked) this.removeObjects();
    else this.still = setTimeout(() => this.showObjects(), pause);
  }

  async showObjects() {
    const number = this.asked;
    try {
      const found = await ask("trials/objects", { ...this.request(), ...visibleBox() });
      if (number !== this.asked || !this.withObjects.checked) return;
      for (const layer of [...viewer.layerManager.managedLayers]) {
        if (layer.name.startsWith(OBJECTS) && layer.name !== found.layer.name) removeLayer(layer.name);
      }
      showLayer(found.layer);
      this.say.className = "note";
      this.say.textContent = found.provisional
        ? `${found.objects} objects, provisional: they end at the visible box, ${[...found.axes].map((a, i) => `${a} ${found.start[i]} to ${found.stop[i]}`).join(", ")}`
        : "these objects are those that the run has made";
    } catch (error) {
      this.complain(error);
    }
  }

  removeObjects() {
    for (const layer of [...viewer.layerManager.managedLayers]) {
      if (layer.name.startsWith(OBJECTS)) removeLayer(layer.name);
    }
  }

  async use() {
    try {
      const { path } = await ask("trials/configuration", this.request());
      this.say.className = "note";
      this.say.textContent = `written: ${path}. A run with it replaces this threshold's results, and computes no prediction again.`;
    } catch (error) {
      this.complain(error);
    }
  }

  end() {
    ++this.asked;
    clearTimeout(this.timer);
    this.withObjects.checked = false;
    this.objectsSoon(0);
    if (layerNamed(MASK)) removeLayer(MASK);
    for (const layer of viewer.layerManager.managedLayers) {
      if (/^objects/.test(layer.name)) layer.setVisible(true);
    }
    this.say.textContent = "";
    const { values } = this.about.thresholds.find((one) => one.name === this.name);
    this.fill(this.name, values);
  }

  complain(error) {
    this.say.className = "bad";
    this.say.textContent = error.message;
  }
}

// Fingerprint of the mask that a link shows, if it shows one.
export function fingerprintShown() {
  const url = layerNamed(MASK)?.layer?.dataSources[0]?.spec.url ?? "";
  return url.replace(/\/$/, "").split("/").pop();
}
