// Charts of the request rate and the latency in the last five minutes.
import { useEffect, useRef, useState } from "preact/hooks";
import { jsonOf } from "/assets/access.js";
import { html } from "/assets/elements.js";
import { clock } from "/assets/format.js";

const KEPT_S = 300;

/** The samples of the last five minutes, the oldest first: the history at first, then each new sample. */
function useSamples(sample) {
  const [samples, setSamples] = useState([]);
  const add = (found) =>
    setSamples((current) => {
      const times = new Set(current.map((one) => one.time));
      const all = [...current, ...found.filter((one) => !times.has(one.time))].sort((a, b) => (a.time < b.time ? -1 : 1));
      return all.slice(-KEPT_S);
    });
  useEffect(() => {
    jsonOf("/v1/history").then((found) => add(found.samples)).catch(() => {});
  }, []);
  useEffect(() => {
    if (sample) add([sample]);
  }, [sample && sample.time]);
  return samples;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A uPlot chart as wide as its container; drawn again when the colour scheme changes. */
function Chart({ title, series, data }) {
  const place = useRef(null);
  const chart = useRef(null);
  useEffect(() => {
    function draw() {
      chart.current?.destroy();
      const axis = { stroke: colour("--text"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
      chart.current = new uPlot(
        {
          width: place.current.clientWidth,
          height: 160,
          legend: { show: false },
          cursor: { show: false },
          scales: { y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] } },
          axes: [{ ...axis, space: 90, values: (_, times) => times.map((seconds) => clock(1000 * seconds)) }, { ...axis, size: 56 }],
          series: [{}, ...series.map(({ label, stroke }) => ({ label, stroke: colour(stroke), width: 2, points: { size: 4 } }))],
        },
        data,
        place.current,
      );
    }
    draw();
    const resized = new ResizeObserver(() => chart.current.setSize({ width: place.current.clientWidth, height: 160 }));
    resized.observe(place.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      scheme.removeEventListener("change", draw);
      chart.current.destroy();
    };
  }, []);
  useEffect(() => chart.current.setData(data), [data]);
  const last = data[0].length - 1;
  const latest = series.map(({ label }, index) => `${label} ${last < 0 ? "unknown" : data[index + 1][last]}`).join(", ");
  return html`<figure>
    <figcaption>${title}: ${series.map(({ label, stroke }, index) => html`<span class=${`key ${stroke.slice(2)}`}>${label} ${last < 0 ? "" : data[index + 1][last]}</span> `)}</figcaption>
    <div ref=${place} role="img" aria-label=${`${title}, now ${latest}`}></div>
  </figure>`;
}

export function Charts({ sample }) {
  const samples = useSamples(sample);
  const times = samples.map((one) => Date.parse(one.time) / 1000);
  const column = (name) => samples.map((one) => one[name]);
  return html`<section class="charts">
    <h2>The last five minutes</h2>
    <${Chart} title="Requests a second" series=${[{ label: "rate", stroke: "--blue" }]} data=${[times, column("requests_per_s")]} />
    <${Chart} title="Latency in ms" series=${[{ label: "p50", stroke: "--blue" }, { label: "p99", stroke: "--orange" }]} data=${[times, column("p50_ms"), column("p99_ms")]} />
  </section>`;
}
