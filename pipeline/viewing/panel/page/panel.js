// The panel beside the viewer.

import { BlockMap } from "./blockmap.js";
import { progress } from "./progress.js";
import { ask, element, viewerThere } from "./server.js";
import { Trials, fingerprintShown } from "./trials.js";

const panel = document.getElementById("panel");

async function begin() {
  await viewerThere();
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
