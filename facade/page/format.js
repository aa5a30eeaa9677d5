// Numbers, times and commands as people read them, and JSON as the facade gives it.

/** The JSON of a good answer; else an error with the sentence of the problem. */
export async function jsonOf(url, options) {
  const answer = await fetch(url, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.message || `${answer.status}`);
  return found;
}

export function number(value) {
  return value.toLocaleString("en");
}

export function milliseconds(value) {
  return value === null ? "none" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at += 1) value /= 1000;
  return `${at ? value.toFixed(1) : value} ${units[at]}`;
}

/** The time of day, as the reader's clock has it. */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** How long ago something was, by the clock of the facade. */
export function ago(time, now) {
  const seconds = Math.max(0, Math.round((Date.parse(now) - Date.parse(time)) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** The command that sends the same message. */
export function curl(origin, text) {
  const body = JSON.stringify({ msg: text }).replaceAll("'", "'\\''");
  return `curl -X POST ${origin}/v1/messages -H 'Content-Type: application/json' -d '${body}'`;
}
