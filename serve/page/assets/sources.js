// Where pictures come from beside the paper: files, drops, the clipboard, the camera. Refusals are in words.

import { $, say } from "./dom.js";

const CAMERA_REFUSED = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it beside the address, then start again.",
  NotFoundError: "There is no camera here.",
  NotReadableError: "Another program holds the camera. Close it, then start again.",
  OverconstrainedError: "The camera here gives no picture that can be used.",
};
const CAMERA_INSECURE = "Browsers lend a camera only to pages on https or on localhost, and this one is neither.";
const PASTE_INSECURE = "Here the browser lets no button read the clipboard; Ctrl+V (on a Mac ⌘V) pastes a picture.";
const PASTE_REFUSED = "The browser was not allowed to read the clipboard; Ctrl+V (on a Mac ⌘V) pastes a picture.";
const FRAME_MOST = 640;

/** Wire uploads, drops and the clipboard; `take(blob, name)` gets each picture, or `several(files)` many. */
export function wireFiles(take, several) {
  const why = (text) => say("source-why", text);
  $("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) take(file, file.name);
  });
  dropping($("drop"), (files) => take(files[0], files[0].name), why);
  $("many").addEventListener("change", (event) => {
    several([...event.target.files]);
    event.target.value = "";
  });
  dropping($("many-drop"), several, (text) => say("many-note", text));
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])].filter(isPicture);
    if (!files.length) return;
    event.preventDefault();
    if ($("files").hidden) take(files[0], "the clipboard");
    else several(files);
  });
  $("paste").addEventListener("click", async () => {
    why("");
    if (!navigator.clipboard?.read) return why(PASTE_INSECURE);
    let items;
    try {
      items = await navigator.clipboard.read();
    } catch {
      return why(PASTE_REFUSED);
    }
    for (const item of items) {
      const type = item.types.find((one) => one.startsWith("image/"));
      if (type) return take(await item.getType(type), "the clipboard");
    }
    return why("There is no picture in the clipboard.");
  });
}

const isPicture = (file) => file.type.startsWith("image/") || /\.(tiff?|ppm|pgm|bmp)$/i.test(file.name);

function dropping(zone, take, why) {
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("ck-over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("ck-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("ck-over");
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else why("What was dropped is no file; save the picture first, or copy and paste it.");
  });
}

/** The camera: each frame is a picture as it is, not mirrored, until one is kept. */
export class Camera {
  constructor(take) {
    this.take = take;
    this.stream = null;
    this.turn = 0;
    this.video = $("video");
    $("start").addEventListener("click", () => (this.stream ? this.stop() : this.start()));
    $("freeze").addEventListener("click", () => this.freeze());
    document.addEventListener("visibilitychange", () => document.hidden && this.stop());
  }

  async start() {
    say("source-why", "");
    if (!navigator.mediaDevices?.getUserMedia) return say("source-why", CAMERA_INSECURE);
    $("start").disabled = true;
    const turn = ++this.turn;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      // stopped while the browser asked whether it may
      if (turn !== this.turn) return stream.getTracks().forEach((track) => track.stop());
      this.stream = stream;
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      this.stop();
      return say("source-why", CAMERA_REFUSED[error.name] || `The camera cannot be used: ${error.message}`);
    } finally {
      $("start").disabled = false;
    }
    $("start").textContent = "Stop the camera";
    $("freeze").disabled = false;
    return this.follow();
  }

  /** Hand over frames for as long as the camera runs; the next one when the last was answered. */
  async follow() {
    const { stream } = this;
    while (this.stream === stream && stream) {
      const blob = await this.frame();
      if (this.stream !== stream) return;
      if (blob) await this.take(blob, "the camera", true);
      await new Promise((resolve) => setTimeout(resolve, 60));
    }
  }

  async frame() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return null;
    const scale = Math.min(1, FRAME_MOST / Math.max(width, height));
    const copy = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
    copy.getContext("2d").drawImage(this.video, 0, 0, copy.width, copy.height);
    return copy.convertToBlob({ type: "image/png" });
  }

  async freeze() {
    const { turn } = this;
    const blob = await this.frame();
    if (turn !== this.turn) return;
    this.video.pause();
    this.release();
    if (blob) await this.take(blob, "the camera", false);
  }

  stop() {
    this.turn++;
    this.release();
    this.video.srcObject = null;
  }

  release() {
    for (const track of this.stream?.getTracks() || []) track.stop();
    this.stream = null;
    $("start").textContent = "Start the camera";
    $("freeze").disabled = true;
  }
}
