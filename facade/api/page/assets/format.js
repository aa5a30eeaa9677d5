// Formats numbers, times and commands for display.

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

/** The time of day in the time zone of the user. */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** The time between `time` and `now`, both of the facade's clock. */
export function ago(time, now) {
  const seconds = Math.max(0, Math.round((Date.parse(now) - Date.parse(time)) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** The curl command that sends a message; the user has to set FACADE_TOKEN if a token is needed. */
export function curl(origin, text, withToken) {
  const body = JSON.stringify({ msg: text }).replaceAll("'", "'\\''");
  const token = withToken ? ` -H "Authorization: Bearer $FACADE_TOKEN"` : "";
  return `curl -X POST ${origin}/v1/messages${token} -H 'Content-Type: application/json' -d '${body}'`;
}
