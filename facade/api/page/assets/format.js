// Numbers, times and commands as people read them.

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

/** The command that sends the same message; a token is for the reader to put in. */
export function curl(origin, text, withToken) {
  const body = JSON.stringify({ msg: text }).replaceAll("'", "'\\''");
  const token = withToken ? ` -H "Authorization: Bearer $FACADE_TOKEN"` : "";
  return `curl -X POST ${origin}/v1/messages${token} -H 'Content-Type: application/json' -d '${body}'`;
}
