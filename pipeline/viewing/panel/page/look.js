// A picture of the plane that the viewer shows first, where it will show it. The viewer itself takes seconds where the
// processor draws; the picture goes when it has drawn, or when somebody begins to move in it.
if (window.firstLook) {
  const { width, height, isQuarter } = window.firstLook;
  const bars = 48;  // height of what the viewer has above its cross-sections, in pixels
  const container = document.getElementById("neuroglancer-container");
  const image = new Image(width, height);
  const lay = () => {
    const share = isQuarter ? 2 : 1;
    const [across, down] = [container.clientWidth / share, (container.clientHeight - bars) / share];
    image.style.left = `${across / 2}px`;
    image.style.top = `${bars + down / 2}px`;
    // No further than the cross-section.
    image.style.clipPath = `inset(${Math.max(0, (height - down) / 2)}px ${Math.max(0, (width - across) / 2)}px)`;
  };
  const moves = ["pointerdown", "wheel", "keydown"];
  const remove = () => {
    image.remove();
    window.removeEventListener("resize", lay);
    for (const move of moves) window.removeEventListener(move, remove, true);
  };
  window.firstLook.remove = remove;
  window.addEventListener("resize", lay);
  for (const move of moves) window.addEventListener(move, remove, { capture: true, passive: true });
  image.onerror = remove;  // there is none
  image.id = "first-look";
  image.setAttribute("elementtiming", image.id);
  image.src = "first.png";
  lay();
  document.body.append(image);
}
