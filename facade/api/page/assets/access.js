// Requests to the facade, with the token of the user if there is one. The token is kept until the tab is closed.

const TOKEN_KEY = "threefold-token"; // in the session storage
const FINAL = [400, 401, 403]; // HTTP statuses

/** An error response; `status` is the HTTP status. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** True if a retry is useless: the request is invalid, or the token is missing or not accepted. */
export function isFinal(error) {
  return FINAL.includes(error.status);
}

export function hasToken() {
  return Boolean(sessionStorage.getItem(TOKEN_KEY));
}

/** Keep a token for all further requests, and reload the page. */
export function signIn(token) {
  sessionStorage.setItem(TOKEN_KEY, token.trim());
  location.reload();
}

/** Send a request and return its successful response; throws Refused with the message of the problem document. */
async function ask(url, { headers, ...options } = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const answer = await fetch(url, { ...options, headers: { ...headers, ...(token && { Authorization: `Bearer ${token}` }) } });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.message || `${answer.status}`);
}

/** The JSON value of a successful response. */
export async function jsonOf(url, options) {
  return (await ask(url, options)).json();
}

/** Read server-sent events until the stream ends; the browser's EventSource cannot send a token. */
export async function follow(url, last, signal, { onOpen, onId, onMessage }) {
  const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
  const answer = await ask(url, { headers, signal, cache: "no-store" });
  onOpen();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const id = event.split("\n").find((line) => line.startsWith("id: ")); // none with a message of an old time
      if (id) onId(id.slice(4));
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) onMessage(JSON.parse(data.slice(6)));
    }
  }
}
