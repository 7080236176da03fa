/** Listening to what the host tells its nodes. */

/** Run `action`, with the event's arguments, after whatever else listens to the node's event. */
export function onNodeEvent(node, event, action) {
  const others = node[event];
  node[event] = function (...rest) {
    const result = others?.apply(this, rest);
    action(...rest);
    return result;
  };
}
