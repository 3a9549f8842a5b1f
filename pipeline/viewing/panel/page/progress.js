// How far the steps are, and what has failed.

import { ask, element, goTo, section, token } from "./server.js";
import { COLOURS } from "./blockmap.js";

const PAUSE_MS = 1500;
const table = element("table");
const failures = element("ul");
const failed = section("Failed blocks", failures);
let chosen = null;

export function progress(blockMap) {
  const choose = (step) => {
    chosen = step;
    blockMap.choose(step);
  };
  failed.hidden = true;
  follow(choose);
  return [section("Steps", table), failed];
}

async function follow(choose) {
  for (;;) {
    let looked = 0;
    try {
      const { steps, looked_s } = await ask("status");
      looked = looked_s;
      chosen ??= steps.find((step) => step.blocks > 1 && step.done < step.blocks)?.step ?? steps[0]?.step ?? null;
      table.replaceChildren(...steps.map((step) => row(step, choose)));
      showFailures(steps);
      if (chosen) choose(chosen);
    } catch (error) {
      table.replaceChildren(element("tr", {}, element("td", { className: "bad", textContent: `no answer: ${error.message}` })));
    }
    // Runs of a million blocks are asked less often.
    await new Promise((done) => setTimeout(done, Math.max(PAUSE_MS, 10 * 1000 * looked)));
  }
}

function row(step, choose) {
  const bar = element("div", { className: "bar" });
  for (const [state, number] of [["d", step.done], ["f", step.failed]]) {
    const part = element("i");
    part.style.cssText = `width: ${(100 * number) / Math.max(step.blocks, 1)}%; background: ${COLOURS[state]}`;
    bar.append(part);
  }
  const made = element(
    "tr",
    { className: step.step === chosen ? "step chosen" : "step", title: "show its blocks" },
    element("td", {}, step.step.replaceAll("_", " "), bar, element("div", { className: "note", textContent: about(step) })),
    element("td", { className: "number", textContent: `${step.done} of ${step.blocks}` }),
  );
  made.dataset.step = step.step;
  made.onclick = () => choose(step.step);
  return made;
}

function about(step) {
  const parts = [];
  if (step.per_second) {
    parts.push(step.per_second < 1 ? `${(60 * step.per_second).toFixed(1)} a minute` : `${step.per_second.toFixed(1)} a second`);
    if (step.done < step.blocks) parts.push(`${duration(step.seconds_left)} left`);
  }
  if (step.wanted) parts.push(`${step.wanted} wanted here`);
  if (step.failed) parts.push(`${step.failed} failed`);
  return parts.join(", ");
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function showFailures(steps) {
  const all = steps.flatMap((step) => step.failures.map((failure) => ({ ...failure, step: step.step })));
  const total = steps.reduce((sum, step) => sum + step.failed, 0);
  failed.hidden = !total;
  const shown = all.map((failure) => {
    const where = element("span", { className: "go", textContent: `${failure.step.replaceAll("_", " ")}, ${failure.title}` });
    where.onclick = () => goTo(failure.middle);
    const log = element("a", { href: `/${token}/api/log/${failure.step}/${failure.block}`, target: "_blank", textContent: "log" });
    const why = element("div", { className: "bad", textContent: `${failure.error}: ${failure.message}` });
    return element("li", {}, where, " ", log, why);
  });
  if (total > all.length) shown.push(element("li", { className: "note", textContent: `and ${total - all.length} more` }));
  // What somebody reads, or is about to click, is not made anew.
  if (shown.map((one) => one.textContent).join() !== failures.dataset.shown) {
    failures.dataset.shown = shown.map((one) => one.textContent).join();
    failures.replaceChildren(...shown);
  }
}
