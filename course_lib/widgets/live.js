// The companion's line: how far the drawing is, and a sentence. All words are set as text, never as HTML.

function render({ model, el }) {
  const bar = document.createElement("progress"), count = document.createElement("span"), said = document.createElement("p");
  bar.setAttribute("aria-label", "Steps drawn");
  count.className = "count";
  said.setAttribute("role", "status"); // stays in place and changes its words, or nobody would hear them
  said.setAttribute("aria-live", "polite");
  const row = document.createElement("div");
  row.className = "course-live-far";
  row.append(bar, count);
  el.classList.add("course-live-line");
  el.append(row, said);

  const show = () => {
    const done = model.get("done"), total = model.get("total"), sentence = model.get("sentence");
    if (total) Object.assign(bar, { max: total, value: Math.min(done, total) });
    else bar.removeAttribute("value"); // nobody knows how many
    const text = total ? `step ${done} of ${total}` : `step ${done}`;
    if (count.textContent !== text) count.textContent = text;
    if (said.textContent !== sentence) said.textContent = sentence;
    el.classList.toggle("trouble", model.get("trouble"));
  };
  const names = ["done", "total", "sentence", "trouble"];
  for (const name of names) model.on(`change:${name}`, show);
  show();
  // JupyterLab's own keys stay out: arrows move a slider, not the notebook
  const keep = () => el.closest(".course-live")?.setAttribute("data-lm-suppress-shortcuts", "true");
  const waiting = requestAnimationFrame(keep);
  return () => {
    cancelAnimationFrame(waiting);
    for (const name of names) model.off(`change:${name}`, show);
  };
}

export default { render };
