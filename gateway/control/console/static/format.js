// Numbers and times as people read them.

export function rate(value) {
  if (!value) return "0";
  if (value < 10) return value.toFixed(1);
  if (value < 10_000) return Math.round(value).toLocaleString("en");
  return `${(value / 1000).toFixed(1)}k`;
}

export function percent(share) {
  if (!share) return "0 %";
  const value = share * 100;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/** Seconds as a latency. */
export function latency(seconds) {
  if (seconds === undefined || seconds === null) return "–";
  const ms = seconds * 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

/** Seconds as a duration in its two largest units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const units = [["d", Math.floor(whole / 86_400)], ["h", Math.floor(whole / 3600) % 24], ["m", Math.floor(whole / 60) % 60], ["s", whole % 60]];
  const first = units.findIndex(([, number]) => number);
  if (first < 0) return "0s";
  return units.slice(first, first + 2).filter(([, number]) => number).map(([unit, number]) => `${number}${unit}`).join(" ");
}

export function bytes(number) {
  return number === undefined ? "–" : `${Math.round(number / 2 ** 20)} MiB`;
}

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The local time of day of an instant in RFC 3339. */
export function clock(instant) {
  return TIME.format(new Date(instant));
}

export function until(instant, now) {
  return duration((Date.parse(instant) - now) / 1000);
}

export function ago(instant, now) {
  return `${duration((now - Date.parse(instant)) / 1000)} ago`;
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}
