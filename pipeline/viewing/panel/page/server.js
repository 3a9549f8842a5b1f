// What the server is asked, and what the viewer is told.

export const token = location.pathname.split("/")[2];

export async function ask(call, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(`/${token}/api/${call}`, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

export async function viewerThere() {
  while (!(window.viewer && viewer.coordinateSpace.value.valid && viewer.coordinateSpace.value.rank)) {
    await new Promise((done) => setTimeout(done, 50));
  }
}

// Where the middle of the view is, in voxels: {x: .., y: .., z: ..}.
export function position() {
  const { names } = viewer.coordinateSpace.value;
  return Object.fromEntries(names.map((name, i) => [name, Math.floor(viewer.position.value[i])]));
}

export function goTo(place) {
  const { names } = viewer.coordinateSpace.value;
  viewer.position.value = Float32Array.from(names, (name, i) => place[name] ?? viewer.position.value[i]);
}

// Voxels between the edges of all cross-sections: {start: {x: ..}, stop: {x: ..}}.
export function visibleBox() {
  const middle = position();
  const box = { start: { ...middle }, stop: Object.fromEntries(Object.entries(middle).map(([k, v]) => [k, v + 1])) };
  const { names } = viewer.coordinateSpace.value;
  for (const panel of viewer.display.panels) {
    const view = panel.sliceView?.projectionParameters?.value;
    if (!view?.displayDimensionRenderInfo) continue;
    const { displayDimensionIndices, displayDimensionScales } = view.displayDimensionRenderInfo;
    const { viewMatrix, invViewMatrix, width, height } = view;
    if (!viewMatrix || !width || !height) continue;
    for (let i = 0; i < 3; ++i) {
      if (displayDimensionIndices[i] < 0) continue;
      // Columns of the inverse view matrix are the steps of one pixel along the view's axes.
      const reach = (Math.abs(invViewMatrix[i]) * width + Math.abs(invViewMatrix[4 + i]) * height) / 2;
      const name = names[displayDimensionIndices[i]];
      box.start[name] = Math.min(box.start[name], Math.floor(middle[name] - reach));
      box.stop[name] = Math.max(box.stop[name], Math.ceil(middle[name] + reach));
    }
  }
  return box;
}

export function layerNamed(name) {
  return viewer.layerManager.managedLayers.find((layer) => layer.name === name);
}

// Show a layer, in the place of the one of this name if there is one.
export function showLayer(state) {
  const url = state.source.url.replace("{origin}", location.origin);
  const found = layerNamed(state.name);
  if (found?.layer?.dataSources.length) {
    const source = found.layer.dataSources[0];
    if (source.spec.url !== url) source.spec = { ...source.spec, url };
    found.setVisible(true);
    return;
  }
  const whole = viewer.state.toJSON();
  whole.layers = [...(whole.layers ?? []), { ...state, source: { ...state.source, url } }];
  viewer.layerSpecification.restoreState([]); // or the axes would change places
  viewer.state.restoreState(whole);
}

export function removeLayer(name) {
  const found = layerNamed(name);
  if (found) viewer.layerManager.removeManagedLayer(found);
}

export function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

export function section(title, ...children) {
  return element("section", {}, element("h2", { textContent: title }), ...children);
}
