// SPDX-License-Identifier: Apache-2.0
// Draws points and a path on a canvas with a depth buffer. Drag turns, wheel or pinch zooms, shift-drag moves.
for (const root of document.querySelectorAll('.viewer')) {
  const canvas = root.querySelector('canvas'), tip = root.querySelector('.tip'), pen = canvas.getContext('2d');
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const metres = text => {
    const raw = new Uint16Array(bytes(text ?? '').buffer), out = new Float32Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = data.origin[i % 3] + raw[i] * data.step;
    return out;
  };
  const points = metres(data.points), path = metres(data.path), truth = metres(data.truth);
  const colours = data.colours ? bytes(data.colours) : null, worst = Math.max(...(data.errors ?? []).filter(e => e), 1e-6);
  const VIEWS = {top: [0, Math.PI / 2 - 1e-3], side: [0, 0], tilt: [-0.6, 0.55]};
  let [turn, lift] = VIEWS.tilt, zoom = 1, shift = [0, 0], near = [], waiting = false;

  const project = (xyz, i, m) => {
    const x = xyz[i] - data.centre[0], y = xyz[i + 1] - data.centre[1], z = xyz[i + 2] - data.centre[2];
    const depth = m.ahead[0] * x + m.ahead[1] * y + m.ahead[2] * z + m.away;
    if (depth < 0.02 * data.radius) return null;
    const k = m.focal / depth;
    return [m.cx + k * (m.right[0] * x + m.right[1] * y), m.cy - k * (m.up[0] * x + m.up[1] * y + m.up[2] * z), depth];
  };
  const heat = share => share < 0.5
    ? `rgb(${42 + 350 * share},${157 + 70 * share},${143 - 222 * share})`
    : `rgb(${217 - 34 * (share - 0.5)},${192 - 324 * (share - 0.5)},${32 + 84 * (share - 0.5)})`;

  const draw = () => {
    waiting = false;
    const scale = window.devicePixelRatio || 1, w = canvas.clientWidth * scale | 0, h = canvas.clientHeight * scale | 0;
    if (!w || !h) return;
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const [s, c, sl, cl] = [Math.sin(turn), Math.cos(turn), Math.sin(lift), Math.cos(lift)];
    const m = {right: [c, s], ahead: [-s * cl, c * cl, -sl], up: [-s * sl, c * sl, cl], away: 1.9 * data.radius / zoom,
      focal: 1.15 * Math.min(w, h), cx: w / 2 + shift[0] * scale, cy: h / 2 + shift[1] * scale};
    const picture = pen.createImageData(w, h), pixels = new Uint32Array(picture.data.buffer);
    const depths = new Float32Array(w * h).fill(Infinity), size = Math.max(2, Math.round(2.2 * scale));
    for (let i = 0; i < points.length; i += 3) {
      const p = project(points, i, m);
      if (!p) continue;
      const colour = colours ? 0xff000000 | colours[i + 2] << 16 | colours[i + 1] << 8 | colours[i] : 0xff80726b;
      const left = p[0] | 0, top = p[1] | 0;
      for (let y = Math.max(0, top); y < Math.min(h, top + size); y++)
        for (let x = Math.max(0, left); x < Math.min(w, left + size); x++) {
          const at = y * w + x;
          if (p[2] < depths[at]) { depths[at] = p[2]; pixels[at] = colour; }
        }
    }
    pen.putImageData(picture, 0, 0);
    const line = (xyz, width, colour) => {
      pen.lineWidth = width * scale;
      for (let i = 3, a = project(xyz, 0, m); i < xyz.length; i += 3) {
        const b = project(xyz, i, m);
        if (a && b) {
          pen.strokeStyle = colour(i / 3);
          pen.beginPath(); pen.moveTo(a[0], a[1]); pen.lineTo(b[0], b[1]); pen.stroke();
        }
        a = b;
      }
    };
    if (truth.length) line(truth, 3, () => '#9aa4b2aa');
    const error = k => data.errors?.[k];
    line(path, 2, k => error(k) == null ? '#1f6feb' : heat(error(k) / worst));
    near = [];
    for (let i = 0; i < path.length; i += 3) {
      const p = project(path, i, m);
      if (p) near.push([p[0] / scale, p[1] / scale, i / 3]);
    }
  };
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };

  const fingers = new Map();
  canvas.addEventListener('pointerdown', e => { canvas.setPointerCapture(e.pointerId); fingers.set(e.pointerId, e); });
  for (const end of ['pointerup', 'pointercancel'])
    canvas.addEventListener(end, e => fingers.delete(e.pointerId));
  canvas.addEventListener('pointermove', e => {
    const before = fingers.get(e.pointerId);
    if (!before) return hover(e);
    const dx = e.clientX - before.clientX, dy = e.clientY - before.clientY;
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()], other = a.pointerId === e.pointerId ? b : a;
      const apart = f => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY) || 1;
      zoom = Math.min(60, Math.max(0.2, zoom * apart(e) / apart(before)));
      shift = [shift[0] + dx / 2, shift[1] + dy / 2];
    } else if (e.shiftKey || e.buttons === 2) shift = [shift[0] + dx, shift[1] + dy];
    else { turn -= dx / 180; lift = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, lift + dy / 180)); }
    fingers.set(e.pointerId, e);
    later();
  });
  canvas.addEventListener('contextmenu', e => e.preventDefault());
  canvas.addEventListener('wheel', e => {
    e.preventDefault();
    zoom = Math.min(60, Math.max(0.2, zoom * Math.exp(-e.deltaY / 600)));
    later();
  }, {passive: false});
  const hover = e => {
    const box = canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
    let best = null, least = 14;
    for (const p of near) {
      const away = Math.hypot(p[0] - x, p[1] - y);
      if (away < least) { least = away; best = p; }
    }
    tip.style.display = best ? 'block' : 'none';
    if (!best) return;
    const k = best[2], cm = data.errors?.[k], where = [...path.slice(3 * k, 3 * k + 3)].map(v => v.toFixed(2)).join(', ');
    tip.textContent = `${data.times?.[k] ?? k} s: ${where} m${cm == null ? '' : `, error ${(100 * cm).toFixed(1)} cm`}`;
    tip.style.left = `${Math.min(best[0] + 12, box.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(best[1] - 28, 2)}px`;
  };
  canvas.addEventListener('pointerleave', () => { tip.style.display = 'none'; });
  for (const button of root.querySelectorAll('button'))
    button.addEventListener('click', () => { [turn, lift] = VIEWS[button.dataset.view]; zoom = 1; shift = [0, 0]; later(); });
  new ResizeObserver(later).observe(canvas);
}
