// The paper: strokes by mouse, finger, pen and keyboard; undo takes back a whole stroke.

import { $ } from "./dom.js";

const STEP = 6;

export class Paper {
  /** `changed` hears of each new line, with whether the paper is empty. */
  constructor(changed) {
    this.canvas = $("paper");
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.strokes = [];
    this.stroke = null;
    this.changed = changed;
    this.cursor = null;
    const zone = $("zone");
    zone.addEventListener("pointerdown", (event) => this.begin(event));
    // a stroke that begins outside the paper, anywhere on the page, counts from where it comes in
    document.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => this.end());
    zone.addEventListener("selectstart", (event) => event.preventDefault());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => { this.cursor = null; this.end(); this.draw(); });
    $("undo").addEventListener("click", () => { this.strokes.pop(); this.drawn(); });
    $("clear").addEventListener("click", () => this.clear());
    this.draw();
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  begin(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    event.target.releasePointerCapture?.(event.pointerId);
    this.stroke = { size: Number($("pen").value), points: [this.point(event)] };
    this.strokes.push(this.stroke);
    this.drawn();
  }

  move(event) {
    if ($("draw").hidden || !event.isPrimary || !(event.buttons & 1)) return;
    const [x, y] = this.point(event);
    if (!this.stroke) {
      const inside = x >= 0 && y >= 0 && x <= this.canvas.width && y <= this.canvas.height;
      if (!inside || event.pointerType !== "mouse") return;
      getSelection()?.removeAllRanges();
      this.stroke = { size: Number($("pen").value), points: [] };
      this.strokes.push(this.stroke);
    }
    const steps = event.getCoalescedEvents?.() || [];
    for (const one of steps.length ? steps : [event]) this.stroke.points.push(this.point(one));
    this.drawn();
  }

  end() {
    if (this.stroke && !this.marks(this.stroke)) {
      this.strokes = this.strokes.filter((stroke) => stroke !== this.stroke);
      this.drawn();
    }
    this.stroke = null;
  }

  /** Tell whether a stroke leaves anything on the paper. */
  marks({ size, points }) {
    const near = (value, most) => value > -size / 2 && value < most + size / 2;
    return points.some(([x, y]) => near(x, this.canvas.width) && near(y, this.canvas.height));
  }

  key(event) {
    const move = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) $("undo").click();
    else if (event.key === "Escape") this.end();
    else if (event.key === " ") this.lift();
    else if (move) this.step(move);
    else return;
    event.preventDefault();
  }

  lift() {
    this.cursor ||= [this.canvas.width / 2, this.canvas.height / 2];
    if (this.stroke) {
      this.end();
    } else {
      this.stroke = { size: Number($("pen").value), points: [[...this.cursor]] };
      this.strokes.push(this.stroke);
    }
    this.drawn();
  }

  step([dx, dy]) {
    const [x, y] = this.cursor || [this.canvas.width / 2, this.canvas.height / 2];
    this.cursor = [Math.min(this.canvas.width, Math.max(0, x + dx)), Math.min(this.canvas.height, Math.max(0, y + dy))];
    if (this.stroke) {
      this.stroke.points.push([...this.cursor]);
      this.drawn();
    } else {
      this.draw();
    }
  }

  clear() {
    this.strokes = [];
    this.stroke = null;
    this.drawn();
  }

  drawn() {
    this.draw();
    this.changed(this.isEmpty);
  }

  draw() {
    const { pen, canvas } = this;
    this.ink(pen);
    if (this.cursor && document.activeElement === canvas) {
      pen.strokeStyle = "#0b6e4f";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(this.cursor[0], this.cursor[1], Number($("pen").value) / 2 + 2, 0, 7);
      pen.stroke();
    }
    $("hint").hidden = !this.isEmpty || this.cursor !== null;
    $("undo").disabled = $("clear").disabled = this.isEmpty;
  }

  ink(pen) {
    pen.fillStyle = "#ffffff";
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    pen.strokeStyle = pen.fillStyle = "#000000";
    pen.lineCap = pen.lineJoin = "round";
    for (const { size, points } of this.strokes) {
      pen.lineWidth = size;
      pen.beginPath();
      pen.moveTo(points[0][0], points[0][1]);
      // a lone point is a dot
      for (const [x, y] of points.length > 1 ? points.slice(1) : [[points[0][0] + 0.01, points[0][1]]]) pen.lineTo(x, y);
      pen.stroke();
    }
  }

  /** Return what is drawn as a PNG, without the keyboard's pen; null for blank paper. */
  async picture() {
    if (this.isEmpty) return null;
    const copy = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    this.ink(copy.getContext("2d"));
    return copy.convertToBlob({ type: "image/png" });
  }
}
