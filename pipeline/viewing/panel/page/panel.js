// The panel beside the viewer.

import { BlockMap } from "./blockmap.js";
import { progress } from "./progress.js";
import { ask, element, viewerThere } from "./server.js";
import { Trials, fingerprintShown } from "./trials.js";

const panel = document.getElementById("panel");

const PATIENCE_MS = 5000;

// The edges of the volume come after the first picture, in which their programs would take the longest to compile; or
// after a while, where voxels have to be computed first.
async function showEdges() {
  const begun = performance.now();
  while (!viewer.isReady() && performance.now() - begun < PATIENCE_MS) await new Promise((done) => setTimeout(done, 50));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  window.firstLook.remove();
  viewer.showDefaultAnnotations.value = true;
}

async function begin() {
  await viewerThere();
  if (window.firstLook) showEdges();
  const fold = element("button", { className: "fold", textContent: "»", title: "fold the panel" });
  fold.onclick = () => (fold.textContent = panel.classList.toggle("folded") ? "«" : "»");
  const blockMap = new BlockMap();
  const [steps, failed] = progress(blockMap);
  panel.append(fold, steps, failed, blockMap.section);
  try {
    const trials = new Trials(await ask(`trials?fingerprint=${fingerprintShown()}`));
    panel.append(trials.section);
    window.trials = trials;
  } catch (error) {
    panel.append(element("p", { className: "note", textContent: error.message }));
  }
  panel.dataset.ready = "yes";
}

begin();
