// A picture of the plane that the viewer shows first, where it will show it. The viewer itself takes seconds where the
// processor draws; the picture goes when it has drawn, or when somebody begins to move in it.
if (window.firstLook) {
  const { width, height, isQuarter } = window.firstLook;
  const bars = 48;  // height of what the viewer has above its cross-sections, in pixels
  const image = new Image(width, height);
  image.id = "first-look";
  image.setAttribute("elementtiming", image.id);
  image.onerror = () => image.remove();
  image.src = "first.png";
  const container = document.getElementById("neuroglancer-container");
  const lay = () => {
    const { clientWidth, clientHeight } = container;
    image.style.left = `${clientWidth / (isQuarter ? 4 : 2)}px`;
    image.style.top = `${bars + (clientHeight - bars) / (isQuarter ? 4 : 2)}px`;
    // No further than the cross-section.
    const [across, down] = [clientWidth, clientHeight - bars].map((length) => length / (isQuarter ? 2 : 1));
    image.style.clipPath = `inset(${Math.max(0, (height - down) / 2)}px ${Math.max(0, (width - across) / 2)}px)`;
  };
  lay();
  window.addEventListener("resize", lay);
  document.body.append(image);
  const events = ["pointerdown", "wheel", "keydown"];
  const remove = () => {
    image.remove();
    window.removeEventListener("resize", lay);
    for (const event of events) window.removeEventListener(event, remove, true);
  };
  for (const event of events) window.addEventListener(event, remove, { capture: true, passive: true });
  window.firstLook.remove = remove;
}
