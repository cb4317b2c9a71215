// Requests to this server: each whole in itself. What nobody can answer is an AskError in words.

export class AskError extends Error {
  /** `again` says after how many milliseconds it is worth another try; null for never. */
  constructor(words, again = null) {
    super(words);
    this.again = again;
  }
}

const PATIENCE_MS = 90_000;

export async function ask(what, query = {}, body = undefined) {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [].concat(value).map((one) => [name, one]));
  const url = `page/${what}?${new URLSearchParams(pairs)}`;
  let reply;
  try {
    reply = await fetch(url, {
      method: body === undefined ? "GET" : "POST", body, signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    throw new AskError("The server does not answer. The page goes on by itself when it is back.", 1500);
  }
  let told = null;
  try {
    told = await reply.json();
  } catch {
    throw new AskError(`The server answered in a way that cannot be read (status ${reply.status}).`, 3000);
  }
  if (!reply.ok) {
    const wait = Number(reply.headers.get("retry-after"));
    throw new AskError(told.error || `status ${reply.status}`, reply.status === 503 ? (wait || 2) * 1000 : null);
  }
  return told;
}

/**
 * Return a function that asks for the newest state only: while one request is on its way, however many
 * changes come, one more follows. `asking()` makes the request, null for nothing to ask; `wanted()` says what is
 * asked for beside the picture, and a reply to what was wanted before is thrown away.
 */
export function newest(state, asking, show, fail, wanted = () => null) {
  let busy = false;
  let again = false;
  return async function poke() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    do {
      again = false;
      const { turn, epoch } = state;
      const asked = wanted();
      // what belongs to another picture, model or engine is never shown, nor what was switched off meanwhile
      const counts = () => epoch === state.epoch && asked === wanted();
      try {
        const request = asking();
        if (request !== null) {
          const told = await request;
          if (counts()) show(told, turn);
        }
      } catch (error) {
        if (counts()) fail(error);
      }
    } while (again);
    busy = false;
  };
}
