/** One node's picker: what the node knows (links, sizes, files, paths) goes to the picker, its values to the node. */

import { PointPicker } from "../view/point_picker.js";
import { handOnToGraph } from "./graph_events.js";
import { inputIndex, isLinked, nodeByExecutionId, sourceNode } from "./graph_walk.js";
import { loadMask, loadPicture, uploadMask } from "./mask_store.js";
import { fileUrl, findPicture } from "./picture_source.js";

/**
 * How often the node's surroundings are looked at, in ms. Looking is what works everywhere: what is upstream changes
 * through links, reroutes, subgraphs, promoted widgets and runs, and no host announces all of these.
 */
const LOOK_EVERY = 300;

export class NodePicker {
  #node;
  #app;
  #api;
  #picker;
  #timer = 0;
  #sight = null;
  #ownPoints = null;
  #storing = null;

  constructor(node, app, api) {
    this.#node = node;
    this.#app = app;
    this.#api = api;
    this.#picker = new PointPicker({
      loadMask: (name) => loadMask(name, api),
      language: app.extensionManager?.setting?.get("Comfy.Locale") || undefined,
    });
    this.#picker.model.subscribe((kind) => kind === "commit" && this.#committed());
    handOnToGraph(this.root, app);
  }

  get root() {
    return this.#picker.root;
  }

  get #texts() {
    return this.#picker.texts;
  }

  get #model() {
    return this.#picker.model;
  }

  /** The points' stored string. While points come in through a link, the picker shows those and keeps its own here. */
  get points() {
    return this.#ownPoints ?? this.#model.text;
  }

  set points(text) {
    if (this.#ownPoints !== null) this.#ownPoints = String(text ?? "");
    else this.#model.load(String(text ?? ""));
  }

  /** The stored name of the mask's file. */
  get mask() {
    return this.#model.maskName;
  }

  set mask(name) {
    this.#model.loadMask(String(name ?? ""));
  }

  /** The mask's name once everything that was painted is in the file. Rejected when it cannot be stored. */
  async storedMask() {
    await this.#storeMask();
    return this.mask;
  }

  connect() {
    this.#picker.connect();
    this.#timer ||= setInterval(() => this.#look(), LOOK_EVERY);
  }

  disconnect() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#picker.disconnect();
  }

  /** Show the tracked path in `text`, when the node that tracked it has its points from here. */
  showPath(executionId, text) {
    const root = this.#rootGraph;
    const tracker = nodeByExecutionId(executionId, root);
    if (!tracker || sourceNode(tracker, inputIndex(tracker, "points"), root) !== this.#node) return;
    const { width, height, path } = JSON.parse(text);
    const paths = path[0].map((_, pair) => path.map((points) => points[pair]));
    this.#picker.setPaths(paths, { width, height });
  }

  /** Take over where this node's run moved the points, `sent` to `moved`, unless they have been changed meanwhile. */
  followPoints(executionId, sent, moved) {
    if (nodeByExecutionId(executionId, this.#rootGraph) !== this.#node) return;
    if (this.#ownPoints !== null || this.#model.isPreviewing || this.#model.text !== sent) return;
    this.#model.replacePoints(moved);
  }

  get #rootGraph() {
    return this.#app.rootGraph ?? this.#app.graph;
  }

  #look() {
    const { graph } = this.#node;
    const root = this.#rootGraph;
    if (!graph || (graph !== root && !root.subgraphs?.has(graph.id))) {
      // A subgraph that is dropped whole does not tell its nodes.
      this.disconnect();
      this.root.remove();
      return;
    }
    if (!this.root.isConnected) this.#takePlace();
    if (!this.root.isConnected) return;
    this.#lookForPicture();
    this.#lookForLinkedPoints();
  }

  /**
   * After its own undo, or on entering a subgraph, the host's Vue renderer may go on showing the element of another
   * node, by now gone or out of sight, that has the same id. What the person would draw there would be lost.
   */
  #takePlace() {
    if (this.#node.graph !== this.#app.canvas.graph) return;
    const id = CSS.escape(String(this.#node.id));
    document.querySelector(`[data-node-id="${id}"] .dragnoise-picker`)?.replaceWith(this.root);
  }

  #lookForPicture() {
    const file = findPicture(this.#node, this.#app);
    const willCome = isLinked(this.#node, "image");
    const blank = (willCome && this.#model.ownSize) || this.#blankSize();
    const blankText = willCome ? this.#texts.pictureNotSeen : this.#texts.noPicture;
    const sight = file ? fileUrl(file, this.#api) : `${blank.width} x ${blank.height}: ${blankText}`;
    if (sight === this.#sight) return;
    this.#sight = sight;
    if (!file) {
      this.#picker.setPicture(null, blank, blankText);
      return;
    }
    loadPicture(sight).then(
      (picture) => {
        if (sight !== this.#sight) return;
        this.#picker.setPicture(picture, { width: picture.naturalWidth, height: picture.naturalHeight });
      },
      () => sight === this.#sight && this.#picker.say(this.#texts.pictureNotShown(file.filename), true),
    );
  }

  #blankSize() {
    const valueOf = (name) => this.#node.widgets?.find((widget) => widget.name === name)?.value;
    const [width, height] = [valueOf("width"), valueOf("height")];
    return width > 0 && height > 0 ? { width, height } : this.#model.stage;
  }

  #lookForLinkedPoints() {
    if (!isLinked(this.#node, "points")) {
      if (this.#ownPoints === null) return;
      this.#model.load(this.#ownPoints);
      this.#ownPoints = null;
      this.#picker.setReadOnly("");
      return;
    }
    this.#ownPoints ??= this.#model.text;
    const source = sourceNode(this.#node, inputIndex(this.#node, "points"), this.#rootGraph);
    const text = source?.widgets?.map((widget) => widget.value).find((value) => typeof value === "string");
    this.#model.load(text ?? "");
    this.#picker.setReadOnly(this.#texts.linkedPoints);
  }

  #committed() {
    this.#captureHostStep();
    if (this.#model.maskIsDirty) this.#storeMask().then(() => this.#captureHostStep(), () => {});
  }

  /** Upload what was painted, and what is painted meanwhile. One upload at a time. */
  #storeMask() {
    this.#storing ??= this.#uploadUntilClean().finally(() => (this.#storing = null));
    return this.#storing;
  }

  async #uploadUntilClean() {
    while (this.#model.maskIsDirty) {
      const painted = this.#model.maskToStore;
      try {
        const blob = await this.#picker.mask.toBlob(painted);
        this.#model.maskStored(painted.mask, blob ? await uploadMask(blob, this.#api) : "");
      } catch (error) {
        this.#picker.say(this.#texts.maskNotStored(error.message), true);
        throw new Error(`DragNoise: the painted mask could not be stored: ${error.message}.`, { cause: error });
      }
    }
  }

  /** Let the host note the change as one step of its own undo; a mouse's release does that by itself, keys do not. */
  #captureHostStep() {
    const tracker = this.#app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    if (tracker?.captureCanvasState) tracker.captureCanvasState();
    else tracker?.checkState?.();
  }
}
