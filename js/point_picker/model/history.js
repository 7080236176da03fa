/** Undo and redo over states that are never changed in place. */

const MAX_STEPS = 200;

export class History {
  #past = [];
  #future = [];

  constructor(state) {
    this.state = state;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  push(state) {
    this.#past = [...this.#past, this.state].slice(-MAX_STEPS);
    this.#future = [];
    this.state = state;
  }

  undo() {
    if (!this.canUndo) return;
    this.#future.push(this.state);
    this.state = this.#past.pop();
  }

  redo() {
    if (!this.canRedo) return;
    this.#past.push(this.state);
    this.state = this.#future.pop();
  }
}
