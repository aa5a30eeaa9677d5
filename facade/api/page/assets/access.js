// What is asked of the facade, with the token of the reader where one is needed. It is forgotten with the tab.

const STORED = "threefold-token";

/** An answer that is no success; `status` is that of HTTP. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function hasToken() {
  return Boolean(sessionStorage.getItem(STORED));
}

/** From now on this token is sent; the page begins anew. */
export function signIn(token) {
  sessionStorage.setItem(STORED, token.trim());
  location.reload();
}

/** A good answer; else an error with the sentence of the problem. */
async function ask(url, { headers, ...options } = {}) {
  const token = sessionStorage.getItem(STORED);
  const answer = await fetch(url, { ...options, headers: { ...headers, ...(token && { Authorization: `Bearer ${token}` }) } });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.message || `${answer.status}`);
}

/** The JSON of a good answer. */
export async function jsonOf(url, options) {
  return (await ask(url, options)).json();
}

/** Server-sent events, until their end; the browser's own EventSource cannot send a token. */
export async function follow(url, last, signal, { opened, came }) {
  const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
  const answer = await ask(url, { headers, signal, cache: "no-store" });
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) came(JSON.parse(data.slice(6)));
    }
  }
}
